package benchmarks_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/benchmarks/internal/keys"
)

// BenchmarkTail measures the whole distribution of a decision's time, with that of the
// clock, while each of 100,000 keys is exchanged once a second, and without Redis. For
// the clock alone it measures an equal wait beside the same exchanges: the noise of the
// machine.
func BenchmarkTail(b *testing.B) {
	const n = 100_000
	// A key far from its limit is exchanged each time it could refill a
	// quarter of its burst: once a second here.
	local := limiter.Config{Limit: limiter.Limit{Rate: 1e6, Burst: 4e6}, MaxKeys: 2 * n}
	for _, name := range []string{"limiter", "limiter-local", "clock"} {
		b.Run("keys=1e5/by="+name, func(b *testing.B) {
			cfg := local
			if name != "limiter-local" {
				cfg = shared(b, local)
			}
			l := newLimiter(b, cfg)
			for i := range n {
				l.Allow(keys.Name(i))
			}
			asked := keys.NewSequence(1<<17, keys.Uniform(n, 1))
			b.Run("callers=1", func(b *testing.B) {
				askFor(warmUp(), l, asked) // exchanges are spread over the second by then
				tail(b, l, asked, name == "clock")
			})
		})
	}
}

func warmUp() time.Duration {
	if once() {
		return 0
	}
	return 1500 * time.Millisecond
}

func askFor(d time.Duration, l *limiter.Limiter, s keys.Sequence) {
	start := time.Now()
	for i := s.Start(); time.Since(start) < d; i++ {
		l.Allow(s.At(i))
	}
}

func tail(b *testing.B, l *limiter.Limiter, s keys.Sequence, clock bool) {
	var h histogram
	exchanged := l.Stats().KeysExchanged
	for i := s.Start(); b.Loop(); i++ {
		key := s.At(i)
		start := time.Now()
		l.Allow(key)
		took := time.Since(start)
		if clock {
			took = idle(took)
		}
		h.add(took)
	}
	for _, q := range []struct {
		unit  string
		share float64
	}{{"p50-ns", 0.5}, {"p99-ns", 0.99}, {"p99.9-ns", 0.999}, {"p99.99-ns", 0.9999}} {
		b.ReportMetric(float64(h.quantile(q.share)), q.unit)
	}
	b.ReportMetric(float64(l.Stats().KeysExchanged-exchanged)/b.Elapsed().Seconds(), "exchanged/s")
}

// idle reads the clock for as long as a decision took, unless that was interrupted, and
// returns the time.
func idle(d time.Duration) (took time.Duration) {
	const uninterrupted = time.Microsecond
	start := time.Now()
	for took < min(d, uninterrupted) {
		took = time.Since(start)
	}
	return took
}

// histogram holds times exactly: a count for each nanosecond below 65 us, and
// the few that are longer.
type histogram struct {
	count [1 << 16]uint32
	long  []int64
	total int
}

func (h *histogram) add(d time.Duration) {
	h.total++
	if int(d) < len(h.count) {
		h.count[d]++
		return
	}
	h.long = append(h.long, int64(d))
}

// quantile is the time within which that share of all fits.
func (h *histogram) quantile(share float64) int64 {
	rest := int(math.Ceil(share * float64(h.total)))
	for ns, n := range h.count {
		if rest -= int(n); rest <= 0 {
			return int64(ns)
		}
	}
	slices.Sort(h.long)
	return h.long[rest-1]
}

func TestHistogramTellsQuantiles(t *testing.T) {
	var h histogram
	for i := range 100_000 {
		h.add(time.Duration(100_000 - i))
	}
	for share, want := range map[float64]int64{0.5: 50_000, 0.99: 99_000, 0.9999: 99_990, 1: 100_000} {
		if got := h.quantile(share); got != want {
			t.Errorf("quantile(%v) = %d, want %d", share, got, want)
		}
	}
}
