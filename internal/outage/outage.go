// Package outage has the rules, for one key, by which a process goes on while Redis
// does not answer it. By a second set of rules it leaves room for other processes that
// Redis does not answer. It is pure. docs/design.md §6 derives the rules.
//
// A share is a process's part of the key's rate and burst. A process is silent if
// Redis has not seen it for a while. It is lost if that goes on for minutes and it
// never left. Both may still admit requests. docs/accuracy.md shows the worth of each
// rule ("What each rule for outages and silence earns"):
//
//	rule     situation                                            with    without
//	Saving   100 processes, 0.9 r, 10 s without Redis             −5 %    −18 %
//	Drift    the load of one of two moves to an idle one          11 %    0.8 % of r
//	Holding  10 processes, 1/k, worst window after an outage      0 b     0.26 b
//	Stop     10 processes, 5/10s, two idle minutes after 10 r     +8 %    −83 %
//	Room     5 of 10 processes cut off, first minute              +1 %    +50 %
//	Moved    4 processes replaced at once, without Close          1.00    1.00
//	Absence  10 processes lose Redis 5 s apart                    1.00    1.36
//
// Moved earned 0.99 to 0.54 before replaced processes were left no room, see below.
//
// Two more rules are part of the shared state. Late usage takes unused refill first:
// where Redis answers 0.3 s of each second, 0.98 of the limit is admitted, without
// it 0.81. A silent process that was replaced is left no room: where old and new
// processes request for 15 s, 1.00 is admitted, without it 0.54.
package outage

import (
	"math"
	"time"

	"github.com/seed-e56e777b/limiter/internal/demand"
)

// IdlePart is the part of an equal share to which an outage lifts the share of an idle
// process. All lifted shares together exceed the limit by at most as much.
const IdlePart = 0.25

// Renewal is the time after which a share is computed anew in an outage.
const Renewal = time.Second

const (
	driftTau    = 60 * time.Second // time constant with which an outage lifts a small share
	saveMost    = 5                // tokens, the most that a share saves up beyond a request
	saveFor     = time.Second / 2  // refill that a share saves up at most, so that all shares together save up r/2
	silentSpan  = 20 * time.Second // longest time over which the demand since a silence is smoothed
	silentYoung = 5 * time.Second  // age of a mean up to which it is not corrected
	silentTaus  = 3                // shortest such time, in τ, as far as silentSpan allows
	silentMany  = 64               // requests that such a time should have
	chanceMost  = 0.15             // largest part of a demand that may be missing by chance
	deviations  = 2                // standard deviations of the number of requests that may be missing by chance
)

// Rules are a set of rules. A simulation can do without some, to show their worth.
type Rules uint8

// The rules that docs/accuracy.md takes away one by one.
const (
	Threshold Rules = 1 << iota // the random threshold θ (docs/design.md §4, Grant)
	Stop                        // [StoppedConfidence]
	Drift                       // [ShareAfter]
	Saving                      // [Allowance]
	Holding                     // shares that are kept while demand is learnt anew
	Room                        // [Silence.Scale]; without it no room is left
	Moved                       // [Silence.Scale] by demand; without it each silent process is left an equal share
	Absence                     // [Silence.Lost], which counts as the others' demand in an outage
)

// Has reports whether a rule is in the set.
func (r Rules) Has(rule Rules) bool { return r&rule != 0 }

// ShareAfter returns the share w of a process some time after an outage began:
//
//	w + max(0, 1/4N − w)·(1 − exp(−t/60 s))
//
// Because demand may move to a process that was idle, its share rises within a
// minute.
func ShareAfter(share, fleet float64, ago time.Duration) float64 {
	return share + max(0, IdlePart/fleet-share)*demand.Risen(ago, driftTau)
}

// Allowance returns the tokens that a share may save up beyond its part of the burst:
//
//	c + min(5, ρ·0.5 s)
//
// c is the cost of a request in tokens, ρ the share's refill in tokens per second.
// Because few requests come unevenly, a share that saved up less would lose refill.
func Allowance(request, refill float64) float64 {
	return request + min(saveMost, refill*saveFor.Seconds())
}

// Capacity returns the tokens that a bucket with a share may hold: its part of the burst
// and its savings, at most the burst.
func Capacity(share, burst, savings float64) float64 { return min(burst, share*burst+savings) }

