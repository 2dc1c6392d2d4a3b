package account

import (
	"math"

	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

// Hold admits nothing before an instant: the bucket is empty until then. The TAT of a
// key that the fleet shares is then at least
//
//	until + b/r
//
// The longest hold counts.
func (a *Account) Hold(b *bucket.Bucket, until, now int64) {
	a.HeldUntil = max(a.HeldUntil, until)
	if a.Exchanges() && b.Shared() {
		a.TAT = max(a.TAT, a.heldTAT(b, now))
		a.Expires = max(a.Expires, a.TAT)
	}
	a.KeepHeld(b, now)
}

// KeepHeld keeps the bucket empty until the hold has ended, after a new grant or a
// refund:
//
//	L ← min(L, −ρ·(HeldUntil − now)), below 0 if ρ is 0
func (a *Account) KeepHeld(b *bucket.Bucket, now int64) {
	if a.Held(now) && b.Shared() {
		b.Set(now, min(b.LevelAt(now), -max(b.Refill, 1e-9)*mono.Elapsed(a.HeldUntil-now)))
	}
}

// Held reports whether a hold has not ended.
func (a *Account) Held(now int64) bool { return a != nil && now < a.HeldUntil }

// heldTAT returns the least TAT that the hold leaves; math.MinInt64: it has ended.
func (a *Account) heldTAT(b *bucket.Bucket, now int64) int64 {
	if !a.Held(now) {
		return math.MinInt64
	}
	return mono.Add(a.HeldUntil, mono.Seconds(b.Burst/b.Rate))
}
