// Package demand has the arithmetic of demand: tokens requested per second, kept as
// a count that decays, and its means. It is pure. A demand d counts n tokens as
// n/τ, which decay with the time constant τ (docs/design.md §4, Demand).
package demand

import (
	"math"
	"time"
)

// SlowTau is the least time constant of the averages that outages go by.
const SlowTau = 30 * time.Second

// SteadyRequests is the number of requests below which a demand is too rough to go by:
// that many may come, or be missing, by chance.
const SteadyRequests = 8

// Floor is N·ε over r: the part of a limit that is dealt out without regard to
// demand.
const Floor = 0.02

// Share is w, the part of a limit for a process with a demand of own, among fleet
// processes of which the others have a demand of others. All are tokens per second.
func Share(own, others, rate, fleet float64) float64 {
	eps := Floor * rate / fleet
	all := others + own + fleet*eps
	if all <= 0 {
		return 1 / fleet // a rate too small to be told from nothing
	}
	return min(1, (own+eps)/all)
}

// Decay is x after d, at a time constant of tau.
func Decay(x float64, d, tau time.Duration) float64 {
	if d <= 0 || x == 0 {
		return x
	}
	return x * math.Exp(-d.Seconds()/tau.Seconds())
}

// Risen is 1 − exp(−d/τ).
func Risen(d, tau time.Duration) float64 { return -math.Expm1(-d.Seconds() / tau.Seconds()) }

// Between is the mean of a demand that has gone from before to after, as a decay,
// within a span above 0.
func Between(before, after float64, span, tau time.Duration) float64 {
	return after + (before-after)*Risen(span, tau)*tau.Seconds()/span.Seconds()
}

// Counted is the mean of a demand over a span in which so many tokens were requested:
// d falls by d/τ and rises with the requests.
func Counted(requested int64, before, after float64, span, tau time.Duration) float64 {
	return max(0, float64(requested)-tau.Seconds()*(after-before)) / span.Seconds()
}

// Average moves a mean towards a value that was held for span. The divisor removes the
// bias of a mean whose age is below its time constant, max(τ, SlowTau).
func Average(mean, value float64, span, age, tau time.Duration) float64 {
	t := max(tau, SlowTau)
	return mean + (value-mean)*Risen(span, t)/Risen(max(span, age), t)
}
