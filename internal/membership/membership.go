// Package membership keeps what a process knows of its fleet from the replies
// of the fleet's own key: how many processes there are, how many are silent, since
// when, and how many have gone without leaving. It is pure: instants are
// nanoseconds of a clock of the caller's that never goes back and is never 0
// (docs/design.md §6, §7).
package membership

import (
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

const (
	silentIntervals = 10               // unseen for as many, a member is silent
	silentTrips     = 3                // or for as many round trips
	silentLeast     = time.Second      // and no sooner: a pause of the process is no silence
	forgetLeast     = time.Minute      // unseen for as long, a member is gone
	forgetSilences  = 2                // and no sooner than this many times what makes it silent
	remember        = 10 * time.Minute // for which a member that is gone and never left is counted as lost
	callCost        = 25e-6            // seconds of Redis time that a call takes beside its keys
	callPart        = 0.25             // part of a Redis core that the fleet's calls may take
	stretchMost     = time.Minute      // of an interval
	stretchGrowth   = 2                // of an interval, from one call to the next: after a lie about the fleet's size it is soon made good
	leastScale      = 1. / 64          // of a rate, whoever is silent: admits 1.6 % too much at worst, and charges no token more than 64-fold
	meanWeight      = 1. / 8           // of the newest in the mean of calls
)

// Fleet is the fleet as one process knows it.
type Fleet struct {
	interval time.Duration // T as configured
	fastest  time.Duration // the shortest and the longest T of a member
	slowest  time.Duration
	members  float64
	silent   int
	lost     float64
	scale    float64
	silentAt int64         // since when members have been silent, at most as long as one takes to be gone; 0: none is
	longest  time.Duration // that the interval may be by now
	calls    float64       // running mean of the calls in a round
	started  int64         // when this process did
	contact  int64         // the last, or when this process started
	regain   int64         // until then the fleet does not shrink: it is being learnt anew
}

// New returns a fleet of the size to assume until one is known.
func New(members int, interval time.Duration, now int64) *Fleet {
	return &Fleet{interval: interval, fastest: interval, slowest: interval, members: float64(max(1, members)), scale: 1, calls: 1, started: now, contact: now, longest: interval}
}

// Members is N, the processes, the silent ones included.
func (f *Fleet) Members() float64 { return f.members }

// Scale is (N − s)/N: what the s silent ones that were not replaced leave of every
// rate, at least leastScale.
func (f *Fleet) Scale() float64 { return f.scale }

// Lost is the number of processes that are gone and never left, in the last ten
// minutes: they may be cut off from Redis, and go on.
func (f *Fleet) Lost() float64 { return f.lost }

// SilentAt is an instant since which some process has been silent: a later one once
// those that were silent then are gone. It is 0 if none is silent.
func (f *Fleet) SilentAt() int64 { return f.silentAt }

// Silent is the number of the silent, as last told.
func (f *Fleet) Silent() int { return f.silent }

// Fastest is the shortest SyncInterval of a process of the fleet.
func (f *Fleet) Fastest() time.Duration { return f.fastest }

// Slowest is the longest one, which demand and silence go by.
func (f *Fleet) Slowest() time.Duration { return f.slowest }

// Interval is T, stretched where the fleet's calls alone would take too much
// of a Redis core: little by little, and to a minute at most.
func (f *Fleet) Interval() time.Duration {
	stretched := time.Duration(f.members * f.calls * callCost / callPart * 1e9)
	return max(f.interval, min(stretched, f.longest, stretchMost))
}

// Called notes how many calls a round took.
func (f *Fleet) ObserveCalls(calls int) { f.calls += meanWeight * (float64(calls) - f.calls) }

// Call is this round's call on the fleet's key.
func (f *Fleet) Call(process [8]byte, rtt time.Duration, now int64) *exchange.FleetCall {
	return &exchange.FleetCall{
		Process:  process,
		Silent:   f.Silence(rtt),
		Forget:   f.forget(rtt),
		Remember: max(remember, f.forget(rtt)),
		Interval: f.interval,
		Age:      time.Duration(now - f.started),
	}
}

// Silence is how long a member goes unseen until it is silent.
func (f *Fleet) Silence(rtt time.Duration) time.Duration {
	return max(silentLeast, silentIntervals*max(f.Interval(), f.slowest), silentTrips*rtt)
}

func (f *Fleet) forget(rtt time.Duration) time.Duration {
	return max(forgetLeast, forgetSilences*f.Silence(rtt))
}

// Joined takes in what the fleet's key says; back says that the call before
// had failed. While the others are on their way back too, for hold, the fleet
// does not shrink, and nobody is silent.
func (f *Fleet) ApplyReply(r *exchange.FleetReply, back bool, hold time.Duration, rtt time.Duration, now int64) {
	if back || now-f.contact > int64(f.Silence(rtt)) { // no call has failed, but one hung, as a client without timeouts lets it
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
	case f.silentAt == 0 || now-f.silentAt > int64(f.forget(rtt)):
		f.silentAt = now
	}
}

// Regain keeps the fleet from shrinking for a while: Redis has lost what it
// knew of it.
func (f *Fleet) Regain(hold time.Duration, now int64) { f.regain = now + int64(hold) }
