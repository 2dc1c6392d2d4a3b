// Package traffic generates the requests of the lab's processes: Poisson arrivals,
// skewed over the processes, the same from the same seed.
package traffic

import (
	"math"
	"math/rand/v2"
	"time"
)

// Shares divides 1 over n processes so that the k-th gets 1/k of the first
// one's part.
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

// Arrivals are the instants of one process's requests, a Poisson process.
type Arrivals struct {
	rate float64 // per second
	rng  *rand.Rand
	at   float64 // seconds
}

// NewArrivals returns the arrivals of one process at a rate per second.
func NewArrivals(rate float64, seed uint64, process int) *Arrivals {
	return &Arrivals{rate: rate, rng: rand.New(rand.NewPCG(seed, uint64(process)))}
}

// Change sets the rate from an instant on, which may be 0. The next arrival is
// drawn anew, because a Poisson process has no memory.
func (a *Arrivals) Change(rate float64, from time.Duration) {
	a.rate, a.at = rate, from.Seconds()
}

// Next returns the instant of the next arrival, since the start.
func (a *Arrivals) Next() time.Duration {
	a.at += a.rng.ExpFloat64() / a.rate
	if a.at > math.MaxInt64/2e9 {
		return math.MaxInt64 / 2
	}
	return time.Duration(a.at * float64(time.Second))
}
