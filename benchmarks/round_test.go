//go:build unix

package benchmarks_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/benchmarks/internal/keys"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// BenchmarkRound measures one round of 10,000 due keys: the CPU of this process and of
// Redis, and its length. It excludes the decisions that make the keys due, and the first
// round, which allocates the memory of the others.
func BenchmarkRound(b *testing.B) {
	const n = 10_000
	server := servertest.Server(b, redisserver.Options{})
	l := newLimiter(b, limiter.Config{
		Limit: ample, MaxKeys: 4 * n, Redis: tuned(b, server), Processes: 1,
		SyncInterval: time.Minute, // no round but those asked for
	})
	asked := keys.NewSequence(1<<14, countUp())
	b.Run("keys=1e4/by=limiter", func(b *testing.B) {
		b.ReportAllocs()
		var process, redis time.Duration
		ask := func() {
			for i := range n {
				l.Allow(asked.At(i))
			}
		}
		ask()
		if err := l.Sync(b.Context()); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			b.StopTimer()
			ask()
			redis -= redisCPU(b, server)
			process -= cpu(b)
			b.StartTimer()
			if err := l.Sync(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			process += cpu(b)
			redis += redisCPU(b, server)
			b.StartTimer()
		}
		perKey := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(b.N) / n }
		b.ReportMetric(perKey(process), "cpu-us/key")
		b.ReportMetric(perKey(redis), "redis-us/key")
	})
}

// countUp names every key once.
func countUp() keys.Order {
	i := -1
	return func() int { i++; return i }
}

// cpu is what this process has used so far.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
