package live

import (
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/model"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
)

// Tally is a demand, and the part of it that each way of limiting admitted, in
// tokens. All ways were fed the very same calls of Allow. In place of waiting
// workers the other ways were fed as many that call Allow (traffic.Tries).
type Tally struct {
	Asked    int `json:"asked"`
	Admitted int `json:"admitted"` // by the fleet
	Open     int `json:"open"`     // by failing open
	Closed   int `json:"closed"`   // by failing closed
	Private  int `json:"private"`  // by private buckets in an outage

	Waiting float64 `json:"waiting"` // seconds that callers of the fleet waited, in all
}

// second is one second of the run.
type second struct {
	Tally
	asked, admitted map[int32]int // by process
}

// spell is an outage.
type spell struct {
	trace.Span
	Tally
}

// account counts requests in the order of their calls. It is given them in any
// order, and is told up to when they are complete.
type account struct {
	open, closed, private model.Policy

	pending []trace.Request
	levels  []trace.Level // those that are not counted yet
	through time.Duration // what lies before is counted
	first   int           // the number of the oldest second
	seconds []second      // the last is not complete
	outages []spell       // in order; the last may go on
}

func newAccount(l limiter.Limit) *account {
	return &account{open: model.FailOpen(l), closed: model.FailClosed(l), private: model.Private(l)}
}

// outage says that Redis is away from an instant on, or back.
func (a *account) outage(at time.Duration, begins bool) {
	if begins {
		a.outages = append(a.outages, spell{Span: trace.Span{From: at, To: forever}})
		return
	}
	a.outages[len(a.outages)-1].To = at
}

// add takes requests. Those whose time has been counted are as if called now.
func (a *account) add(requests []trace.Request) {
	for _, q := range requests {
		q.At = max(q.At, a.through)
		a.pending = append(a.pending, q)
	}
}

// wait takes a level of callers that wait. The part of it whose time has been
// counted is lost.
func (a *account) wait(l trace.Level) {
	l.From = max(l.From, a.through)
	if l.Callers > 0 && l.Length() > 0 {
		a.levels = append(a.levels, l)
	}
}

// advance counts what was called before an instant.
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
	a.second(through)
	a.forget()
}

func (a *account) count(q trace.Request) {
	s, away := a.second(q.At), a.away(q.At)
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
			next := min((at/time.Second+1)*time.Second, l.To, through)
			a.countWait(trace.Level{Span: trace.Span{From: at, To: next}, Callers: l.Callers})
			at = next
		}
		if l.From = max(l.From, through); l.Length() > 0 {
			rest = append(rest, l)
		}
	}
	a.levels = rest
}

// countWait counts a level that lies in one second.
func (a *account) countWait(l trace.Level) {
	a.second(l.From).Waiting += float64(l.Callers) * l.Length().Seconds()
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

// second is the one that holds an instant, which must not be forgotten.
func (a *account) second(at time.Duration) *second {
	i := int(at/time.Second) - a.first
	for len(a.seconds) <= i {
		a.seconds = append(a.seconds, second{asked: map[int32]int{}, admitted: map[int32]int{}})
	}
	return &a.seconds[i]
}

// away is the outage that holds an instant; nil: there is none.
func (a *account) away(at time.Duration) *spell {
	for i := range a.outages {
		if o := &a.outages[i]; o.From <= at && at < o.To {
			return o
		}
	}
	return nil
}

// forget forgets what is older than the history.
func (a *account) forget() {
	oldest := a.through - history
	if drop := int(oldest/time.Second) - a.first; drop > 0 {
		a.seconds = append([]second(nil), a.seconds[drop:]...)
		a.first += drop
	}
	for len(a.outages) > 0 && a.outages[0].To < oldest {
		a.outages = a.outages[1:]
	}
}

// complete are the seconds, from a number on, to which nothing can be added,
// and the number of the first.
func (a *account) complete(from int) (first int, done []second) {
	whole := a.seconds[:max(0, len(a.seconds)-1)]
	first = min(max(from, a.first), a.first+len(whole))
	return first, whole[first-a.first:]
}
