package limiter

import (
	"math"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

// forever is an instant, in nanoseconds of a limiter's own clock, that never
// comes; half the range leaves room to add to it.
const forever = int64(math.MaxInt64 / 2)

// mode says how a bucket holds back.
type mode uint8

const (
	modePool  mode = iota // nobody need hold back: an exact token bucket
	modeShare             // everybody keeps to a share of a contended key
	modeStale             // the share last known, while the grant can't be renewed
)

// grant is what a reply gives a bucket, beside its level (docs/design.md §4).
type grant struct {
	refill    float64 // ρ, tokens per second
	capacity  float64 // C, tokens
	threshold float32 // θ, the part of a cost that must be there
	mode      mode
}

// bucket is the arithmetic of one key in one process. Every method takes now,
// in nanoseconds of a clock that never goes back; none locks.
type bucket struct {
	rate  float64 // r, tokens per second; rate.Inf: no limit
	burst float64 // b, tokens
	grant
	level     float64 // L at the instant at, tokens; negative is debt
	at        int64
	lastEvent int64 // when the latest admission or reservation may act
}

// newBucket returns a full bucket that is alone with its limit.
func newBucket(lim Limit, now int64) bucket {
	b := bucket{rate: float64(lim.Rate), burst: float64(lim.Burst), at: now, lastEvent: now}
	b.level = b.burst
	b.grant = b.alone()
	return b
}

// alone is the grant of a bucket that nobody shares.
func (b *bucket) alone() grant {
	return grant{refill: b.rate, capacity: b.burst, threshold: 1, mode: modePool}
}

func (b *bucket) unlimited() bool { return b.rate == float64(rate.Inf) }

// shared reports whether the fleet has anything to tell each other of such a
// bucket: not where everything is admitted, nor where nothing ever is.
func (b *bucket) shared() bool { return b.rate > 0 && !b.unlimited() }

// full is b/r in microseconds: the charge that empties a full bucket.
func (b *bucket) full() int64 {
	return max(1, min(maxMicros, seconds(b.burst/b.rate).Microseconds()))
}

// levelAt is the level at now, which may lie before b.at: then it is b.level.
func (b *bucket) levelAt(now int64) float64 {
	return levelAfter(b.level, now-b.at, b.refill, b.capacity)
}

// levelAfter is a level d nanoseconds later.
func levelAfter(level float64, d int64, refill, capacity float64) float64 {
	if d > 0 {
		level += elapsed(d) * refill
	}
	if level > capacity {
		return capacity
	}
	return level
}

// enough reports whether a level is one at which what is needed is admitted. Like
// x/time it calls a nanosecond's refill nothing.
func enough(level, needed, refill float64) bool {
	missing := needed - level
	return missing <= 0 || missing*1e9 < refill
}

// elapsed is d nanoseconds in seconds, as [time.Duration.Seconds] rounds them.
func elapsed(d int64) float64 {
	if d < int64(time.Second) {
		return float64(d) / 1e9
	}
	return time.Duration(d).Seconds()
}

// levelUntil is the level at now of a bucket that will be full at an instant.
func (b *bucket) levelUntil(full, now int64) float64 {
	return b.burst - time.Duration(max(0, full-now)).Seconds()*b.rate
}

// need is the level at which a cost of n is admitted.
func (b *bucket) need(n float64) float64 {
	if b.mode == modeStale {
		n = min(n, b.capacity) // a full bucket whose share is small admits one large cost and pays it back
	}
	return float64(b.threshold) * n
}

// admits reports whether a cost of n is admitted at the given level.
func (b *bucket) admits(level, n float64) bool {
	return n <= b.burst && enough(level, b.need(n), b.refill)
}

// remaining is the number of costs of 1 that would be admitted at now, after so
// many tokens that wait.
func (b *bucket) remaining(now int64, waiting float64) int {
	level := b.levelAt(now) - waiting
	if !b.admits(level, 1) {
		return 0
	}
	return toInt(1 + max(0, min(level-b.need(1), b.burst-1)))
}

// limit is the limit that the bucket has.
func (b *bucket) limit() Limit { return Limit{Rate: rate.Limit(b.rate), Burst: toInt(b.burst)} }

// toInt holds a whole number that is not negative within the range of int.
func toInt(x float64) int {
	if x >= math.MaxInt {
		return math.MaxInt
	}
	return int(x)
}

// charge takes n without asking.
func (b *bucket) charge(now int64, n float64) { b.set(now, b.levelAt(now)-n) }

// refund gives n back, at most up to full.
func (b *bucket) refund(now int64, n float64) {
	b.set(now, min(b.levelAt(now)+n, b.capacity))
}

func (b *bucket) set(now int64, level float64) {
	b.level, b.at = level, max(b.at, now)
}

// delay is how long a level that is negative takes to come back to nothing.
func delay(level, refill float64) time.Duration {
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

// unreserve gives back a reservation of n that was to act at the instant act,
// less what has been reserved after it, and returns the tokens given back. It is
// x/time/rate's Reservation.CancelAt, but for one of two cancellations that gives
// back more than was taken there: never more than n.
func (b *bucket) unreserve(now int64, n float64, act int64) float64 {
	if n == 0 || act < now {
		return 0
	}
	back := min(n, n-time.Duration(b.lastEvent-act).Seconds()*b.rate)
	if back <= 0 {
		return 0
	}
	b.refund(now, back)
	if act == b.lastEvent {
		if prev := act - int64(delay(-n, b.rate)); prev >= now {
			b.lastEvent = prev
		}
	}
	return back
}

// relimit changes the limit as x/time/rate's SetLimit and SetBurst do: what is left
// stays, at most the new burst, and what is owed.
func (b *bucket) relimit(now int64, lim Limit) {
	b.set(now, b.levelAt(now))
	to := newBucket(lim, now)
	b.refill *= to.rate / b.rate
	b.capacity = min(to.burst, b.capacity*to.burst/b.burst)
	b.rate, b.burst = to.rate, to.burst
}

// inExchange is the limit in the form in which it travels.
func (b *bucket) inExchange() exchange.Limit {
	return exchange.Limit{Full: b.full(), Burst: int64(b.burst)}
}

// underLimit is a TAT that leaves a bucket of another limit what one of this limit has.
func underLimit(tat, now int64, from, to exchange.Limit) int64 {
	if tat == 0 || from == to {
		return tat
	}
	const us = int64(time.Microsecond)
	return later(now+(tat-now)%us, time.Duration(from.ToGo((tat-now)/us, to))*time.Microsecond)
}

// later is at + d, held within the clock's range.
func later(at int64, d time.Duration) int64 {
	if at > forever-int64(d) {
		return forever
	}
	return at + int64(d)
}
