// Package outage has the rules for a process without Redis, and for the room that it
// leaves to other processes without Redis. It is pure.
//
// Each rule improves a situation that users have. The runs are in docs/accuracy.md,
// "What each rule for outages and silence earns":
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
// Two more are in the shared state (internal/exchange). Late usage takes unused refill
// first (Redis answers 0.3 s of each second: 0.94, without 0.70). A replaced silent
// process is left no room (old and new make requests for 15 s: 1.00, without 0.54).
package outage

import (
	"math"
	"time"

	"github.com/seed-e56e777b/limiter/internal/demand"
)

// IdlePart is the part, of an equal part of a limit, that an idle process gets during
// an outage. All idle processes together exceed the limit by this part at most.
const IdlePart = 0.25

const (
	driftTau   = 60 * time.Second // time constant at which an outage raises a small part
	saveMost   = 5                // largest allowance beyond a request, in tokens,
	saveFor    = time.Second / 2  // and in refill: all processes together save the refill of this time at most
	silentSpan = 5 * time.Second  // longest time over which the demand since a silence is smoothed,
	silentTaus = 3                // and the shortest, in τ;
	silentMany = 64               // between them it is the time of so many requests
	chanceMost = 0.15             // largest part of a demand whose absence may be chance
	deviations = 2                // standard deviations that may be chance
)

// Rules is a set of rules that a simulation switches off to measure them.
type Rules uint8

// The rules of docs/accuracy.md's ablations.
const (
	Threshold Rules = 1 << iota // θ is random (docs/design.md §4)
	Stop                        // [StoppedConfidence]
	Drift                       // [ShareAfter]
	Saving                      // [Allowance]
	Holding                     // shares are kept while demand is measured anew
	Room                        // [Silence.Scale]; without it no process leaves room
	Moved                       // [Silence.Scale] by demand; without it by the number of processes
	Absence                     // [Silence.Lost] counts in an outage
)

// Has reports whether a rule is in the set.
func (r Rules) Has(rule Rules) bool { return r&rule != 0 }

// ShareAfter returns the part of a limit for a process at a time after the beginning of
// an outage, by its part at the beginning:
//
//	part + max(0, IdlePart/fleet − part)·(1 − exp(−ago/60 s))
//
// So an idle process gets a part after a while.
func ShareAfter(part, fleet float64, ago time.Duration) float64 {
	return part + max(0, IdlePart/fleet-part)*demand.Risen(ago, driftTau)
}

// Allowance returns the number of tokens that a bucket may hold beyond its part of the
// burst:
//
//	request + min(5, refill·0.5 s)
//
// The second term is for the unevenness of few requests. The refill is in tokens per
// second.
func Allowance(request, refill float64) float64 {
	return request + min(saveMost, refill*saveFor.Seconds())
}

// StoppedConfidence returns the confidence, from 0 to 1, that the load of a process has
// stopped, and has not moved to another process. It rises with the tokens that were
// expected in a span but not requested, and with the time without news of the key.
func StoppedConfidence(expected, requested, request float64, span, news time.Duration) float64 {
	missing := max(0, expected-requested)
	missing *= missing / (max(1, expected) * demand.SteadyRequests * request) // of many, a few are missing by chance
	return demand.Risen(time.Duration(min(missing*missing*float64(news), float64(span))), news)
}

// Silence is the fleet's demand for a key since other processes fell silent, in tokens
// per second.
type Silence struct {
	Then float32 // demand when they fell silent; 0: no process is silent
	Now  float32 // demand since, smoothed
	Lost float32 // demand that has gone with processes that are lost now
}

// Observation is the demand for a key at a reply, this process's included.
type Observation struct {
	Mean, Now   float64       // average and current demand of the fleet
	Request     float64       // tokens of a request
	Age         time.Duration // age of the average
	Since       time.Duration // time since the reply before
	Tau         time.Duration // time constant of demand
	SilentAfter time.Duration // time after which an unseen process is silent
	Lost        float64       // part of the processes that is lost
}

// Observe applies a reply while some processes are silent. If renew is set, those that
// were silent before are gone.
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

// lose adds the demand of silent processes that are gone now: at most the given part
// of Then, which is an equal part for each lost process.
func (s *Silence) lose(part float64) {
	s.Lost += max(0, min(s.Then-s.Now, s.Then*float32(part)))
}

// End ends a silence. If a part of the processes is lost, the silent ones have not
// come back.
func (s *Silence) End(lost float64) {
	if lost != 0 {
		s.lose(lost)
		s.Then, s.Now = 0, 0
	} else {
		*s = Silence{}
	}
}

// Scale returns the part of a rate that the other processes keep, so that silent ones
// can go on. It is 1 less the part of the demand that has gone with the silent ones. It
// is at least least, which leaves each of them an equal part. A difference that may be
// chance, by the number of requests in the smoothed demand, is reduced, or rounded up
// to an equal part.
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

// span returns the time over which Now is smoothed.
func (s *Silence) span(request float64, tau time.Duration) time.Duration {
	many := time.Duration(min(silentMany*request/float64(s.Then), silentSpan.Seconds()) * 1e9)
	return max(tau, min(silentSpan, max(silentTaus*tau, many)))
}
