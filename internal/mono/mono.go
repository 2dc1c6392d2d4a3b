// Package mono is the arithmetic of instants on a process's own clock. An
// instant is a number of nanoseconds, counted from a second before the process's
// base, so that 0 can stand for "none". Durations are those of package time. Sums
// stop at [Never] instead of overflowing. The package is pure, except that [Now]
// reads the clock.
package mono

import (
	"math"
	"time"
)

// Never is an instant that does not come. Because it is half of the range, there
// is room to add to it.
const Never = int64(math.MaxInt64 / 2)

// Now returns the present instant:
//
//	time since base + 1 s
//
// It is never 0 and never goes back.
func Now(base time.Time) int64 { return int64(time.Since(base)) + int64(time.Second) }

// Since returns the time from the process's base to an instant; 0 if that is before it.
func Since(at int64) time.Duration { return time.Duration(max(0, at-int64(time.Second))) }

// Add returns the instant min(at + d, Never).
func Add(at int64, d time.Duration) int64 {
	if at > Never-int64(d) {
		return Never
	}
	return at + int64(d)
}

// Elapsed returns d nanoseconds in seconds. From 0 on it rounds as
// [time.Duration.Seconds] does.
func Elapsed(d int64) float64 {
	if d < int64(time.Second) {
		return float64(d) / 1e9
	}
	return time.Duration(d).Seconds()
}

// Seconds returns a duration of s seconds, at most that from 0 to Never.
func Seconds(s float64) time.Duration {
	if s >= float64(Never)/1e9 {
		return time.Duration(Never)
	}
	return time.Duration(s * 1e9)
}
