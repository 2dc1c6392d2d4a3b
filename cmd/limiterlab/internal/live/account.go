package live

import (
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/model"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
)

// Tally counts tokens: those requested, and those that each way of limiting
// admitted. All ways saw the very same calls of Allow. In place of waiting
// workers the other ways saw as many workers that call Allow (traffic.Tries).
type Tally struct {
	Asked    int `json:"asked"`
	Admitted int `json:"admitted"` // by the fleet
	Open     int `json:"open"`     // by failing open
	Closed   int `json:"closed"`   // by failing closed
	Private  int `json:"private"`  // by private buckets in an outage

	Waiting float64 `json:"waiting"` // seconds that callers of the fleet waited, summed
}

// slice is a part of the run: one second, or less where an outage begins or
// ends within it. A slice lies as a whole in an outage or outside, so that the
// rates on both sides of the edge are not mixed.
type slice struct {
	trace.Span
	Tally
	asked, admitted map[int32]int // by process
}

// spell is an outage.
type spell struct {
	trace.Span
	Tally
}

// account counts requests in the order of their calls. They may arrive in any
// order; advance states the instant before which they are complete.
type account struct {
	open, closed, private model.Policy

	pending []trace.Request
	levels  []trace.Level // not counted yet
	through time.Duration // all before it is counted
	first   int           // number of the oldest slice
	slices  []slice       // in order, without gaps; the last holds through
	outages []spell       // in order; the last may go on
}

func newAccount(l limiter.Limit) *account {
	a := &account{open: model.FailOpen(l), closed: model.FailClosed(l), private: model.Private(l)}
	a.slices = []slice{a.newSlice(0)}
	return a
}

// newSlice returns the slice that begins at an instant. It ends with the second,
// or at the edge of an outage before that.
func (a *account) newSlice(from time.Duration) slice {
	to := (from/time.Second + 1) * time.Second
	for _, o := range a.outages {
		for _, edge := range []time.Duration{o.From, o.To} {
			if from < edge && edge < to {
				to = edge
			}
		}
	}
	return slice{Span: trace.Span{From: from, To: to}, asked: map[int32]int{}, admitted: map[int32]int{}}
}

// outage records that Redis is away from an instant on, or back. The instant
// must not lie before a.through.
func (a *account) outage(at time.Duration, begins bool) {
	if begins {
		a.outages = append(a.outages, spell{Span: trace.Span{From: at, To: forever}})
	} else {
		a.outages[len(a.outages)-1].To = at
	}
	if last := &a.slices[len(a.slices)-1]; last.From < at && at < last.To {
		last.To = at
	}
}

// add takes requests. A request from a time already counted is counted as if it
// were called now.
func (a *account) add(requests []trace.Request) {
	for _, q := range requests {
		q.At = max(q.At, a.through)
		a.pending = append(a.pending, q)
	}
}

// wait takes a level of callers that wait. The part of it from a time already
// counted is lost.
func (a *account) wait(l trace.Level) {
	l.From = max(l.From, a.through)
	if l.Callers > 0 && l.Length() > 0 {
		a.levels = append(a.levels, l)
	}
}

// advance counts the calls before an instant.
func (a *account) advance(through time.Duration) {
	if through <= a.through {
		return
	}
	trace.Sort(a.pending)
	n := 0
	for n < len(a.pending) && a.pending[n].At < through {
		a.count(a.pending[n])
		n++
	}
	a.pending = append([]trace.Request(nil), a.pending[n:]...)
	a.countLevels(through)
	a.through = through
	a.slice(through)
	a.forget()
}

func (a *account) count(q trace.Request) {
	s, away := a.slice(q.At), a.away(q.At)
	t := a.tally(q, away != nil)
	s.add(t)
	if away != nil {
		away.add(t)
	}
	s.asked[q.Process] += t.Asked
	s.admitted[q.Process] += t.Admitted
}

// countLevels counts waits before an instant, and keeps the rest of each level.
func (a *account) countLevels(through time.Duration) {
	var rest []trace.Level
	for _, l := range a.levels {
		for at := l.From; at < min(l.To, through); {
			next := min(a.slice(at).To, l.To, through)
			a.countWait(trace.Level{Span: trace.Span{From: at, To: next}, Callers: l.Callers})
			at = next
		}
		if l.From = max(l.From, through); l.Length() > 0 {
			rest = append(rest, l)
		}
	}
	a.levels = rest
}

// countWait counts a level that lies in one slice.
func (a *account) countWait(l trace.Level) {
	a.slice(l.From).Waiting += float64(l.Callers) * l.Length().Seconds()
	for i := range a.outages {
		a.outages[i].Waiting += float64(l.Callers) * l.Overlap(a.outages[i].Span).Seconds()
	}
}

// tally asks every policy about one request, unless the request is for the fleet
// alone.
func (a *account) tally(q trace.Request, away bool) Tally {
	taken := func(admitted bool) int {
		if admitted {
			return int(q.Cost)
		}
		return 0
	}
	t := Tally{Admitted: taken(q.Admitted)}
	if q.Kind != trace.Grant {
		t.Asked = int(q.Cost)
		t.Open = taken(a.open(q, away))
		t.Closed = taken(a.closed(q, away))
		t.Private = taken(a.private(q, away))
	}
	return t
}

func (t *Tally) add(o Tally) {
	t.Asked += o.Asked
	t.Admitted += o.Admitted
	t.Open += o.Open
	t.Closed += o.Closed
	t.Private += o.Private
}

// slice returns the slice that holds an instant, which must not be forgotten.
func (a *account) slice(at time.Duration) *slice {
	for at >= a.slices[len(a.slices)-1].To {
		a.slices = append(a.slices, a.newSlice(a.slices[len(a.slices)-1].To))
	}
	i := len(a.slices) - 1
	for at < a.slices[i].From {
		i--
	}
	return &a.slices[i]
}

// away returns the outage that holds an instant, nil if there is none.
func (a *account) away(at time.Duration) *spell {
	for i := range a.outages {
		if o := &a.outages[i]; o.From <= at && at < o.To {
			return o
		}
	}
	return nil
}

// forget drops slices and outages older than the history.
func (a *account) forget() {
	oldest := a.through - history
	drop := 0
	for a.slices[drop].To <= oldest {
		drop++
	}
	if drop > 0 {
		a.slices = append([]slice(nil), a.slices[drop:]...)
		a.first += drop
	}
	for len(a.outages) > 0 && a.outages[0].To < oldest {
		a.outages = a.outages[1:]
	}
}

// complete returns the slices, from a number on, to which nothing can be added,
// and the number of the first.
func (a *account) complete(from int) (first int, done []slice) {
	whole := a.slices[:len(a.slices)-1]
	first = min(max(from, a.first), a.first+len(whole))
	return first, whole[first-a.first:]
}
