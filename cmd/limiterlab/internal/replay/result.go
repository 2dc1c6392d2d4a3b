package replay

import (
	"time"

	"github.com/seed-e56e777b/limiter"
)

// Result is the effect that a limit would have had on a log.
type Result struct {
	Limit        limiter.Limit
	From, To     time.Time // times of the first and the last request, in the log's time zone
	WholeSeconds bool      // true if all times of the log are whole seconds
	Requests     int
	Denied       int
	Keys         int         // keys; one that returns after eviction counts again
	DeniedKeys   int         // keys with denials; one that returns after eviction counts again
	Top          []DeniedKey // keys with the most denials
	Over         Series      // requests over time in as many bins as a chart has
	Coarse       Series      // requests over time in as many bins as a table has

	Back     int           // lines earlier than one before them
	FarBack  time.Duration // largest distance from such a line to the latest before it
	MaxKeys  int           // largest number of entries in each table
	Lost     Losses        // evictions of buckets
	LostKeys int           // evicted keys with denials

	Fleet      *Fleet
	Outage     *Outage
	Suggestion *Suggestion
}

// Allowed returns the number of requests that were not denied.
func (r *Result) Allowed() int { return r.Requests - r.Denied }

// DeniedKey is a key with at least one denial.
type DeniedKey struct {
	Name        string
	Denied      int
	First, Last time.Time // times of the first and the last denial
}

// Series counts requests and denials over time.
type Series struct {
	Width time.Duration // width of a bin
	Bins  []Bin
}

// Bin counts the requests and denials in a stretch of time.
type Bin struct {
	From          time.Time // beginning of the stretch
	Asked, Denied int       // requests
}

// Losses counts the entries that a table of bounded size has evicted.
type Losses struct {
	Forgotten int // evicted entries
	Early     int // evicted entries whose bucket was not full; it is full when the key returns
}

func (l *Losses) add(m Losses) {
	l.Forgotten += m.Forgotten
	l.Early += m.Early
}

func (l losses) public() Losses { return Losses{l.forgotten, l.early} }

// Fleet holds the requests that processes without common state would have
// admitted.
type Fleet struct {
	Processes int
	ByKey     bool // true if all requests of a key reach the same process
	Burst     int  // tokens, the burst of a process under limit/N
	Outcomes  []Outcome
	Lost      Losses
}

// Outcome is the number of requests that one policy admitted.
type Outcome struct {
	Name    string
	Allowed int // requests
}

// Outage holds the requests that each policy would have admitted before, in and
// after a spell without Redis.
type Outage struct {
	Spell     Spell
	From, To  time.Time // beginning and end of the outage
	Processes int
	Policies  []Policy
	Window    time.Time     // beginning of the first bin
	Width     time.Duration // width of a bin
	Lost      Losses
}

// Policy holds the requests that one policy admitted around an outage.
type Policy struct {
	Name     string
	PerPhase [3]int // requests before, in and after the outage
	PerBin   []int  // requests in each bin of the window
}

// Total returns the number of requests that the policy admitted in all phases.
func (p Policy) Total() int { return p.PerPhase[0] + p.PerPhase[1] + p.PerPhase[2] }

// Result returns the effect of the limit on the requests so far. It lists at
// most top keys, those with the most denials. A suggestion may deny at most the
// part most of the requests, from 0 to 1.
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

// time returns an instant as a time in the log's time zone.
func (r *Replay) time(now float64) time.Time {
	return time.Unix(0, r.order.first+int64(now)).In(r.zone)
}

// coarseBins is the largest number of bins in a table of the report.
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
			{"requested", r.central.requests},
			{"one central bucket", r.central.requests - r.central.denied},
			{"this limiter, never reaching Redis", f.allowed.share},
			{"private full limit", f.allowed.private},
			{"private limit/N", f.allowed.part},
		},
	}
}

// policyNames are the names of the policies, in the order of [admitted].
var policyNames = [policies]string{"requested", "one central bucket", "this limiter", "fail open", "fail closed", "private full limit"}

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
