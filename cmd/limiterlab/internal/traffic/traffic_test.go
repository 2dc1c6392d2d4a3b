package traffic

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestShares(t *testing.T) {
	require.InDeltaSlice(t, []float64{6. / 11, 3. / 11, 2. / 11}, Shares(3), 1e-12)
	require.Equal(t, []float64{1}, Shares(1))
}

func TestArrivalsHaveTheirRate(t *testing.T) {
	const n, rate = 100_000, 250.0
	a := NewArrivals(rate, 1, 0)
	var last time.Duration
	for range n {
		next := a.Next()
		if next < last {
			t.Fatalf("arrival at %v after one at %v", next, last)
		}
		last = next
	}
	sigma := math.Sqrt(n) / rate // of the n-th arrival of a Poisson process
	require.InDelta(t, n/rate, last.Seconds(), 5*sigma)
}

func TestArrivalsComeAgainFromTheirSeed(t *testing.T) {
	first := func(seed uint64, process int) time.Duration { return NewArrivals(1, seed, process).Next() }
	once, again := first(1, 2), first(1, 2)
	require.Equal(t, once, again)
	require.NotEqual(t, once, first(2, 2), "another seed")
	require.NotEqual(t, once, first(1, 3), "another process")
}

func TestArrivalsOfNextToNothing(t *testing.T) {
	require.Positive(t, NewArrivals(1e-300, 1, 0).Next())
}

func TestEven(t *testing.T) {
	require.Equal(t, []float64{0.25, 0.25, 0.25, 0.25}, Even(4))
	require.Empty(t, Even(0))
}

func TestArrivalsChange(t *testing.T) {
	a := NewArrivals(0, 1, 0)
	require.Greater(t, a.Next(), 1000*time.Hour, "never")
	a.Change(1000, time.Minute)
	next := a.Next()
	require.Greater(t, next, time.Minute)
	require.Less(t, next, time.Minute+time.Second)
	a.Change(0, 2*time.Minute)
	require.Greater(t, a.Next(), 1000*time.Hour)
}
