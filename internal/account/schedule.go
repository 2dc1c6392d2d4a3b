package account

import (
	"time"

	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

const LazyScans = 8 // in the lazy period of a key: a shard is not looked through for each key that is due

const LazyMost = 15 * time.Second // longest that a key far from its limit goes unreported

// LazyPeriod is how long a key far from its limit may go unreported.
func LazyPeriod(b *bucket.Bucket) time.Duration {
	return min(LazyMost, mono.Seconds(b.Burst/(alarmPart*b.Rate)))
}

// LazyDue is when a key far from its limit is to be exchanged: a lazy period after its
// first usage, or, so that a shard is not looked through for each of its keys, up to an
// eighth of that later.
func (a *Account) LazyDue(b *bucket.Bucket, phase int64) int64 {
	return LazyDue(b, max(a.FirstUse, a.ReportedAt), phase)
}

func LazyDue(b *bucket.Bucket, first, phase int64) int64 {
	period := LazyPeriod(b)
	step := max(1, int64(period/LazyScans))
	due := mono.Add(first, period)
	return due + (step - (due+phase)%step)
}

// Soonest is when a key may be exchanged again that need not be at once.
func (a *Account) Soonest(now int64, p *Params) int64 {
	return max(now, a.RepliedAt+int64(p.Interval/2))
}
