package limiter

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter/internal/exchange"

	"github.com/seed-e56e777b/limiter/internal/simnet"
)

// many is a limit that admits all that a benchmark can ask for.
var many = Limit{Rate: 1e9, Burst: 1e9}

// benchFleet is a limiter that exchanges with a state in memory.
func benchFleet(b *testing.B, cfg Config) *Limiter {
	b.Helper()
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	cfg, err := cfg.checked()
	if err != nil {
		b.Fatal(err)
	}
	state := &benchState{}
	state.forget()
	l := newLimiter(cfg, state, simnet.Partitions, 1)
	b.Cleanup(func() { _ = l.Close() })
	return l
}

// benchState is what Redis would hold, on the heap until it is forgotten.
type benchState struct {
	held atomic.Pointer[exchange.Memory]
}

func (s *benchState) Exchange(ctx context.Context, fleet *exchange.FleetCall, chunks []*exchange.Chunk) {
	s.held.Load().Exchange(ctx, fleet, chunks)
}

func (s *benchState) forget() { s.held.Store(exchange.NewMemory(simnet.Partitions, time.Now)) }

func benchKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("user:%08d", i)
	}
	return keys
}

// picks is a long list of indices into n keys, uniform or Zipf 1.1.
func picks(n int, zipf bool) []int {
	rng := rand.New(rand.NewPCG(1, 1))
	z := rand.NewZipf(rng, 1.1, 1, uint64(max(1, n-1)))
	list := make([]int, 1<<20)
	for i := range list {
		if list[i] = rng.IntN(n); zipf {
			list[i] = int(z.Uint64())
		}
	}
	return list
}

// BenchmarkXTimeRate is the yardstick: a bare limiter without keys.
func BenchmarkXTimeRate(b *testing.B) {
	b.Run("serial", func(b *testing.B) {
		l := rate.NewLimiter(many.Rate, many.Burst)
		for b.Loop() {
			l.Allow()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		l := rate.NewLimiter(many.Rate, many.Burst)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				l.Allow()
			}
		})
	})
}

// BenchmarkAllow is a decision on a resident key; in a fleet its syncer is at
// work.
func BenchmarkAllow(b *testing.B) {
	for _, keys := range []struct {
		name string
		n    int
		zipf bool
		lim  Limit
		own  func(key string) (Limit, bool)
	}{
		{"keys=1", 1, false, many, nil},
		{"keys=1/denied", 1, false, Limit{Rate: 1e-6, Burst: 1}, nil},
		{"keys=1e4/denied", 1e4, false, Limit{Rate: 1e-6, Burst: 1}, nil},
		{"keys=1e4/dist=zipf", 1e4, true, many, nil},
		{"keys=1e6/dist=uniform", 1e6, false, many, nil},
		{"keys=1e6/dist=uniform/limits=own", 1e6, false, many, ownLimits()},
	} {
		for _, kind := range []string{"local", "fleet"} {
			b.Run(keys.name+"/"+kind, func(b *testing.B) {
				l, list := benchKind(b, kind, Config{Limit: keys.lim, LimitFor: keys.own, MaxKeys: 1 << 21}), benchKeys(keys.n)
				order := picks(keys.n, keys.zipf)
				for _, k := range list {
					l.Allow(k)
				}
				benchDecide(b, func(i int) { l.Allow(list[order[i&(len(order)-1)]]) })
			})
		}
	}
}

// ownLimits returns a LimitFor that gives each key a limit of its own.
func ownLimits() func(key string) (Limit, bool) {
	var made atomic.Int64
	return func(string) (Limit, bool) {
		return Limit{Rate: many.Rate, Burst: many.Burst + int(made.Add(1))}, true
	}
}

// BenchmarkKeyAllow is a decision through a key's handle.
func BenchmarkKeyAllow(b *testing.B) {
	for _, kind := range []string{"local", "fleet"} {
		b.Run(kind, func(b *testing.B) {
			k := benchKind(b, kind, Config{Limit: many}).Key("key")
			benchDecide(b, func(int) { k.Allow() })
		})
	}
}

