package bucket

import (
	"errors"
	"math"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"golang.org/x/time/rate"
)

// Mode says how a bucket holds back.
type Mode uint8

const (
	Pool  Mode = iota // nobody need hold back: an exact token bucket
	Share             // everybody keeps to a share of a contended key
	Stale             // the share last known, while the grant can't be renewed
)

// Grant is what a reply gives a bucket, beside its level (docs/design.md §4).
type Grant struct {
	Refill    float64 // ρ, tokens per second
	Capacity  float64 // C, tokens
	Threshold float32 // θ, the part of a cost that must be there
	Mode      Mode
}

// Bucket is the arithmetic of one key in one process. Every method takes now,
// in nanoseconds of a clock that never goes back; none locks.
type Bucket struct {
	Rate  float64 // r, tokens per second; rate.Inf: no limit
	Burst float64 // b, tokens
	Grant
	Level     float64 // L at the instant at, tokens; negative is debt
	At        int64
	LastEvent int64 // when the latest admission or reservation may act
}

// New returns a full bucket of a rate in tokens per second and a burst in tokens,
// with both to itself.
func New(r, burst float64, now int64) Bucket {
	b := Bucket{Rate: r, Burst: burst, At: now, LastEvent: now}
	b.Level = b.Burst
	b.Grant = b.Alone()
	return b
}

// Alone is the grant of a bucket that nobody shares.
func (b *Bucket) Alone() Grant {
	return Grant{Refill: b.Rate, Capacity: b.Burst, Threshold: 1, Mode: Pool}
}

func (b *Bucket) Unlimited() bool { return b.Rate == float64(rate.Inf) }

// Shared reports whether the fleet has anything to tell each other of such a
// bucket: not where everything is admitted, nor where nothing ever is.
func (b *Bucket) Shared() bool { return b.Rate > 0 && !b.Unlimited() }

// FullMicros is b/r in microseconds: the charge that empties a full bucket.
func (b *Bucket) FullMicros() int64 {
	return max(1, min(MaxMicros, mono.Seconds(b.Burst/b.Rate).Microseconds()))
}

// LevelAt is the level at now, which may lie before b.at: then it is b.level.
func (b *Bucket) LevelAt(now int64) float64 {
	return LevelAfter(b.Level, now-b.At, b.Refill, b.Capacity)
}

// LevelAfter is a level d nanoseconds later.
func LevelAfter(level float64, d int64, refill, capacity float64) float64 {
	if d > 0 {
		level += mono.Elapsed(d) * refill
	}
	if level > capacity {
		return capacity
	}
	return level
}

// Enough reports whether a level is one at which what is needed is admitted. Like
// x/time it calls a nanosecond's refill nothing.
func Enough(level, needed, refill float64) bool {
	missing := needed - level
	return missing <= 0 || missing*1e9 < refill
}

// LevelUntil is the level at now of a bucket that will be full at an instant.
func (b *Bucket) LevelUntil(full, now int64) float64 {
	return b.Burst - time.Duration(max(0, full-now)).Seconds()*b.Rate
}

// Need is the level at which a cost of n is admitted.
func (b *Bucket) Need(n float64) float64 {
	if b.Mode == Stale {
		n = min(n, b.Capacity) // a full bucket whose share is small admits one large cost and pays it back
	}
	return float64(b.Threshold) * n
}

// Admits reports whether a cost of n is admitted at the given level.
func (b *Bucket) Admits(level, n float64) bool {
	return n <= b.Burst && Enough(level, b.Need(n), b.Refill)
}

// Remaining is the number of costs of 1 that would be admitted at now, after so
// many tokens that wait.
func (b *Bucket) Remaining(now int64, waiting float64) int {
	level := b.LevelAt(now) - waiting
	if !b.Admits(level, 1) {
		return 0
	}
	return ToInt(1 + max(0, min(level-b.Need(1), b.Burst-1)))
}

// ToInt holds a whole number that is not negative within the range of int.
func ToInt(x float64) int {
	if x >= math.MaxInt {
		return math.MaxInt
	}
	return int(x)
}

