package benchmarks_test

import (
	"testing"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/benchmarks/internal/keys"
	"github.com/seed-e56e777b/limiter/internal/table"
)

// BenchmarkNear is the heap that keys take which are exchanged with Redis, a part of them
// near their limits: of those as much was taken as leaves them two fifths of their burst.
func BenchmarkNear(b *testing.B) {
	n := 1_000_000
	if once() {
		n = 10_000
	}
	for name, every := range map[string]int{"1_%": 100, "all": 1} {
		b.Run("near="+name+"/by=limiter/callers=none", func(b *testing.B) {
			before := heap()
			l := newLimiter(b, shared(b, limiter.Config{Limit: limiter.Per(1000, 24*time.Hour), MaxKeys: n + n/8 + 1<<14}))
			for range 2 { // the second time what was taken before has been exchanged
				for i := range n {
					cost := 1
					if i%every == 0 {
						cost = 300
					}
					if !l.AllowN(keys.Name(i), cost) {
						b.Fatal("denied")
					}
				}
				if err := l.Sync(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			taken := heap() - before
			for b.Loop() {
				l.Allow(keys.Name(1))
			}
			b.ReportMetric(float64(taken)/float64(n), "B/key")
		})
	}
}

// BenchmarkGrowth is how long it takes at the most to insert a key, while a shard grows to
// as many keys as one may have: the longest that a decision beside it can wait.
func BenchmarkGrowth(b *testing.B) {
	const size = 2048
	b.Run("keys=2048/by=limiter", func(b *testing.B) {
		seeds, slowest := table.NewSeeds(), time.Duration(0)
		for b.Loop() {
			var (
				t    table.Table
				most time.Duration
			)
			t.Init(size, 0, true, seeds)
			for i := range size {
				key := keys.Name(i)
				hash, begin := seeds.Hash(key), time.Now()
				t.Insert(hash, key, "", nil).Unlock()
				most = max(most, time.Since(begin))
			}
			slowest += most
		}
		b.ReportMetric(float64(slowest.Nanoseconds())/float64(b.N), "slowest-ns")
	})
}
