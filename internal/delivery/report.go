package delivery

import (
	"math"
	"strings"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

const textSize = 2 << 10 // bytes

// Report is a chunk with what it was made of. Once it is under way it stays as
// it is until Redis has answered, but for age, weight and floors. Its lane uses
// its memory again.
type Report[T any] struct {
	exchange.Chunk
	Cargo    []T // one a record
	spans    []Span
	floors   []int64 // least TATs to tell where the partition has lost state; 0: none
	attempts []int64 // thousandths of attempts, when they were new
	made     int64
	text     strings.Builder

	refused bool
}

// Span is the time of a charge: instants.
type Span struct {
	Begin int64 // the charge begins
	Late  int64 // from here on the report is late: exchange.Late
	Empty int64 // from here on the charge empties the bucket at most: Full is its ceiling
	Full  int64 // microseconds
	Owed  int64 // of the charge, in microseconds: what takes nothing that was left unused, as callers know of it
}

// Full reports whether no record fits any more.
func (r *Report[T]) Full() bool { return len(r.Records) == exchange.MaxRecords }

// Text returns a text that lasts as long as the report is in use, and longer if it has to:
// with its neighbours' it takes one allocation in many.
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

// Floor has a record tell the least TAT, an instant of the process's clock,
// that its key has had.
func (r *Report[T]) Floor(i int, tat int64) {
	r.Floors = true
	r.floors[i] = tat
}

// prepare brings a report up to the instant at which it is sent: charges and
// floors keep their instants, attempts that come late count for less.
func (r *Report[T]) prepare(now int64) {
	late := time.Duration(now - r.made)
	weight := math.Exp(-late.Seconds() / r.Tau.Seconds())
	for i := range r.Records {
		rec := &r.Records[i]
		if r.floors[i] != 0 {
			rec.Floor = (r.floors[i] - now) / int64(time.Microsecond)
		}
		rec.Age = max(0, (now-r.spans[i].Begin)/int64(time.Microsecond))
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

// lane carries the reports of one partition one at a time, under numbers that
// Redis applies once.
type lane[T any] struct {
	partition int
	id        exchange.ID
	seq       int64
	report    *Report[T] // nil: free
	spare     *Report[T] // the last one; nil: none
	calling   bool
	okAt      int64 // last answer
}

// rename begins the lane's numbers anew, under a name that no other lane has.
func (l *lane[T]) rename() {
	l.id[8] += maxLanes
	l.seq = 1
	l.report.ID, l.report.Seq = l.id, l.seq
}

// open begins a report in a free lane.
func (l *lane[T]) open(tau time.Duration, now int64) *Report[T] {
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
