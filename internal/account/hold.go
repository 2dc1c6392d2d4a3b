package account

import (
	"time"

	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

// Hold admits nothing before an instant h, and leaves the bucket empty then. The longest
// hold counts. Because a hold is time, and no limit converts it, the TAT does not have it
// before it ends.
func (a *Account) Hold(b *bucket.Bucket, until, now mono.Time) {
	debt := a.Debt(b, now)
	a.HeldUntil = max(a.HeldUntil, until)
	a.KeepHeld(b, debt, now)
}

// Held reports whether a hold has not ended.
func (a *Account) Held(now mono.Time) bool { return a != nil && now < a.HeldUntil }

// Debt returns the tokens that the bucket owes, beside those of a hold:
//
//	max(0, −L − ρ·max(0, h − now))
func (a *Account) Debt(b *bucket.Bucket, now mono.Time) float64 {
	return max(0, -b.LevelAt(now)-a.heldTokens(b, now))
}

// KeepHeld keeps the bucket empty until h, after a new grant, a refund or a change of
// limit, and below that by a debt:
//
//	L ← min(L, −ρ·(h − now) − debt), below 0 if ρ is 0
func (a *Account) KeepHeld(b *bucket.Bucket, debt float64, now mono.Time) {
	if a.Held(now) && b.Shared() {
		b.Set(now, min(b.LevelAt(now), -max(a.heldTokens(b, now), 1e-9)-debt))
	}
}

// heldTokens returns the refill of the bucket until h.
func (a *Account) heldTokens(b *bucket.Bucket, now mono.Time) float64 {
	if !a.Held(now) || !b.Shared() {
		return 0
	}
	return b.Refill * mono.Elapsed(a.HeldUntil.Sub(now))
}

// EndHold ends a hold whose time has passed, and reports whether Redis needs to know:
//
//	TAT ← max(TAT, h + b/r)
func (a *Account) EndHold(b *bucket.Bucket, now mono.Time) (floor bool) {
	tat := a.HeldUntil.Add(mono.Seconds(b.Burst / b.Rate))
	a.HeldUntil = 0
	if !a.Exchanges() || !b.Shared() || tat <= max(now, a.TAT) {
		return false
	}
	a.TAT, a.Expires = tat, max(a.Expires, tat)
	a.Mark(FloorDue, true)
	return true
}

// heldDelay returns the time until n tokens are there after a hold; 0: there is none.
func (a *Account) heldDelay(b *bucket.Bucket, n float64, now mono.Time) time.Duration {
	if !a.Held(now) {
		return 0
	}
	return time.Duration((a.HeldUntil - now).Add(bucket.Delay(-n, b.Rate)))
}
