package benchmarks_test

import (
	"testing"

	"github.com/seed-e56e777b/limiter/benchmarks/internal/keys"
)

// BenchmarkInsert is the first decision over a key that takes another's place.
func BenchmarkInsert(b *testing.B) {
	const capacity = 1 << 16
	for _, s := range subjects() {
		if !s.bounded {
			continue
		}
		b.Run("keys=65536/by="+s.name, func(b *testing.B) {
			o := s.open(b, usual, capacity)
			i := 0
			next := func() int { i++; return i }
			for range 2 * capacity {
				if _, err := o.decide(keys.Name(next())); err != nil {
					b.Fatal(err)
				}
			}
			measure(b, o.decide, keys.NewSequence(1<<20, next), true)
		})
	}
}
