package keys_test

import (
	"testing"

	"github.com/seed-e56e777b/limiter/benchmarks/internal/keys"
)

func TestSequenceHoldsTheOrder(t *testing.T) {
	i := 0
	s := keys.NewSequence(8, func() int { i++; return i - 1 })
	for i := range 16 {
		if got, want := s.At(i), keys.Name(i%8); got != want {
			t.Errorf("At(%d) = %q, want %q", i, got, want)
		}
	}
}

func TestOrdersStayWithinTheKeys(t *testing.T) {
	const n, draws = 1000, 100_000
	for name, next := range map[string]keys.Order{"uniform": keys.Uniform(n, 1), "zipf": keys.Zipf(n, 1)} {
		count := make([]int, n)
		for range draws {
			count[next()]++
		}
		most := 0
		for _, c := range count {
			most = max(most, c)
		}
		if skewed := most > draws/20; skewed != (name == "zipf") {
			t.Errorf("%s: the busiest of %d keys has %d of %d", name, n, most, draws)
		}
	}
}

func TestZipfRanksAreTheSameForEverySeed(t *testing.T) {
	busiest := func(seed uint64) int {
		next := keys.Zipf(100, seed)
		count := make([]int, 100)
		for range 10_000 {
			count[next()]++
		}
		best := 0
		for k, c := range count {
			if c > count[best] {
				best = k
			}
		}
		return best
	}
	if a, b := busiest(1), busiest(2); a != b {
		t.Errorf("the busiest key is %d with one seed and %d with another", a, b)
	}
}
