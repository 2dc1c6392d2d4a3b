package benchmarks_test

import (
	"hash/maphash"
	"sync"
	"testing"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/maypok86/otter/v2"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/benchmarks/internal/keys"
)

// decide answers one question. It is a func value, so that a call costs every
// subject the same: BenchmarkHarness says how much.
type decide func(key string) (allowed bool, err error)

// opened is a subject that has been set up.
type opened struct {
	decide   decide
	resident func() int   // keys that it holds; nil: all that were asked for
	settle   func() error // finishes what goes on in the background; nil: nothing does
}

// subject is a limiter to measure.
type subject struct {
	name    string
	bounded bool // holds no more than capacity keys, whatever is asked
	keyless bool // one limit for everybody: measured with one key only
	open    func(tb testing.TB, lim limiter.Limit, capacity int) opened
}

// subjects are all that decide in the process.
func subjects() []subject {
	return []subject{
		{name: "limiter", bounded: true, open: openShared},
		{name: "limiter-local", bounded: true, open: openLocal},
		{name: "x-time-rate", keyless: true, open: openBare},
		{name: "map-mutex", open: openMap},
		{name: "sync-map", open: openSyncMap},
		{name: "go-limiter", open: openGoLimiter},
		{name: "throttled-map", open: openThrottledMap},
		{name: "throttled-lru", bounded: true, open: openThrottledLRU},
		{name: "golang-lru", bounded: true, open: openLRU},
		{name: "sharded-lru", bounded: true, open: openShardedLRU},
		{name: "otter", bounded: true, open: openOtter},
		{name: "ulule", open: openUlule},
		{name: "tollbooth", open: openTollbooth},
		{name: "httprate", open: openHTTPRate},
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// openBare is the yardstick: no keys at all.
func openBare(_ testing.TB, lim limiter.Limit, _ int) opened {
	l := rate.NewLimiter(lim.Rate, lim.Burst)
	return opened{decide: func(string) (bool, error) { return l.Allow(), nil }}
}

// openMap opens a map with a mutex: the simplest limiter.
func openMap(_ testing.TB, lim limiter.Limit, _ int) opened {
	var mu sync.Mutex
	limiters := map[string]*rate.Limiter{}
	return opened{decide: func(key string) (bool, error) {
		mu.Lock()
		l, ok := limiters[key]
		if !ok {
			l = rate.NewLimiter(lim.Rate, lim.Burst)
			limiters[key] = l
		}
		mu.Unlock()
		return l.Allow(), nil
	}}
}

func openSyncMap(_ testing.TB, lim limiter.Limit, _ int) opened {
	var limiters sync.Map
	return opened{decide: func(key string) (bool, error) {
		l, ok := limiters.Load(key)
		if !ok {
			l, _ = limiters.LoadOrStore(key, rate.NewLimiter(lim.Rate, lim.Burst))
		}
		return l.(*rate.Limiter).Allow(), nil
	}}
}

func openLRU(tb testing.TB, lim limiter.Limit, capacity int) opened {
	cache := must(lru.New[string, *rate.Limiter](capacity))(tb)
	return opened{resident: cache.Len, decide: func(key string) (bool, error) {
		l, ok := cache.Get(key)
		if !ok {
			l = rate.NewLimiter(lim.Rate, lim.Burst)
			if there, found, _ := cache.PeekOrAdd(key, l); found {
				l = there
			}
		}
		return l.Allow(), nil
	}}
}

// lruShard is one of the shards of openShardedLRU.
type lruShard struct {
	mu  sync.Mutex
	lru *simplelru.LRU[string, *rate.Limiter]
	_   [48]byte // a cache line each
}

func (s *lruShard) get(key string, lim limiter.Limit) *rate.Limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.lru.Get(key)
	if !ok {
		l = rate.NewLimiter(lim.Rate, lim.Burst)
		s.lru.Add(key, l)
	}
	return l
}

// openShardedLRU opens a sharded LRU: the next simplest.
func openShardedLRU(tb testing.TB, lim limiter.Limit, capacity int) opened {
	var shards [64]lruShard
	seed := maphash.MakeSeed()
	for i := range shards {
		shards[i].lru = must(simplelru.NewLRU[string, *rate.Limiter](max(1, capacity/len(shards)), nil))(tb)
	}
	resident := func() (n int) {
		for i := range shards {
			n += shards[i].lru.Len()
		}
		return n
	}
	return opened{resident: resident, decide: func(key string) (bool, error) {
		sh := &shards[maphash.String(seed, key)%uint64(len(shards))]
		return sh.get(key, lim).Allow(), nil
	}}
}

func openOtter(tb testing.TB, lim limiter.Limit, capacity int) opened {
	cache := must(otter.New(&otter.Options[string, *rate.Limiter]{MaximumSize: capacity}))(tb)
	tb.Cleanup(func() { cache.StopAllGoroutines() })
	return opened{resident: cache.EstimatedSize, decide: func(key string) (bool, error) {
		l, ok := cache.GetIfPresent(key)
		if !ok {
			l, _ = cache.SetIfAbsent(key, rate.NewLimiter(lim.Rate, lim.Burst))
		}
		return l.Allow(), nil
	}}
}

func TestSubjectsKeepTheirLimit(t *testing.T) {
	t.Parallel()
	lim := limiter.Limit{Rate: 1e-3, Burst: 5}
	for _, s := range subjects() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			decide := s.open(t, lim, 1024).decide
			for i := range 2 * lim.Burst {
				allowed, err := decide("key")
				if want := i < lim.Burst; allowed != want || err != nil {
					t.Errorf("request %d of a burst of %d: %v, %v, want %v", i+1, lim.Burst, allowed, err, want)
				}
			}
		})
	}
}

func TestBoundedSubjectsHoldNoMore(t *testing.T) {
	t.Parallel()
	const capacity = 1024
	for _, s := range subjects() {
		if !s.bounded || s.name == "throttled-lru" { // which does not say
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			o := s.open(t, usual, capacity)
			for i := range 8 * capacity {
				_, err := o.decide(keys.Name(i))
				require.NoError(t, err)
			}
			if n := o.resident(); n > 2*capacity || n < capacity/2 { // otter is late
				t.Errorf("%d keys are resident, want about %d", n, capacity)
			}
		})
	}
}
