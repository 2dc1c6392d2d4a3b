package benchmarks_test

import (
	"flag"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/benchmarks/internal/keys"
)

var (
	ample = limiter.Limit{Rate: 1e9, Burst: 1e9} // admits all that one key can be asked
	usual = limiter.Per(1000, time.Minute)       // admits all that each of a million can be
	roomy = limiter.Limit{Rate: 1e6, Burst: 1e9} // admits all that one key can be asked, and is exchanged every 15 s
	tight = limiter.Limit{Rate: 1e-6, Burst: 1}  // admits the first
)

// population is the keys of a benchmark, and their order.
type population struct {
	name  string // as it stands in a benchmark's name
	keys  int    // resident
	lim   limiter.Limit
	asked int // length of the sequence; a power of two
	order func(n int, seed uint64) keys.Order
	heap  bool // measure what they take
}

// populations are those of BenchmarkAllow. Where each benchmark only has to run
// once, as in continuous integration, a million keys would take minutes.
func populations() []population {
	many := population{"keys=1e6/dist=uniform", 1e6, usual, 1 << 20, keys.Uniform, true}
	among := population{"keys=1e4/resident=1e6/dist=zipf", 1e6, roomy, 1 << 17, hot, false}
	if once() {
		many = population{"keys=1e4/dist=uniform", 1e4, usual, 1 << 17, keys.Uniform, true}
		among = population{"keys=1e4/resident=2e4/dist=zipf", 2e4, roomy, 1 << 17, hot, false}
	}
	return []population{
		{"keys=1", 1, ample, 1 << 10, keys.Uniform, false},
		{"keys=1e4/dist=zipf", 1e4, ample, 1 << 17, keys.Zipf, false},
		many,
		among,
	}
}

// hot asks for 10,000 keys among n.
func hot(n int, seed uint64) keys.Order {
	next := keys.Zipf(1e4, seed)
	return func() int { return next() * (n / 1e4) }
}

// once says that times do not matter.
func once() bool { return flag.Lookup("test.benchtime").Value.String() == "1x" }

// BenchmarkAllow measures a decision on a key in memory. With many keys, callers=none is
// their cost: a full GC, and the heap.
func BenchmarkAllow(b *testing.B) {
	for _, p := range populations() {
		for _, s := range subjects() {
			if s.keyless && p.keys > 1 {
				continue
			}
			b.Run(p.name+"/by="+s.name, func(b *testing.B) {
				before := heap()
				o := filled(b, s, p.lim, p.keys)
				if p.heap {
					collect(b, float64(heap()-before)/float64(p.keys))
				}
				measure(b, o.decide, keys.NewSequence(p.asked, p.order(p.keys, 1)), true)
			})
		}
	}
}

// BenchmarkDeny is a decision over a key that has nothing left.
func BenchmarkDeny(b *testing.B) {
	for _, s := range subjects() {
		b.Run("keys=1/by="+s.name, func(b *testing.B) {
			o := filled(b, s, tight, 1)
			measure(b, o.decide, keys.NewSequence(1<<10, keys.Uniform(1, 1)), false)
		})
	}
}

// BenchmarkHarness measures the code around the decision: the next key and the call of
// a func value.
func BenchmarkHarness(b *testing.B) {
	for _, p := range populations() {
		b.Run(p.name, func(b *testing.B) {
			nothing := func(key string) (bool, error) { return key != "", nil }
			measure(b, nothing, keys.NewSequence(p.asked, p.order(p.keys, 1)), true)
		})
	}
}

// filled opens a subject with n keys in memory, and room to spare, so that uneven shards
// evict hardly any. Each key has had a request since its last report, as most keys in
// use: a key far from its limit is exchanged every 15 seconds.
func filled(b *testing.B, s subject, lim limiter.Limit, n int) opened {
	o := s.open(b, lim, n+n/8+1<<14)
	ask := func() {
		for i := range n {
			if ok, err := o.decide(keys.Name(i)); err != nil || !ok && lim != tight {
				b.Fatalf("key %d: %v, %v", i, ok, err)
			}
		}
	}
	ask()
	if o.settle != nil {
		if err := o.settle(); err != nil {
			b.Fatal(err)
		}
		ask()
	}
	if o.resident != nil && o.resident() < n-n/1000 {
		b.Fatalf("%d of %d keys are resident", o.resident(), n)
	}
	return o
}

// heap is what is in use once all garbage is gone, in bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func collect(b *testing.B, bytesPerKey float64) {
	b.Run("callers=none", func(b *testing.B) {
		for b.Loop() {
			runtime.GC()
		}
		b.ReportMetric(bytesPerKey, "B/key")
	})
}

// measure asks, alone and from all cores at once, and fails where an answer is
// not the one wanted.
func measure(b *testing.B, d decide, s keys.Sequence, want bool) {
	b.Run("callers=1", func(b *testing.B) {
		b.ReportAllocs()
		var t tally
		i := s.Start()
		for b.Loop() {
			t.add(d(s.At(i)))
			i++
		}
		t.report(b, want)
	})
	b.Run("callers=all", func(b *testing.B) {
		b.ReportAllocs()
		inParallel(b, d, s, want)
	})
}

func inParallel(b *testing.B, d decide, s keys.Sequence, want bool) {
	var all tally
	b.RunParallel(func(pb *testing.PB) {
		var t tally
		i := s.Start()
		for pb.Next() {
			t.add(d(s.At(i)))
			i++
		}
		atomic.AddInt64(&all.allowed, t.allowed)
		atomic.AddInt64(&all.denied, t.denied)
		atomic.AddInt64(&all.failed, t.failed)
	})
	all.report(b, want)
}

// tally counts the answers.
type tally struct{ allowed, denied, failed int64 }

func (t *tally) add(allowed bool, err error) {
	switch {
	case err != nil:
		t.failed++
	case allowed:
		t.allowed++
	default:
		t.denied++
	}
}

// report fails if decisions are wrong, and reports those that are errors: throttled's
// LRU has some.
func (t *tally) report(b *testing.B, want bool) {
	wrong := t.denied
	if !want {
		wrong = t.allowed
	}
	if wrong > 0 {
		b.Fatalf("%d of %d answers are wrong", wrong, t.allowed+t.denied+t.failed)
	}
	if t.failed > 0 {
		b.ReportMetric(float64(t.failed)/float64(b.N), "errors/op")
	}
}