// BenchmarkStep is what a decision on a resident key is made of, each by itself.
func BenchmarkStep(b *testing.B) {
	l := benchFleet(b, Config{Limit: many})
	l.Allow("user:00000001")
	const key = "user:00000001"
	sh, hash := l.local.locate(key)
	k := inMemory(l.local, key)
	now := l.now()
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"clock", func() { l.now() }},
		{"hash", func() { l.local.locate(key) }},
		{"find", func() { // and lock
			ref, _ := sh.keys.Find(hash, key, true)
			ref.Unlock()
		}},
		{"at", func() { // as a handle does
			ref, _ := sh.keys.At(k.slot.Index(), hash, key)
			ref.Unlock()
		}},
		{"lock", func() { k.slot.Lock(); k.slot.Unlock() }}, //nolint:gocritic,staticcheck // an empty section is what is measured
		{"bucket", func() {
			now += 100
			if level := k.bucket.LevelAt(now); k.admits(level, 1) {
				k.bucket.Set(now, level-1)
			}
		}},
		{"buffer", func() {
			if !k.buffer.Add(1, true) {
				l.Allow(key) // flushes it
			}
		}},
		{"flush", func() {
			k.account.FastUntil = 0
			k.record(l.now(), 1, true)
		}},
		{"none", func() {}},
	} {
		b.Run(step.name, func(b *testing.B) {
			for b.Loop() {
				step.do()
			}
		})
	}
}

// BenchmarkStepOfMany is the same where keys are asked for at random, each step with
// those before it: the clock waits for what was begun before it is read.
func BenchmarkStepOfMany(b *testing.B) {
	for _, n := range []int{1e4, 1e6} {
		l := benchLocal(b, Config{Limit: many, MaxKeys: 2 * n})
		keys, order := benchKeys(n), picks(n, false)
		for _, k := range keys {
			l.Allow(k)
		}
		find := func(k string) {
			sh, hash := l.local.locate(k)
			ref, _ := sh.keys.Find(hash, k, true)
			ref.Unlock()
		}
		for _, step := range []struct {
			name string
			do   func(k string)
		}{
			{"clock", func(string) { l.now() }},
			{"find", func(k string) { l.now(); find(k) }},
			{"allow", func(k string) { l.Allow(k) }},
		} {
			b.Run(fmt.Sprintf("keys=%d/to=%s", n, step.name), func(b *testing.B) {
				i := 0
				for b.Loop() {
					step.do(keys[order[i&(len(order)-1)]])
					i++
				}
			})
		}
	}
}

// benchDecide has decisions made by one goroutine, and by one for each core.
func benchDecide(b *testing.B, decide func(i int)) {
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			decide(i)
			i++
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		var start atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			for i := int(start.Add(1)) * 7919; pb.Next(); i++ {
				decide(i)
			}
		})
	})
}

func benchKind(b *testing.B, kind string, cfg Config) *Limiter {
	b.Helper()
	if kind == "fleet" {
		return benchFleet(b, cfg)
	}
	return benchLocal(b, cfg)
}

func benchLocal(b *testing.B, cfg Config) *Limiter {
	b.Helper()
	l, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	return l
}

func BenchmarkTake(b *testing.B) {
	l := benchFleet(b, Config{Limit: many})
	for b.Loop() {
		l.Take("key")
	}
}

// BenchmarkFirstContact is a key that takes the place of another.
func BenchmarkFirstContact(b *testing.B) {
	l := benchFleet(b, Config{Limit: many, MaxKeys: 1 << 14})
	keys := benchKeys(1 << 20)
	for _, k := range keys[:1<<14] {
		l.Allow(k)
	}
	b.ReportAllocs()
	i := 1 << 14
	for b.Loop() {
		l.Allow(keys[i&(1<<20-1)])
		i++
	}
}

