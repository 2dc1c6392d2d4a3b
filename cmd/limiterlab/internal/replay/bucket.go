// Package replay computes the effect that a limit would have had on the
// requests of a log. It does so for one central bucket, for a fleet of
// processes without one, and for an outage. It takes requests one by one in the
// order of time and keeps bounded state.
package replay

import (
	"math"

	"github.com/seed-e56e777b/limiter"
)

// Instants are nanoseconds since the first request of the log, as float64. They
// are exact for 104 days, and within 4 ns for a year.

// tat is the theoretical arrival time of an exact token bucket: the instant at
// which it is full again. It is the whole state of the bucket. The zero tat is
// a full bucket.
type tat float64

// rule is a limit in nanoseconds, the unit of a tat.
type rule struct {
	emission float64 // nanoseconds per token, 1/r
	reach    float64 // nanoseconds from now to the tat of an empty bucket, b/r
}

func newRule(rate, burst float64) rule {
	emission := 1e9 / rate
	return rule{emission: emission, reach: burst * emission}
}

func ruleOf(l limiter.Limit) rule { return newRule(float64(l.Rate), float64(l.Burst)) }

// take reports whether it admits one token at now. A denial changes nothing. As
// in the limiter, a bucket that lacks less than a nanosecond of refill admits.
func (r rule) take(t *tat, now float64) bool {
	next := max(float64(*t), now) + r.emission
	if next-now-r.reach >= 1 {
		return false
	}
	*t = tat(next)
	return true
}

// charge takes one token, if need be as debt.
func (r rule) charge(t *tat, now float64) { *t = tat(max(float64(*t), now) + r.emission) }

// settle cancels the debt of a bucket at now.
func (r rule) settle(t *tat, now float64) { *t = min(*t, tat(now+r.reach)) }

// level returns the tokens in a bucket at now. Debt is below 0.
func (r rule) level(t tat, now float64) float64 {
	return (r.reach - max(0, float64(t)-now)) / r.emission
}

// full reports whether the bucket is full at now. A full bucket can be
// forgotten without loss.
func (t tat) full(now float64) bool { return float64(t) <= now }

// burstOf returns the burst of each of n processes that split a limit:
//
//	⌊b/n⌋, at least 1
//
// Because a burst below one token admits nothing, each process has at least
// one.
func burstOf(l limiter.Limit, n int) float64 {
	return max(1, math.Floor(float64(l.Burst)/float64(n)))
}
