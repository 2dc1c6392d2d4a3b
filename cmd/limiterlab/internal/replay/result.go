package replay

import (
	"time"

	"github.com/seed-e56e777b/limiter"
)

// Result is what a limit would have done to a log.
type Result struct {
	Limit        limiter.Limit
	From, To     time.Time // of the first and the last request, in the log's time zone
	WholeSeconds bool      // all times of the log are
	Requests     int
	Denied       int
	Keys         int // those forgotten and met again counted anew
	DeniedKeys   int // likewise
	Top          []DeniedKey
	Over         Series // in as many bins as there may be
	Coarse       Series // in as many as fit a table

	Back     int           // lines that were earlier than one before them
	FarBack  time.Duration // the most that one was
	MaxKeys  int
	Lost     Losses // of the buckets' table
	LostKeys int    // forgotten of the keys that were denied

	Fleet      *Fleet
	Outage     *Outage
	Suggestion *Suggestion
}

// Allowed is how many requests were not denied.
func (r *Result) Allowed() int { return r.Requests - r.Denied }

// DeniedKey is a key that was denied.
type DeniedKey struct {
	Name        string
	Denied      int
	First, Last time.Time // denial
}

// Series is what was asked and denied over time.
type Series struct {
	Width time.Duration // of a bin
	Bins  []Bin
}

// Bin is a stretch of time.
type Bin struct {
	From          time.Time
	Asked, Denied int
}

// Losses are what a table of bounded size forgot to make room.
type Losses struct {
	Forgotten int // keys
	Early     int // of them, those whose bucket was not full yet: when they come again it is
}

func (l *Losses) add(m Losses) {
	l.Forgotten += m.Forgotten
	l.Early += m.Early
}

func (l losses) public() Losses { return Losses{l.forgotten, l.early} }

// Fleet is what processes that share nothing would have admitted.
type Fleet struct {
	Processes int
	ByKey     bool
	Burst     int // of the part that each process has of the limit
	Outcomes  []Outcome
	Lost      Losses
}

// Outcome is what a policy admitted.
type Outcome struct {
	Name    string
	Allowed int
}

// Outage is what policies admitted before, in and after a spell without Redis.
type Outage struct {
	Spell     Spell
	From, To  time.Time
	Processes int
	Policies  []Policy
	Window    time.Time     // begin of the first bin
	Width     time.Duration // of a bin
	Lost      Losses
}

// Policy is what one policy made of an outage.
type Policy struct {
	Name     string
	PerPhase [3]int // admitted before, in and after the outage
	PerBin   []int
}

// Total is what the policy admitted in all.
func (p Policy) Total() int { return p.PerPhase[0] + p.PerPhase[1] + p.PerPhase[2] }

// Result returns what was computed, with as many of the keys that were denied
// most as are to be shown; most is what part of the requests a suggestion may
// deny.
func (r *Replay) Result(top int, most float64) Result {
	c := r.central
	res := Result{
		Limit: r.Limit, WholeSeconds: r.whole, MaxKeys: r.MaxKeys,
		Requests: c.requests, Denied: c.denied, Keys: c.met, DeniedKeys: c.denials.len() + c.denials.forgotten,
		Back: r.order.back, FarBack: r.order.farBack, Lost: c.lost.public(), LostKeys: c.denials.forgotten,
	}
	if c.requests == 0 {
		return res
	}
	res.From, res.To = r.time(0), r.time(float64(r.order.latest-r.order.first))
	for _, k := range c.denials.top(top) {
		res.Top = append(res.Top, DeniedKey{k.name, k.count, r.time(k.first), r.time(k.last)})
	}
	res.Over, res.Coarse = r.series(maxBins), r.series(coarseBins)
	res.Fleet, res.Outage = r.fleetResult(), r.outageResult()
	if r.family != nil {
		res.Suggestion = r.family.suggestion(r.Limit, most)
	}
	return res
}

// time is the time of an instant in the log's time zone.
func (r *Replay) time(now float64) time.Time {
	return time.Unix(0, r.order.first+int64(now)).In(r.zone)
}

const coarseBins = 25

func (r *Replay) series(most int) Series {
	t := r.central.over.atMost(most)
	s := Series{Width: time.Duration(t.width())}
	for i, b := range t.bins {
		nanos := (t.first+int64(i))*t.width() - r.east
		s.Bins = append(s.Bins, Bin{time.Unix(0, nanos).In(r.zone), b.asked, b.denied})
	}
	return s
}

func (r *Replay) fleetResult() *Fleet {
	f := r.fleet
	if f == nil {
		return nil
	}
	return &Fleet{
		Processes: f.n, ByKey: r.ByKey, Burst: int(burstOf(r.Limit, f.n)), Lost: f.lost.public(),
		Outcomes: []Outcome{
			{"asked for", r.central.requests},
			{"one central bucket", r.central.requests - r.central.denied},
			{"this limiter, never reaching Redis", f.allowed.share},
			{"private full limit", f.allowed.private},
			{"private limit/N", f.allowed.part},
		},
	}
}

// policyNames are in the order of admitted.
var policyNames = [policies]string{"asked for", "one central bucket", "this limiter", "fail open", "fail closed", "private full limit"}

func (r *Replay) outageResult() *Outage {
	o := r.outage
	if o == nil {
		return nil
	}
	res := &Outage{
		Spell: *r.Config.Outage, From: r.time(o.from), To: r.time(o.to), Processes: r.Processes,
		Window: r.time(o.window.from), Width: time.Duration(o.window.width), Lost: o.lost.public(),
	}
	for p, name := range policyNames {
		policy := Policy{Name: name}
		for i, phase := range o.phases {
			policy.PerPhase[i] = phase[p]
		}
		for _, b := range o.reported {
			policy.PerBin = append(policy.PerBin, b[p])
		}
		res.Policies = append(res.Policies, policy)
	}
	return res
}
