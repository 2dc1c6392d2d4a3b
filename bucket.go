package limiter

import (
	"github.com/seed-e56e777b/limiter/internal/bucket"
	"golang.org/x/time/rate"
)

// newBucket returns a full bucket with its limit to itself.
func newBucket(lim Limit, now int64) bucket.Bucket {
	return bucket.New(float64(lim.Rate), float64(lim.Burst), now)
}

// limitOf returns the limit of a bucket.
func limitOf(b *bucket.Bucket) Limit {
	return Limit{Rate: rate.Limit(b.Rate), Burst: bucket.ToInt(b.Burst)}
}
