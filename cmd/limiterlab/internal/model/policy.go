// Package model applies other ways of rate limiting to the requests of a run.
package model

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
)

// Policy decides on requests in the order of their calls; down is true if Redis is
// away. A policy has state, and serves one replay.
type Policy func(r trace.Request, down bool) bool

// Measured repeats the decisions of the limiter under test.
func Measured() Policy {
	return func(r trace.Request, _ bool) bool { return r.Admitted }
}

// Central is one token bucket for the whole fleet, always within reach: the ideal,
// and the measure of all other policies.
func Central(l limiter.Limit) Policy {
	b := newBucket(l)
	return func(r trace.Request, _ bool) bool { return b.admit(r) }
}

// FailOpen is the central bucket while Redis is up, and no limit while it is away.
func FailOpen(l limiter.Limit) Policy {
	return withFallback(l, func(trace.Request) bool { return true })
}

// FailClosed is the central bucket while Redis is up, and denies everything
// while it is away.
func FailClosed(l limiter.Limit) Policy {
	return withFallback(l, func(trace.Request) bool { return false })
}

// Private is the central bucket while Redis is up; while it is away each
// process has a bucket of its own, full at first, with the full limit.
func Private(l limiter.Limit) Policy {
	own := make(map[int32]bucket)
	return withFallback(l, func(r trace.Request) bool {
		b, ok := own[r.Process]
		if !ok {
			b = newBucket(l)
			own[r.Process] = b
		}
		return b.admit(r)
	})
}

// withFallback is the central bucket while Redis is up, and fallback while it is
// away. The bucket fills up in an outage, as no tokens are taken from it.
func withFallback(l limiter.Limit, fallback func(trace.Request) bool) Policy {
	central := newBucket(l)
	return func(r trace.Request, down bool) bool {
		if down {
			return fallback(r)
		}
		return central.admit(r)
	}
}

// bucket is an exact token bucket that starts full.
type bucket struct{ *rate.Limiter }

func newBucket(l limiter.Limit) bucket {
	return bucket{rate.NewLimiter(l.Rate, l.Burst)}
}

func (b bucket) admit(r trace.Request) bool {
	return b.AllowN(time.Unix(0, 0).Add(r.At), int(r.Cost))
}
