// Package membership counts the processes of a fleet, by the replies of the fleet's
// own key: all, the silent ones, and those that are gone without leaving. It is pure
// (docs/design.md §6, §7).
package membership

import (
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

const (
	silentIntervals = 10               // a member is silent after this many intervals,
	silentTrips     = 3                // after this many round trips,
	silentLeast     = time.Second      // and after this time: a pause of the process is no silence
	forgetLeast     = time.Minute      // a member is gone after this time,
	forgetSilences  = 2                // and after this many times that which makes it silent
	remember        = 10 * time.Minute // time for which a member that is gone and never left counts as lost
	callCost        = 25e-6            // seconds of Redis time of a call without its keys
	callPart        = 0.25             // part of a Redis core for the fleet's calls
	stretchMost     = time.Minute      // longest stretched interval
	stretchGrowth   = 2                // largest growth of the interval from one call to the next, so that a wrong size of the fleet does little harm
	leastScale      = 1. / 64          // least scale of a rate: admits at most 1.6 % too much, and charges a token at most 64-fold
	meanWeight      = 1. / 8           // weight of the newest round in the mean of calls
)

// Fleet is the fleet as one process knows it.
type Fleet struct {
	interval time.Duration // T as configured
	fastest  time.Duration // shortest T of a member
	slowest  time.Duration // longest T of a member
	members  float64
	silent   int
	lost     float64
	scale    float64
	silentAt mono.Time     // instant since which members have been silent, renewed when those are gone; 0: none is
	most     float64       // largest number of members since then
	longest  time.Duration // longest interval at present, see stretchGrowth
	calls    float64       // running mean of the calls in a round
	started  mono.Time     // instant at which this process started
	contact  mono.Time     // instant of the last reply, or of the start
	regain   mono.Time     // instant until which the fleet does not shrink, because it is being counted anew
}

// New returns a fleet of a size to assume until the first reply.
func New(members int, interval time.Duration, now mono.Time) *Fleet {
	return &Fleet{interval: interval, fastest: interval, slowest: interval, members: float64(max(1, members)), scale: 1, calls: 1, started: now, contact: now, longest: interval}
}

// Members returns N, the number of processes, with the silent ones.
func (f *Fleet) Members() float64 { return f.members }

// Scale returns the part of every rate that s silent processes leave:
//
//	max(leastScale, max(1, N − s)/N)
//
// Silent processes that were replaced are not in s.
func (f *Fleet) Scale() float64 { return f.scale }

// Lost returns the number of processes that are gone without leaving, in the last
// ten minutes. They may go on without Redis.
func (f *Fleet) Lost() float64 { return f.lost }

// SilentAt returns an instant since which some process has been silent, or 0 if none
// is. It returns a later one once processes that were silent then are gone. A degraded
// process may be silent for longer.
func (f *Fleet) SilentAt() mono.Time { return f.silentAt }

// Silent returns the number of silent processes, by the last reply.
func (f *Fleet) Silent() int { return f.silent }

// Fastest returns the shortest interval of a process of the fleet.
func (f *Fleet) Fastest() time.Duration { return f.fastest }

// Slowest returns the longest interval of a process of the fleet. Demand and silence
// are measured by it.
func (f *Fleet) Slowest() time.Duration { return f.slowest }

// Interval returns T. If the fleet's calls would take more than callPart of a Redis
// core, it is stretched, step by step, to a minute at most.
func (f *Fleet) Interval() time.Duration {
	stretched := time.Duration(f.members * f.calls * callCost / callPart * 1e9)
	return max(f.interval, min(stretched, f.longest, stretchMost))
}

// ObserveCalls takes the number of calls of a round into their mean.
func (f *Fleet) ObserveCalls(calls int) { f.calls += meanWeight * (float64(calls) - f.calls) }

// Call returns the call on the fleet's key of this round.
func (f *Fleet) Call(process [8]byte, rtt time.Duration, now mono.Time) *exchange.FleetCall {
	return &exchange.FleetCall{
		Process:  process,
		Silent:   f.Silence(rtt),
		Forget:   f.forget(rtt),
		Remember: max(remember, f.forget(rtt)),
		Interval: f.interval,
		Age:      now.Sub(f.started),
	}
}

// Silence returns the time after which an unseen member is silent.
func (f *Fleet) Silence(rtt time.Duration) time.Duration {
	return SilentAfter(max(f.Interval(), f.slowest), rtt)
}

// SilentAfter is how long a member of a fleet of which the slowest process has this
// interval goes unseen until it is silent.
func SilentAfter(interval, rtt time.Duration) time.Duration {
	return max(silentLeast, silentIntervals*interval, silentTrips*rtt)
}

func (f *Fleet) forget(rtt time.Duration) time.Duration {
	return max(forgetLeast, forgetSilences*f.Silence(rtt))
}

// ApplyReply applies a reply of the fleet's key. If the call before failed, which
// back tells, other processes may be returning as well: for hold the fleet does
// not shrink, and no process is silent.
func (f *Fleet) ApplyReply(r *exchange.FleetReply, back bool, hold time.Duration, rtt time.Duration, now mono.Time) {
	if back || now.Sub(f.contact) > f.Silence(rtt) { // a call of a client without timeouts may have hung
		f.Regain(hold, now)
	}
	f.contact = now
	f.fastest, f.slowest = f.interval, f.interval
	if r.Fastest > 0 {
		f.fastest, f.slowest = min(f.interval, r.Fastest), max(f.interval, min(r.Slowest, stretchMost))
	}
	f.silent = r.Silent
	f.lost = float64(max(0, r.Lost))
	n := float64(max(1, r.Members))
	f.scale = 1
	if now < f.regain {
		f.members = max(f.members, n)
		f.silentAt = 0
		return
	}
	f.longest = stretchGrowth * f.Interval()
	f.members = n
	gone := float64(max(0, r.Silent-r.Newer)) // a process that started after a silent one has replaced it
	f.scale = max(leastScale, max(1, n-gone)/n)
	switch {
	case r.Silent == 0:
		f.silentAt = 0
	case f.silentAt == 0, now.Sub(f.silentAt) > f.forget(rtt) && n < f.most:
		f.silentAt, f.most = now, n
	}
	f.most = max(f.most, n)
}

// Regain keeps the fleet from shrinking for hold, because Redis has lost its members.
func (f *Fleet) Regain(hold time.Duration, now mono.Time) { f.regain = now.Add(hold) }