// Charge takes n without asking.
func (b *Bucket) Charge(now int64, n float64) { b.Set(now, b.LevelAt(now)-n) }

// Refund gives n back, at most up to full.
func (b *Bucket) Refund(now int64, n float64) {
	b.Set(now, min(b.LevelAt(now)+n, b.Capacity))
}

func (b *Bucket) Set(now int64, level float64) {
	b.Level, b.At = level, max(b.At, now)
}

// Delay is how long a level that is negative takes to come back to nothing.
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

// Unreserve gives back a reservation of n that was to act at the instant act,
// less what has been reserved after it, and returns the tokens given back. It is
// x/time/rate's Reservation.CancelAt, but for one of two cancellations that gives
// back more than was taken there: never more than n.
func (b *Bucket) Unreserve(now int64, n float64, act int64) float64 {
	if n == 0 || act < now {
		return 0
	}
	back := min(n, n-time.Duration(b.LastEvent-act).Seconds()*b.Rate)
	if back <= 0 {
		return 0
	}
	b.Refund(now, back)
	if act == b.LastEvent {
		if prev := act - int64(Delay(-n, b.Rate)); prev >= now {
			b.LastEvent = prev
		}
	}
	return back
}

// Relimit changes the limit as x/time/rate's SetLimit and SetBurst do: what is left
// stays, at most the new burst, and what is owed.
func (b *Bucket) Relimit(now int64, to *Bucket) {
	b.Set(now, b.LevelAt(now))
	b.Refill *= to.Rate / b.Rate
	b.Capacity = min(to.Burst, b.Capacity*to.Burst/b.Burst)
	b.Rate, b.Burst = to.Rate, to.Burst
}

// Wire is the limit in the form in which it travels.
func (b *Bucket) Wire() exchange.Limit {
	return exchange.Limit{Full: b.FullMicros(), Burst: int64(b.Burst)}
}

// UnderLimit is a TAT that leaves a bucket of another limit what one of this limit has.
func UnderLimit(tat, now int64, from, to exchange.Limit) int64 {
	if tat == 0 || from == to {
		return tat
	}
	const us = int64(time.Microsecond)
	return mono.Add(now+(tat-now)%us, time.Duration(from.ToGo((tat-now)/us, to))*time.Microsecond)
}

const LongestDebt = time.Hour // time that a debt takes to repay, beyond which it is not believed on another's word, nor told again after a loss

// maxMicros bounds a charge: 71 years.
const MaxMicros = 1 << 51

// Furthest is the latest TAT that is believed on another's word: an empty bucket, and
// a debt that takes so long to repay, an hour at most. Who told it may have lost its
// state, or have been wrong.
func (b *Bucket) Furthest(now int64, debt time.Duration) int64 {
	return mono.Add(mono.Add(now, mono.Seconds(b.Burst/b.Rate)), min(debt, LongestDebt))
}

// maxTokens bounds every count of tokens: to it float64 is exact.
const MaxTokens = 1 << 53

func Clamp(n float64) float64 { return max(-MaxTokens, min(n, MaxTokens)) }

func AddTokens(a, n int64) int64 { return max(-MaxTokens, min(a+n, MaxTokens)) }

// ChargedTime is the time that a record charges, by the limit that the key has by now.
func (b *Bucket) ChargedTime(rec *exchange.Record) time.Duration {
	return time.Duration(rec.Limit.Time(rec.Delta, b.Wire())) * time.Microsecond
}

func (b *Bucket) Check() error {
	switch {
	case math.IsNaN(b.Level) || math.IsInf(b.Level, 0) || math.IsNaN(b.Capacity) || math.IsInf(b.Capacity, 0):
		return errors.New("not finite")
	case math.IsNaN(b.Refill) || b.Refill < 0:
		return errors.New("a refill out of range")
	case !(b.Threshold > 0 && b.Threshold <= 1):
		return errors.New("a threshold out of range")
	case b.LevelAt(b.At) > b.Burst:
		return errors.New("above full")
	}
	return nil
}
