// Package membership keeps what a process knows of its fleet from the replies
// of the fleet's own key: how many there are, how many are silent, and when
// nobody, or only this process, was out of contact. It is pure: instants are
// nanoseconds of a clock of the caller's that never goes back and is never 0
// (docs/design.md §6, §7).
package membership

import (
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

const (
	silentIntervals = 10          // unseen for as many, a member is silent
	silentTrips     = 3           // or for as many round trips
	silentLeast     = time.Second // and no sooner: a pause of the process is no silence
	forgetLeast     = time.Minute // unseen for as long, a member is gone
	forgetSilences  = 2           // and no sooner than this many times what makes it silent
	callCost        = 25e-6       // seconds of Redis time that a call takes beside its keys
	callPart        = 0.25        // part of a Redis core that the fleet's calls may take
	stretchMost     = time.Minute // of an interval
	stretchGrowth   = 2           // of an interval, from one call to the next: after a lie about the fleet's size it is soon made good
	leastScale      = 1. / 64     // of a rate, whoever is silent: admits 1.6 % too much at worst, and charges no token more than 64-fold
	meanWeight      = 1. / 8      // of the newest in the mean of calls
)

// spell is a time without contact.
type spell struct{ begin, end int64 }

// Fleet is the fleet as one process knows it.
type Fleet struct {
	interval time.Duration // T as configured
	members  float64
	scale    float64
	longest  time.Duration // that the interval may be by now
	calls    float64       // running mean of the calls in a round
	contact  int64         // the last, or when this process started
	regain   int64         // until then the fleet does not shrink: it is being learnt anew
	gap      spell         // the last in which nobody had contact
	cut      spell         // the last in which this process had none
}

// New returns a fleet of the size to assume until one is known.
func New(members int, interval time.Duration, now int64) *Fleet {
	return &Fleet{interval: interval, members: float64(max(1, members)), scale: 1, calls: 1, contact: now, longest: interval}
}

// Members is N, the processes, the silent ones included.
func (f *Fleet) Members() float64 { return f.members }

// Scale is (N − s)/N: what the s silent ones leave of every rate, at least
// leastScale.
func (f *Fleet) Scale() float64 { return f.scale }

// Interval is T, stretched where the fleet's calls alone would take too much
// of a Redis core: little by little, and to a minute at most.
func (f *Fleet) Interval() time.Duration {
	stretched := time.Duration(f.members * f.calls * callCost / callPart * 1e9)
	return max(f.interval, min(stretched, f.longest, stretchMost))
}

// Called notes how many calls a round took.
func (f *Fleet) Called(calls int) { f.calls += meanWeight * (float64(calls) - f.calls) }

// Call is this round's call on the fleet's key.
func (f *Fleet) Call(process [8]byte, rtt time.Duration, now int64) *exchange.FleetCall {
	return &exchange.FleetCall{
		Process: process,
		Silent:  f.silence(rtt),
		Forget:  f.forget(rtt),
		Since:   time.Duration(now - f.contact),
	}
}

func (f *Fleet) silence(rtt time.Duration) time.Duration {
	return max(silentLeast, silentIntervals*f.Interval(), silentTrips*rtt)
}

func (f *Fleet) forget(rtt time.Duration) time.Duration {
	return max(forgetLeast, forgetSilences*f.silence(rtt))
}

// Joined takes in what the fleet's key says; back says that the call before
// had failed. While the others are on their way back too, for hold, the fleet
// does not shrink, and nobody is silent.
func (f *Fleet) Joined(r *exchange.FleetReply, back bool, hold time.Duration, now int64) {
	f.gap = spell{}
	if r.GapBegin > r.GapEnd {
		f.gap = spell{now - int64(r.GapBegin), now - int64(r.GapEnd)}
	}
	if back || f.hung() {
		f.cut = spell{f.contact, now}
		f.Regain(hold, now)
	}
	f.contact = now
	n := float64(max(1, r.Members))
	f.scale = 1
	if now < f.regain {
		f.members = max(f.members, n)
		return
	}
	f.longest = stretchGrowth * f.Interval()
	f.members = n
	f.scale = max(leastScale, max(1, n-float64(r.Silent))/n)
}

// hung reports whether most of a gap lies after the last contact: no call has
// failed since, but one hung, as a client without timeouts lets it.
func (f *Fleet) hung() bool {
	return 2*(f.gap.end-max(f.gap.begin, f.contact)) > f.gap.end-f.gap.begin
}

// Regain keeps the fleet from shrinking for a while: Redis has lost what it
// knew of it.
func (f *Fleet) Regain(hold time.Duration, now int64) { f.regain = now + int64(hold) }

// Backlog says what becomes of usage that was run up from the instant first on,
// when it is charged after a spell without contact. Where at least half of its
// time lies in a spell in which nobody had contact it must not put the key into
// debt. Else the others have counted this process as silent for a while, and
// left it 1/N of the rate, which is not charged again: the time to take off.
func (f *Fleet) Backlog(first int64, rtt time.Duration) (ceiling bool, off time.Duration) {
	if first >= f.cut.end {
		return false, 0
	}
	together := min(f.cut.end, f.gap.end) - max(first, f.gap.begin)
	if f.gap.end != 0 && 2*together >= f.cut.end-first {
		return true, 0
	}
	alone := time.Duration(f.cut.end - max(first, f.cut.begin))
	counted := min(alone, f.forget(rtt)) - f.silence(rtt)
	return false, time.Duration(float64(max(0, counted)) / f.members)
}
