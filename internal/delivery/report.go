package delivery

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

const textSize = 2 << 10 // bytes

// Report is a chunk with the facts that it was made from. Between its first call and
// its answer only ages, weights of attempts, operations and floors change. Its lane
// reuses its memory.
type Report[T any] struct {
	exchange.Chunk
	Cargo    []T // one a record
	spans    []Span
	floors   []mono.Time // least TATs, sent if the partition has lost state; 0: none
	attempts []int64     // thousandths of attempts, when they were new
	made     mono.Time   // instant at which it was begun
	text     strings.Builder

	refused bool // true if it was refused because it had no floors
}

// Span is the time of a charge.
type Span struct {
	Begin mono.Time // instant at which the charge begins
	Late  mono.Time // instant from which the report is late, and becomes an [exchange.Late]
	Empty mono.Time // instant from which the charge empties the bucket at most: its ceiling is Full
	Full  int64     // largest TAT − now after such a charge, microseconds
	Owed  int64     // part of a late charge that takes nothing unused, microseconds
	Known mono.Time // TAT of the key in its last reply; 0: none
}

// Full reports whether there is no room for another record.
func (r *Report[T]) Full() bool { return len(r.Records) == exchange.MaxRecords }

// Text returns b as a string. Because many strings of a report share one allocation,
// a kept one keeps all of them.
func (r *Report[T]) Text(b []byte) string {
	if r.text.Cap()-r.text.Len() < len(b) {
		r.text = strings.Builder{}
		r.text.Grow(textSize)
	}
	begin := r.text.Len()
	r.text.Write(b)
	return r.text.String()[begin:]
}

// Append adds a record with the span of its charge.
func (r *Report[T]) Append(rec exchange.Record, span Span, cargo T) {
	r.Records = append(r.Records, rec)
	r.Cargo = append(r.Cargo, cargo)
	r.spans = append(r.spans, span)
	r.floors = append(r.floors, 0)
	r.attempts = append(r.attempts, rec.Attempts)
}

// Floor sets the floor of record i: the least TAT of its key, an instant of the
// process's clock.
func (r *Report[T]) Floor(i int, tat mono.Time) {
	r.Floors = true
	r.floors[i] = tat
}

// begun reports whether the report has usage from before an instant.
func (r *Report[T]) begun(before mono.Time) bool {
	return slices.ContainsFunc(r.spans, func(s Span) bool { return s.Begin <= before })
}

// floorKnown sets the TATs of the last replies as floors, for usage from before an instant
// at which the partition had expired. It would begin with a full bucket otherwise. Because
// the partition may live on, only TATs that had passed count: others would undo refunds.
func (r *Report[T]) floorKnown(expired mono.Time) {
	r.Floors = true
	for i, s := range r.spans {
		if r.floors[i] == 0 && max(s.Begin, s.Known) <= expired {
			r.floors[i] = s.Known
		}
	}
}

// prepare brings a report up to the instant at which it is sent. Charges and floors
// keep their instants, and late attempts count for less.
func (r *Report[T]) prepare(now mono.Time) {
	late := now.Sub(r.made)
	weight := math.Exp(-late.Seconds() / r.Tau.Seconds())
	for i := range r.Records {
		rec := &r.Records[i]
		if r.floors[i] != 0 {
			rec.Floor = r.floors[i].Sub(now).Microseconds()
		}
		rec.Age = max(0, now.Sub(r.spans[i].Begin).Microseconds())
		switch {
		case !rec.Op.Charges():
		case now >= r.spans[i].Empty:
			rec.Op, rec.Ceiling = exchange.Charge, r.spans[i].Full
		case now >= r.spans[i].Late:
			rec.Op, rec.Ceiling = exchange.Late, r.spans[i].Owed
		}
		if late > 0 {
			rec.Attempts = int64(float64(r.attempts[i]) * weight)
		}
	}
}

// lane carries reports to one partition, one at a time, under sequence numbers that
// Redis applies once.
type lane[T any] struct {
	partition int
	id        exchange.ID
	seq       int64
	report    *Report[T] // nil: free
	spare     *Report[T] // the last one; nil: none
	calling   bool       // true while the report is under way
	okAt      mono.Time  // instant of the last answer
}

// rename restarts the lane's numbers under an ID that no other lane has.
func (l *lane[T]) rename() {
	l.id[8] += maxLanes
	l.seq = 1
	l.report.ID, l.report.Seq = l.id, l.seq
}

// open begins a report in a free lane.
func (l *lane[T]) open(tau time.Duration, now mono.Time) *Report[T] {
	l.seq++
	r := l.spare
	if r == nil {
		r = new(Report[T])
	}
	clear(r.Records)
	clear(r.Cargo)
	*r = Report[T]{
		made: now, Cargo: r.Cargo[:0], spans: r.spans[:0], floors: r.floors[:0], attempts: r.attempts[:0],
		Chunk: r.Chunk.Renewed(),
	}
	r.Partition, r.ID, r.Seq, r.Tau = l.partition, l.id, l.seq, tau
	l.report, l.spare = r, nil
	return r
}

// close ends the lane's report.
func (l *lane[T]) close() { l.report, l.spare = nil, l.report }
