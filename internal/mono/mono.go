package mono

import (
	"math"
	"time"
)

// forever is an instant, in nanoseconds of a limiter's own clock, that never
// comes; half the range leaves room to add to it.
const Never = int64(math.MaxInt64 / 2)

// Elapsed is d nanoseconds in seconds, as [time.Duration.Seconds] rounds them.
func Elapsed(d int64) float64 {
	if d < int64(time.Second) {
		return float64(d) / 1e9
	}
	return time.Duration(d).Seconds()
}

// Add is at + d, held within the clock's range.
func Add(at int64, d time.Duration) int64 {
	if at > Never-int64(d) {
		return Never
	}
	return at + int64(d)
}

// Now is the limiter's time: nanoseconds that never go back and are never 0.
func Now(base time.Time) int64 { return int64(time.Since(base)) + int64(time.Second) }

// Seconds is a duration of s seconds, held within its range.
func Seconds(s float64) time.Duration {
	if s >= float64(Never)/1e9 {
		return time.Duration(Never)
	}
	return time.Duration(s * 1e9)
}
