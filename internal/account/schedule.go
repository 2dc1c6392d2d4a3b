package account

import (
	"time"

	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

// Constants of lazy keys, those far from their limits.
const (
	LazyMost  = 15 * time.Second // longest lazy period
	LazyScans = 8                // instants in a lazy period at which lazy keys are due, so that a shard is not searched for each of them
)

// LazyPeriod returns the longest time for which a key far from its limit may have
// unreported usage:
//
//	min(15 s, b/4r)
func LazyPeriod(b *bucket.Bucket) time.Duration {
	return min(LazyMost, mono.Seconds(b.Burst/(alarmPart*b.Rate)))
}

// isLazy reports whether reports of a key far from its limit are too far apart for the
// shared count to show the demand between them.
func isLazy(b *bucket.Bucket, p *Params) bool { return LazyPeriod(b) > 2*p.Tau }

// LazyDue returns the instant at which a key far from its limit is to be exchanged. It
// goes by the first unreported usage, or by the last report if that is later.
func (a *Account) LazyDue(b *bucket.Bucket, phase time.Duration) mono.Time {
	return LazyDue(b, max(a.FirstUse, a.ReportedAt), phase)
}

// LazyDue returns the instant at which a key far from its limit is to be exchanged: a
// lazy period after the given instant, raised to the next of the shard's instants. Those
// are an eighth of the period apart, and shifted by the phase.
func LazyDue(b *bucket.Bucket, first mono.Time, phase time.Duration) mono.Time {
	period := LazyPeriod(b)
	step := mono.Time(max(1, period/LazyScans))
	due := first.Add(period)
	return due + (step - (due+mono.Time(phase))%step)
}

// Soonest returns the earliest instant at which a key is exchanged again that need not be
// at once:
//
//	max(now, RepliedAt + T/2)
func (a *Account) Soonest(now mono.Time, p *Params) mono.Time {
	return max(now, a.RepliedAt+mono.Time(p.Interval/2))
}