// StoppedConfidence returns q, the confidence that a load which has left a process has
// stopped, and has not moved to another one:
//
//	q = 1 − exp(−min(m², t/h)),   m = missing²/(max(1, expected)·8·c),   missing = max(0, expected − requested)
//
// expected and requested are tokens in the span t, c is the cost of a request. h is
// the time in which news of the key arrives, if others use it up. Because a few of many
// requests are missing by chance, m grows with the square.
func StoppedConfidence(expected, requested, request float64, span, news time.Duration) float64 {
	missing := max(0, expected-requested)
	missing *= missing / (max(1, expected) * demand.SteadyRequests * request)
	return demand.Risen(time.Duration(min(missing*missing*float64(news), float64(span))), news)
}

// Silence is the memory of a key's demand since some processes fell silent. It holds
// demands of the whole fleet, in tokens per second.
type Silence struct {
	Then float32 // demand when the processes fell silent; 0: none is silent
	Now  float32 // demand since then, smoothed
	Lost float32 // demand that was lost with processes which are gone by now
}

// Observation is the fleet's demand for a key at a reply.
type Observation struct {
	Mean, Now   float64       // mean demand, and that since the reply before, tokens per second
	Request     float64       // tokens of a request
	Age         time.Duration // age of the mean
	Since       time.Duration // time since the reply before
	Tau         time.Duration // τ, time constant of the demand
	SilentAfter time.Duration // time without a call after which a process is silent
	Lost        float64       // part of all processes that is lost
}

// Observe takes in a reply while some processes are silent. At the first such reply Then
// is the mean and Now the present demand, both corrected for the time before the silence
// was known. Because of that time the mean lacks some of the silent ones' demand, and the
// shared count still has some. At a later reply Now is the demand since the reply before,
// smoothed over [Silence.span], and Then rises with it, up to the mean. renew is true if
// the processes that were silent first are gone: their demand is lost, and the memory
// begins again.
func (s *Silence) Observe(d Observation, renew bool) {
	switch {
	case s.Then == 0:
		mean := d.Mean
		if t := max(d.Tau, demand.SlowTau); d.Age > silentYoung { // a younger mean is too young to correct
			gone := demand.Risen(d.SilentAfter, t) / demand.Risen(d.Age, t)
			mean += max(0, mean-d.Now) * gone / (1 - gone)
		}
		kept := demand.Decay(1, d.SilentAfter, d.Tau) // part of their demand that the shared count still has
		s.Then, s.Now = float32(mean), float32(max(0, min(d.Now, (d.Now-kept*mean)/(1-kept))))
	case renew:
		s.lose(d.Lost)
		s.Then, s.Now = float32(d.Mean), min(s.Now, float32(d.Mean))
	default:
		s.Now += float32((d.Now - float64(s.Now)) * demand.Risen(d.Since, s.span(d.Request, d.Tau)))
		s.Then = max(s.Then, min(s.Now, float32(d.Mean)))
	}
}

// lose adds the demand that the silent processes had, once they are gone:
//
//	min(Then − Now, Then·part), at least 0
//
// part is the part of all processes that is lost.
func (s *Silence) lose(part float64) {
	s.Lost += max(0, min(s.Then-s.Now, s.Then*float32(part)))
}

// End ends a silence, because no process is silent any more. lost is the part of all
// processes that is lost. If it is above 0, the silent ones' demand is lost with
// them. If it is 0, all have come back, and nothing is remembered.
func (s *Silence) End(lost float64) {
	if lost != 0 {
		s.lose(lost)
		s.Then, s.Now = 0, 0
	} else {
		*s = Silence{}
	}
}

// Scale returns the part of a rate for the processes that are not silent:
//
//	max(least, 1 − m·min(1, m/chance)),   m = max(0, 1 − Now/Then),   chance = min(0.15, 2/√requests)
//
// least leaves each silent process an equal share. Except that it is least itself
// if m is near enough to an equal share's part: above max(1 − least − chance/2, (1 −
// least)/2). Because demand that is missing by chance has not gone silent, a small m
// counts for less. requests are those that Then makes in [Silence.span].
func (s *Silence) Scale(least, request float64, tau time.Duration) float64 {
	if least >= 1 || s.Then == 0 {
		return 1
	}
	missing := max(0, 1-float64(s.Now/s.Then))
	requests := float64(s.Then) * s.span(request, tau).Seconds() / request
	chance := min(chanceMost, deviations/math.Sqrt(requests))
	if missing > max(1-least-chance/2, (1-least)/2) {
		return least
	}
	return max(least, 1-missing*min(1, missing/chance))
}

// span returns the time over which Now is smoothed:
//
//	max(τ, min(20 s, max(3·τ, 64·c/Then)))
//
// c is the cost of a request in tokens.
func (s *Silence) span(request float64, tau time.Duration) time.Duration {
	many := time.Duration(min(silentMany*request/float64(s.Then), silentSpan.Seconds()) * 1e9)
	return max(tau, min(silentSpan, max(silentTaus*tau, many)))
}