// BenchmarkResidentKey is the heap that a key in memory takes, its text of 13 bytes
// included.
func BenchmarkResidentKey(b *testing.B) {
	const n = 50000
	for _, of := range []struct {
		name, kind string
		own        func(key string) (Limit, bool)
	}{
		{"local", "local", nil},
		{"local/limits=own", "local", ownLimits()},
		{"fleet", "fleet", nil},
	} {
		b.Run(of.name, func(b *testing.B) {
			keys := benchKeys(n)
			before := heapInUse()
			l := benchKind(b, of.kind, Config{Limit: Per(1000, time.Minute), LimitFor: of.own})
			for _, k := range keys {
				l.Allow(k)
			}
			if err := l.Sync(b.Context()); err != nil {
				b.Fatal(err)
			}
			if l.syncer != nil {
				l.syncer.store.(*benchState).forget()
			}
			for b.Loop() {
				l.Allow(keys[0])
			}
			b.ReportMetric(float64(heapInUse()-before)/float64(l.Stats().Keys), "B/key")
			runtime.KeepAlive(keys)
		})
	}
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkStats looks at every resident key.
func BenchmarkStats(b *testing.B) {
	const n = 50000
	l := benchLocal(b, Config{Limit: many})
	for _, k := range benchKeys(n) {
		l.Allow(k)
	}
	for b.Loop() {
		l.Stats()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/key")
}

// BenchmarkWait is a wait that need not wait, beside Allow.
func BenchmarkWait(b *testing.B) {
	l := benchFleet(b, Config{Limit: many})
	ctx := context.Background()
	b.Run("Wait", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := l.Wait(ctx, "key"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Allow", func(b *testing.B) {
		for b.Loop() {
			if !l.Allow("key") {
				b.Fatal("denied")
			}
		}
	})
}

// BenchmarkWaiters is one admission of a key that 10,000 goroutines wait for in
// loops, at a limit that leaves them no time between admissions, and at 1,000/s.
// x/time/rate is beside it.
func BenchmarkWaiters(b *testing.B) {
	const waiters = 10_000
	for _, r := range []rate.Limit{1e6, 1000} {
		lim := Limit{Rate: r, Burst: 1}
		for name, wait := range map[string]func(context.Context) error{
			"limiter": func() func(context.Context) error {
				l := benchLocal(b, Config{Limit: lim})
				return func(ctx context.Context) error { return l.Wait(ctx, "key") }
			}(),
			"x_time": rate.NewLimiter(lim.Rate, lim.Burst).Wait,
		} {
			b.Run(fmt.Sprintf("rate=%v/%s", float64(r), name), func(b *testing.B) {
				ctx, cancel := context.WithCancel(b.Context())
				served := make(chan struct{}, waiters)
				var all sync.WaitGroup
				for range waiters {
					all.Go(func() {
						for wait(ctx) == nil {
							served <- struct{}{}
						}
					})
				}
				for range waiters / 10 {
					<-served
				}
				for b.Loop() {
					<-served
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "admitted/s")
				cancel()
				go func() {
					for range served {
					}
				}()
				all.Wait()
				close(served)
			})
		}
	}
}

// BenchmarkRound is one round of 10,000 due keys, the shared state in memory.
func BenchmarkRound(b *testing.B) {
	const n = 10000
	l := benchFleet(b, Config{Limit: many, SyncInterval: time.Minute})
	keys := benchKeys(n)
	b.ReportAllocs()
	for b.Loop() {
		for _, k := range keys {
			l.Allow(k)
		}
		if err := l.Sync(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/key")
}

// BenchmarkFlood is what a fresh key costs that takes another's place, without
// Redis, with it, and while it is down: the queue of what evicted keys have not
// told is full then.
func BenchmarkFlood(b *testing.B) {
	for _, maxKeys := range []int{1 << 10, 1 << 14, 1 << 18} {
		for _, way := range []fault{redisAbsent, redisUp, redisDown} {
			b.Run(fmt.Sprintf("MaxKeys=%d/%s", maxKeys, way), func(b *testing.B) {
				cfg := Config{Limit: many, MaxKeys: maxKeys}
				l := benchLocal(b, cfg)
				if way != redisAbsent {
					f := newFleet(b, 1, cfg)
					b.Cleanup(f.close)
					l = f.members[0].Limiter
					f.Down.Store(way == redisDown)
				}
				keys := benchKeys(3*maxKeys + 1<<16)
				for _, k := range keys[:3*maxKeys] {
					l.Allow(k)
				}
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					l.Allow(keys[i%len(keys)])
					i++
				}
			})
		}
	}
}
