// Package outage has the rules by which a process goes on while Redis is out of its
// reach, and by which it leaves room for processes that are out of Redis's. It is pure.
//
// Each rule is worth something in a situation that users have; docs/accuracy.md has the
// runs ("What each rule for outages and silence earns"):
//
//	rule     situation                                            with    without
//	Saving   100 processes, 0.9 r, 10 s without Redis             −5 %    −18 %
//	Drift    the load of one of two moves to an idle one          11 %    0.8 % of r
//	Holding  10 processes, 1/k, worst window after an outage      0 b     0.37 b
//	Stop     10 processes, 5/10s, two idle minutes after 10 r     +6 %    −84 %
//	Room     5 of 10 processes cut off, first minute              +1 %    +50 %
//	Moved    4 processes replaced without Close                   0.99    0.54
//	Absence  10 processes lose Redis 5 s apart                    1.00    1.37
//
// Two more are in the shared state (internal/exchange): late usage takes unused refill
// first (Redis answers 0.3 s of each second: 0.94, without 0.70), and a silent process
// that was replaced is left no room (old and new ask for 15 s: 1.00, without 0.54).
package outage

import (
	"math"
	"time"

	"github.com/seed-e56e777b/limiter/internal/demand"
)

// IdlePart is the part of an equal part of a limit that an outage leaves to a process
// which had none: all of them together exceed the limit by at most as much.
const IdlePart = 0.25

const (
	driftTau   = 60 * time.Second // time constant at which an outage raises a small part
	saveMost   = 5                // tokens that a part may save up beyond its part of the burst,
	saveFor    = time.Second / 2  // and for how long: all parts together save at most the refill of this time
	silentSpan = 5 * time.Second  // over which the demand since a silence is smoothed, at most;
	silentTaus = 3                // at least this many τ,
	silentMany = 64               // and as long as so many requests take
	chanceMost = 0.15             // of a demand, up to which less of it may be chance
	deviations = 2                // standard deviations that may be
)

// Rules are rules that a simulation can do without, to show what each is worth.
type Rules uint8

// The rules of docs/accuracy.md's ablations.
const (
	Threshold Rules = 1 << iota // θ is random (docs/design.md §4)
	Stop                        // [Stopped]
	Drift                       // [Drifted]
	Saving                      // [Savings]
	Holding                     // shares are kept while demand is learnt anew
	Room                        // [Silence.Scale]: without it nobody leaves room,
	Moved                       // or everybody by heads
	Absence                     // [Silence.Lost] counts in an outage
)

// Has reports whether a rule is one of them.
func (r Rules) Has(rule Rules) bool { return r&rule != 0 }

// Drifted is the part of a limit for a process that had the given part when an outage
// began, so long ago: one that was idle takes part after a while.
func ShareAfter(part, fleet float64, ago time.Duration) float64 {
	return part + max(0, IdlePart/fleet-part)*demand.Risen(ago, driftTau)
}

// Savings is the number of tokens that a bucket may hold beyond its part of the burst:
// a request, and some against the unevenness of few requests. The refill is in tokens
// per second.
func Allowance(request, refill float64) float64 {
	return request + min(saveMost, refill*saveFor.Seconds())
}

// Stopped is the confidence, from 0 to 1, that a load which has left a process has
// stopped, and did not move to another: many of the tokens that were expected in a span
// were not requested, and no news of the key came for longer than news takes.
func StoppedConfidence(expected, requested, request float64, span, news time.Duration) float64 {
	missing := max(0, expected-requested)
	missing *= missing / (max(1, expected) * demand.SteadyRequests * request) // of many, a few are missing by chance
	return demand.Risen(time.Duration(min(missing*missing*float64(news), float64(span))), news)
}

// Silence is what a process remembers of a key's demand since other processes fell
// silent, in tokens per second, for the whole fleet.
type Silence struct {
	Then float32 // demand when they fell silent; 0: none is silent
	Now  float32 // demand since, smoothed
	Lost float32 // demand that has gone with processes which are lost by now
}

// Observation is the demand for a key at a reply, this process's included.
type Observation struct {
	Mean, Now   float64       // average and current demand of the fleet
	Request     float64       // tokens of a request
	Age         time.Duration // of the average
	Since       time.Duration // the reply before
	Tau         time.Duration
	SilentAfter time.Duration // without a word, after which a process is silent
	Lost        float64       // part of the processes that are lost
}

// Observe takes in a reply that came while some processes are silent. With renew, those
// that were silent before are gone.
func (s *Silence) Observe(d Observation, renew bool) {
	switch {
	case s.Then == 0:
		mean := d.Mean
		if t := max(d.Tau, demand.SlowTau); d.Age > silentSpan { // the average still has most of their demand
			gone := demand.Risen(d.SilentAfter, t) / demand.Risen(d.Age, t)
			mean += max(0, mean-d.Now) * gone / (1 - gone)
		}
		kept := demand.Decay(1, d.SilentAfter, d.Tau) // of their demand, in Redis's count
		s.Then, s.Now = float32(mean), float32(max(0, min(d.Now, (d.Now-kept*mean)/(1-kept))))
	case renew:
		s.lose(d.Lost)
		s.Then, s.Now = float32(d.Mean), min(s.Now, float32(d.Mean))
	default:
		s.Now += float32((d.Now - float64(s.Now)) * demand.Risen(d.Since, s.span(d.Request, d.Tau)))
		s.Then = max(s.Then, min(s.Now, float32(d.Mean)))
	}
}

// lose notes the demand that has gone with the silent, who are gone: at most the given
// part of what it was, an equal one for each process that is lost.
func (s *Silence) lose(part float64) {
	s.Lost += max(0, min(s.Then-s.Now, s.Then*float32(part)))
}

// End ends a silence. Unless the part of the processes that are lost is 0, those that
// fell silent have not come back.
func (s *Silence) End(lost float64) {
	if lost != 0 {
		s.lose(lost)
		s.Then, s.Now = 0, 0
	} else {
		*s = Silence{}
	}
}

// Scale is the part of a rate that the others leave, so that silent processes can go
// on: all but the part of the demand that has gone with them, and at least the given
// one, which leaves each of them an equal part. What may be chance, by the number of
// requests in the smoothed demand, counts for less, or makes an equal part full.
func (s *Silence) Scale(least, request float64, tau time.Duration) float64 {
	if least >= 1 || s.Then == 0 {
		return 1
	}
	missing := max(0, 1-float64(s.Now/s.Then))
	requests := float64(s.Then) * s.span(request, tau).Seconds() / request
	chance := min(chanceMost, deviations/math.Sqrt(requests))
	if missing > max(1-least-chance/2, (1-least)/2) {
		return least // as good as an equal part
	}
	return max(least, 1-missing*min(1, missing/chance))
}

// span is the time over which Now is smoothed.
func (s *Silence) span(request float64, tau time.Duration) time.Duration {
	many := time.Duration(min(silentMany*request/float64(s.Then), silentSpan.Seconds()) * 1e9)
	return max(tau, min(silentSpan, max(silentTaus*tau, many)))
}
