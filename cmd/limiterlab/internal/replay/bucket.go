// Package replay computes what a limit would have done to the requests of a
// log: by one central bucket, by a fleet of processes without one, and through
// an outage. It takes requests one by one in the order of time and keeps
// bounded state.
package replay

import (
	"math"

	"github.com/seed-e56e777b/limiter"
)

// Instants are nanoseconds since the first request of the log, as float64:
// exact for 104 days, and within 4 ns for a year.

// tat is the theoretical arrival time of an exact token bucket, the instant at
// which it is full again: its whole state. The zero tat is a full bucket.
type tat float64

// rule is what a limit makes of a tat.
type rule struct {
	emission float64 // 1/r, nanoseconds per token
	reach    float64 // b/r: how far ahead the tat of an empty bucket is
}

func newRule(rate, burst float64) rule {
	emission := 1e9 / rate
	return rule{emission: emission, reach: burst * emission}
}

func ruleOf(l limiter.Limit) rule { return newRule(float64(l.Rate), float64(l.Burst)) }

// take admits one token at now, or changes nothing. Like the limiter it calls a
// nanosecond's refill nothing.
func (r rule) take(t *tat, now float64) bool {
	next := max(float64(*t), now) + r.emission
	if next-now-r.reach >= 1 {
		return false
	}
	*t = tat(next)
	return true
}

// charge takes one token without asking.
func (r rule) charge(t *tat, now float64) { *t = tat(max(float64(*t), now) + r.emission) }

// settle forgives the debt that is left at now.
func (r rule) settle(t *tat, now float64) { *t = min(*t, tat(now+r.reach)) }

// level is how many tokens there are at now.
func (r rule) level(t tat, now float64) float64 {
	return (r.reach - max(0, float64(t)-now)) / r.emission
}

// full reports whether the bucket is full at now: forgetting it loses nothing.
func (t tat) full(now float64) bool { return float64(t) <= now }

// burstOf is a burst that n processes are each given a part of: a whole number,
// and at least the one token without which nothing would ever be admitted.
func burstOf(l limiter.Limit, n int) float64 {
	return max(1, math.Floor(float64(l.Burst)/float64(n)))
}
