package benchmarks_test

import (
	"testing"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/benchmarks/internal/keys"
)

// BenchmarkKey is a decision by a handle that was asked for beforehand.
func BenchmarkKey(b *testing.B) {
	local := limiter.Config{Limit: ample}
	asked := keys.NewSequence(1<<10, keys.Uniform(1, 1))
	for _, name := range []string{"limiter", "limiter-local"} {
		b.Run("keys=1/by="+name, func(b *testing.B) {
			cfg := local
			if name == "limiter" {
				cfg = shared(b, local)
			}
			h := newLimiter(b, cfg).Key(keys.Name(0))
			measure(b, func(string) (bool, error) { return h.Allow(), nil }, asked, true)
		})
	}
}
