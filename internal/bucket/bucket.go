// Package bucket is the arithmetic of one key's token bucket in one process. It
// is pure: it locks nothing, reads no clock and does no I/O.
//
// A key's limit is a rate r and a burst b. A [Grant] is the part of it that the
// process may use: a refill of ρ tokens a second, a capacity of C tokens and a
// threshold θ. Alone a process has ρ = r, C = b, θ = 1, and decides exactly as
// x/time/rate does. Among others each reply of the shared state brings another
// grant. A decision takes three steps:
//
//	refill:  L ← min(C, L + ρ·(now − at))
//	admit:   n ≤ b and L ≥ θ·n      (in stale mode L ≥ θ·min(n, C))
//	take:    L ← L − n
//
// A level below 0 is a debt. The shared bucket keeps its level as a TAT (theoretical
// arrival time): the instant at which it is full. Instants are those of package
// mono; one before the level's own counts as that.
package bucket

import (
	"errors"
	"math"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

// Bounds of counts and durations.
const (
	MaxTokens   = 1 << 53   // largest count of tokens: float64 is exact up to it
	MaxMicros   = 1 << 51   // largest charge, in microseconds: 71 years
	LongestDebt = time.Hour // longest time to repay a debt that is believed on another's report, or restored after a loss
)

// Mode is the kind of a grant.
type Mode uint8

// The modes.
const (
	Pool  Mode = iota // all that the shared bucket holds, because the fleet's demand fits it; alone, an exact token bucket
	Share             // a share of a contended key, by demand
	Stale             // a share in an outage, while no reply can renew it
)

// Grant is the part of a key's limit that the process may use (docs/design.md §4).
type Grant struct {
	Refill    float64 // ρ, tokens per second
	Capacity  float64 // C, tokens
	Threshold float32 // θ, part of a cost that the level has to hold, in (0, 1]
	Mode      Mode
}

// Bucket is the token bucket of one key in one process.
type Bucket struct {
	Rate  float64 // r, tokens per second; rate.Inf: no limit
	Burst float64 // b, tokens
	Grant
	Level     float64   // L, tokens at the instant At
	At        mono.Time // instant of the level
	LastEvent mono.Time // instant at which the latest admission or reservation may act
}

// New returns a full bucket with the whole of a limit. The rate is in tokens per
// second, the burst in tokens.
func New(r, burst float64, now mono.Time) Bucket {
	b := Bucket{Rate: r, Burst: burst, At: now, LastEvent: now}
	b.Level = b.Burst
	b.Grant = b.Alone()
	return b
}

// Alone returns the grant of a process that shares the bucket with no other.
func (b *Bucket) Alone() Grant {
	return Grant{Refill: b.Rate, Capacity: b.Burst, Threshold: 1, Mode: Pool}
}

// Unlimited reports whether r is rate.Inf.
func (b *Bucket) Unlimited() bool { return b.Rate == float64(rate.Inf) }

// Shared reports whether the fleet shares the bucket: 0 < r < ∞. Because any other
// rate admits everything or nothing, there is no state to share.
func (b *Bucket) Shared() bool { return b.Rate > 0 && !b.Unlimited() }

// FullMicros returns the time that an empty bucket takes to fill, in microseconds:
//
//	b/r, at least 1, at most MaxMicros
func (b *Bucket) FullMicros() int64 {
	return b.ExchangeLimit().Full
}

// LevelAt returns the level at an instant:
//
//	min(C, L + ρ·max(0, now − at))
func (b *Bucket) LevelAt(now mono.Time) float64 {
	return LevelAfter(b.Level, now.Sub(b.At), b.Refill, b.Capacity)
}

// LevelAfter returns the level after a time d:
//
//	min(capacity, level + refill·max(0, d))
func LevelAfter(level float64, d time.Duration, refill, capacity float64) float64 {
	if d > 0 {
		level += mono.Elapsed(d) * refill
	}
	if level > capacity {
		return capacity
	}
	return level
}

// LevelUntil returns the level at now of a bucket that is full at an instant:
//
//	b − r·max(0, full − now)
func (b *Bucket) LevelUntil(full, now mono.Time) float64 {
	return b.Burst - max(0, full.Sub(now)).Seconds()*b.Rate
}

// Enough reports whether a level is at least the one that is needed. Except that, as
// in x/time/rate, less than a nanosecond's refill may be missing.
func Enough(level, needed, refill float64) bool {
	missing := needed - level
	return missing <= 0 || missing*1e9 < refill
}

// Need returns the level at which a cost of n is admitted:
//
//	θ·n, in stale mode θ·min(n, C)
//
// Because the capacity of a share may be below a large cost, a full bucket admits one
// such cost in an outage. Its refill repays the debt.
func (b *Bucket) Need(n float64) float64 {
	if b.Mode == Stale {
		n = min(n, b.Capacity)
	}
	return float64(b.Threshold) * n
}

// Admits reports whether a cost of n is admitted at a level: n ≤ b and level ≥
// Need(n).
func (b *Bucket) Admits(level, n float64) bool {
	return n <= b.Burst && Enough(level, b.Need(n), b.Refill)
}

// Remaining returns the number of costs of 1 that are admitted at now, one after
// the other, beyond the given tokens of waiting callers:
//
//	0 if a cost of 1 is not admitted, otherwise ⌊1 + min(L − waiting − Need(1), b − 1)⌋
func (b *Bucket) Remaining(now mono.Time, waiting float64) int {
	level := b.LevelAt(now) - waiting
	if !b.Admits(level, 1) {
		return 0
	}
	return ToInt(1 + max(0, min(level-b.Need(1), b.Burst-1)))
}

// Set sets the level as of an instant. Except that at never goes back.
func (b *Bucket) Set(now mono.Time, level float64) {
	b.Level, b.At = level, max(b.At, now)
}

// Charge takes n tokens, whatever the level: L ← L − n.
func (b *Bucket) Charge(now mono.Time, n float64) { b.Set(now, b.LevelAt(now)-n) }

// Refund gives n tokens back: L ← min(C, L + n).
func (b *Bucket) Refund(now mono.Time, n float64) {
	b.Set(now, min(b.LevelAt(now)+n, b.Capacity))
}

// Delay returns the time in which a refill lifts a level to 0:
//
//	max(0, −level/refill)
//
// It is rate.InfDuration where that is out of range, or the refill 0.
func Delay(level, refill float64) time.Duration {
	switch {
	case level >= 0:
		return 0
	case refill <= 0:
		return rate.InfDuration
	}
	d := -level / refill * 1e9
	if d >= math.MaxInt64 {
		return rate.InfDuration
	}
	return time.Duration(d)
}

// Unreserve cancels a reservation of n tokens that acts at an instant, and returns
// the tokens given back:
//
//	min(n, n − r·(LastEvent − act)), at least 0
//
// A reservation that has acted gives nothing back. Tokens reserved after it stay
// reserved. The rule is that of Reservation.CancelAt in x/time/rate, except for the first
// n: there a cancellation after another one may give back more than n.
func (b *Bucket) Unreserve(now mono.Time, n float64, act mono.Time) float64 {
	if n == 0 || act < now {
		return 0
	}
	back := min(n, n-b.LastEvent.Sub(act).Seconds()*b.Rate)
	if back <= 0 {
		return 0
	}
	b.Refund(now, back)
	if act == b.LastEvent {
		if prev := act - mono.Time(Delay(-n, b.Rate)); prev >= now {
			b.LastEvent = prev
		}
	}
	return back
}

// Relimit changes the limit to that of another bucket, as SetLimit and SetBurst of
// x/time/rate do: the level stays, and so does a debt. The grant keeps its part of
// the limit:
//
//	ρ ← ρ·r'/r,   C ← min(b', C·b'/b),   r, b ← r', b'
func (b *Bucket) Relimit(now mono.Time, to *Bucket) {
	b.Set(now, b.LevelAt(now))
	b.Refill *= to.Rate / b.Rate
	b.Capacity = min(to.Burst, b.Capacity*to.Burst/b.Burst)
	b.Rate, b.Burst = to.Rate, to.Burst
}

// ExchangeLimit returns the limit in the form in which reports carry it.
func (b *Bucket) ExchangeLimit() exchange.Limit {
	return exchange.LimitOf(b.Rate, b.Burst)
}

// ChargedTime returns the time that a record charges, converted to the limit that
// the bucket has now.
func (b *Bucket) ChargedTime(rec *exchange.Record) time.Duration {
	return time.Duration(rec.Limit.Time(rec.Delta, b.ExchangeLimit())) * time.Microsecond
}

// UnderLimit converts a TAT from one limit to another: the bucket keeps its tokens,
// at most the new burst, and its debt. A TAT of 0, none, stays 0.
func UnderLimit(tat, now mono.Time, from, to exchange.Limit) mono.Time {
	if tat == 0 || from == to {
		return tat
	}
	toGo := tat.Sub(now)
	return now.Add(toGo % time.Microsecond).Add(time.Duration(from.ToGo(toGo.Microseconds(), to)) * time.Microsecond)
}

// Furthest returns the latest TAT that is believed on another's report:
//
//	now + b/r + min(debt, LongestDebt)
//
// The debt is the time that it may take to repay. Because the reporter may have
// lost its state, or be wrong, there has to be a bound.
func (b *Bucket) Furthest(now mono.Time, debt time.Duration) mono.Time {
	return now.Add(mono.Seconds(b.Burst / b.Rate)).Add(min(debt, LongestDebt))
}

// Clamp returns a number of tokens within ±MaxTokens.
func Clamp(n float64) float64 { return max(-MaxTokens, min(n, MaxTokens)) }

// AddTokens returns a + n within ±MaxTokens.
func AddTokens(a, n int64) int64 { return max(-MaxTokens, min(a+n, MaxTokens)) }

// ToInt returns the integer part of a number from 0 on, at most math.MaxInt.
func ToInt(x float64) int {
	if x >= math.MaxInt {
		return math.MaxInt
	}
	return int(x)
}

// Check returns an error if the bucket has a number out of its range. Tests call it.
func (b *Bucket) Check() error {
	switch {
	case math.IsNaN(b.Level) || math.IsInf(b.Level, 0) || math.IsNaN(b.Capacity) || math.IsInf(b.Capacity, 0):
		return errors.New("level or capacity is not finite")
	case math.IsNaN(b.Refill) || b.Refill < 0:
		return errors.New("refill is not a number from 0 on")
	case !(b.Threshold > 0 && b.Threshold <= 1):
		return errors.New("threshold is not in (0, 1]")
	case b.LevelAt(b.At) > b.Burst:
		return errors.New("level is above the burst")
	}
	return nil
}
