// Package traffic is what the lab's processes are asked for: Poisson arrivals,
// skewed over the processes, the same again from the same seed.
package traffic

import (
	"math"
	"math/rand/v2"
	"time"
)

// Shares divides 1 over n processes so that the k-th gets 1/k of what the first gets.
func Shares(n int) []float64 {
	shares := make([]float64, n)
	sum := 0.0
	for k := range shares {
		shares[k] = 1 / float64(k+1)
		sum += shares[k]
	}
	for k := range shares {
		shares[k] /= sum
	}
	return shares
}

// Even divides 1 over n processes evenly.
func Even(n int) []float64 {
	shares := make([]float64, n)
	for k := range shares {
		shares[k] = 1 / float64(n)
	}
	return shares
}

// Arrivals are the instants at which one process is asked: a Poisson process.
type Arrivals struct {
	rate float64 // per second
	rng  *rand.Rand
	at   float64 // seconds
}

// NewArrivals returns the arrivals of one process at a rate per second.
func NewArrivals(rate float64, seed uint64, process int) *Arrivals {
	return &Arrivals{rate: rate, rng: rand.New(rand.NewPCG(seed, uint64(process)))}
}

// Change gives the arrivals from an instant on another rate, which may be 0. A
// Poisson process has no memory: what was to come before is drawn anew.
func (a *Arrivals) Change(rate float64, from time.Duration) {
	a.rate, a.at = rate, from.Seconds()
}

// Next is the instant of the next arrival, since the start.
func (a *Arrivals) Next() time.Duration {
	a.at += a.rng.ExpFloat64() / a.rate
	if a.at > math.MaxInt64/2e9 {
		return math.MaxInt64 / 2
	}
	return time.Duration(a.at * float64(time.Second))
}
