// Package mono is the arithmetic of instants on a process's own clock. An
// instant is a number of nanoseconds, counted from a second before the process's
// base, so that 0 can stand for "none". Durations are those of package time. Sums
// of [Time.Add] stop at [Never] instead of overflowing. The package is pure, except
// that [Now] reads the clock.
package mono

import (
	"math"
	"sync/atomic"
	"time"
)

// Time is an instant of the process's clock; 0: none. Instants compare as numbers. The
// operators + and - don't stop at Never: hot paths use them.
type Time int64

// Never is an instant that does not come. Because it is half of the range, there
// is room to add to it.
const Never Time = math.MaxInt64 / 2

// Now returns the present instant:
//
//	time since base + 1 s
//
// It is never 0 and never goes back.
func Now(base time.Time) Time { return Time(time.Since(base) + time.Second) }

// Add returns the instant min(t + d, Never).
func (t Time) Add(d time.Duration) Time {
	if t > Never-Time(d) {
		return Never
	}
	return t + Time(d)
}

// Sub returns the duration t - u. It does not stop at either end of the range.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// SinceBase returns the time from the process's base to t; 0 if t is before it.
func (t Time) SinceBase() time.Duration { return max(0, t.Sub(Time(time.Second))) }

// Elapsed returns a duration in seconds. From 0 on it rounds as
// [time.Duration.Seconds] does.
func Elapsed(d time.Duration) float64 {
	if d < time.Second {
		return float64(d) / 1e9
	}
	return d.Seconds()
}

// Seconds returns a duration of s seconds, at most that from 0 to Never.
func Seconds(s float64) time.Duration {
	if s >= float64(Never)/1e9 {
		return time.Duration(Never)
	}
	return time.Duration(s * 1e9)
}

// Atomic is an instant that several goroutines use; none at first.
type Atomic struct{ at atomic.Int64 }

// Load returns the instant.
func (a *Atomic) Load() Time { return Time(a.at.Load()) }

// Store replaces the instant.
func (a *Atomic) Store(t Time) { a.at.Store(int64(t)) }

// CompareAndSwap replaces the instant if it is still the old one, and reports whether it
// was.
func (a *Atomic) CompareAndSwap(old, next Time) bool {
	return a.at.CompareAndSwap(int64(old), int64(next))
}
