// Package demand computes demand, in tokens requested per second, and its means. It
// is pure. A demand is a count that decays: n tokens add n/τ, which decay with the
// time constant τ (docs/design.md §4, Demand).
package demand

import (
	"math"
	"time"
)

// SlowTau is the least time constant of the averages that are used in outages.
const SlowTau = 30 * time.Second

// SteadyRequests is the number of requests below which a demand is too rough to be
// used: so many may come, or be missing, by chance.
const SteadyRequests = 8

// Floor is N·ε/r: the part of a limit that is shared equally, whatever the demand.
const Floor = 0.02

// Share returns w, the part of a limit for a process:
//
//	w = min(1, (own + ε)/(own + others + fleet·ε)), ε = Floor·rate/fleet
//
// The demands own and others, and the rate, are tokens per second; fleet is the
// number of processes.
func Share(own, others, rate, fleet float64) float64 {
	eps := Floor * rate / fleet
	all := others + own + fleet*eps
	if all <= 0 {
		return 1 / fleet // a rate too small to be told from nothing
	}
	return min(1, (own+eps)/all)
}

// Decay returns x·exp(−d/τ).
func Decay(x float64, d, tau time.Duration) float64 {
	if d <= 0 || x == 0 {
		return x
	}
	return x * math.Exp(-d.Seconds()/tau.Seconds())
}

// Risen returns 1 − exp(−d/τ).
func Risen(d, tau time.Duration) float64 { return -math.Expm1(-d.Seconds() / tau.Seconds()) }

// Between returns the mean of a demand that has decayed from before to after within
// a span above 0.
func Between(before, after float64, span, tau time.Duration) float64 {
	return after + (before-after)*Risen(span, tau)*tau.Seconds()/span.Seconds()
}

// Counted returns the mean demand over a span, by its requested tokens:
//
//	max(0, requested − τ·(after − before))/span
//
// Because demand falls by d/τ and rises with the requests.
func Counted(requested int64, before, after float64, span, tau time.Duration) float64 {
	return max(0, float64(requested)-tau.Seconds()*(after-before)) / span.Seconds()
}

// Average moves a mean towards a value that has lasted for span. Its divisor removes
// the bias of a mean whose age is below its time constant, max(τ, SlowTau).
func Average(mean, value float64, span, age, tau time.Duration) float64 {
	t := max(tau, SlowTau)
	return mean + (value-mean)*Risen(span, t)/Risen(max(span, age), t)
}
