// Package demand is the arithmetic of demand for one key, the tokens requested per
// second by which processes share it. It is pure.
//
// A demand d is a count that decays: n requested tokens add n/τ to it, and it falls
// with the time constant τ (docs/design.md §4, Demand). A process keeps d for its
// own requests, and learns the demand of the others, D_o, from the shared count.
// The means of both are those over max(τ, [SlowTau]). They decide in outages, and
// wherever the demand of an instant rests on too few requests.
package demand

import (
	"math"
	"time"
)

// Constants of shares and means.
const (
	TauIntervals   = 5                // τ in SyncIntervals of the slowest process
	SlowTau        = 30 * time.Second // least time constant of a mean of demand
	SteadyRequests = 8                // requests in τ below which a demand is too rough: as many may come, or be missing, by chance
	Floor          = 0.02             // N·ε/r, the part of a limit that is dealt out in equal shares, whatever the demand
)

// Share returns w, the part of a limit for one of N = fleet processes. own is its demand,
// others that of the other processes:
//
//	w = min(1, (own + ε)/(others + own + N·ε)),   ε = Floor·r/N
//
// All demands and the rate are in tokens per second.
func Share(own, others, rate, fleet float64) float64 {
	eps := Floor * rate / fleet
	all := others + own + fleet*eps
	if all <= 0 {
		return 1 / fleet // ε of a tiny rate is rounded to 0
	}
	return min(1, (own+eps)/all)
}

// Decay returns a demand after d without requests:
//
//	x·exp(−d/τ),   x for d ≤ 0
func Decay(x float64, d, tau time.Duration) float64 {
	if d <= 0 || x == 0 {
		return x
	}
	return x * math.Exp(-d.Seconds()/tau.Seconds())
}

// Risen returns the part of its way that a demand has gone after d:
//
//	1 − exp(−d/τ)
func Risen(d, tau time.Duration) float64 { return -math.Expm1(-d.Seconds() / tau.Seconds()) }

// MeanBetween returns the mean, over a span above 0, of a demand that decays from
// one value towards another:
//
//	after + (before − after)·(1 − exp(−span/τ))·τ/span
func MeanBetween(before, after float64, span, tau time.Duration) float64 {
	return after + (before-after)*Risen(span, tau)*tau.Seconds()/span.Seconds()
}

// MeanCounted returns the mean of a demand over a span above 0, by the tokens that
// were requested in it:
//
//	max(0, requested − τ·(after − before))/span
//
// It is exact, because d falls by d/τ a second and rises with the requests.
func MeanCounted(requested int64, before, after float64, span, tau time.Duration) float64 {
	return max(0, float64(requested)-tau.Seconds()*(after-before)) / span.Seconds()
}

// Average returns a mean that has moved towards a value, which was that of a span:
//
//	mean + (value − mean)·R(span)/R(max(span, age)),   R(t) = 1 − exp(−t/max(τ, SlowTau))
//
// The divisor removes the bias of a mean whose age is below its time constant.
func Average(mean, value float64, span, age, tau time.Duration) float64 {
	t := max(tau, SlowTau)
	return mean + (value-mean)*Risen(span, t)/Risen(max(span, age), t)
}
