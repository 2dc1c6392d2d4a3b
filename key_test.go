package limiter

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func mustLimiter(t *testing.T, cfg Config) *Limiter {
	t.Helper()
	l, err := New(cfg)
	require.NoError(t, err)
	return l
}

// TestHandleDecidesAsTheKeyDoes: whatever is asked of a key, by its name or by
// a handle, in whatever order, is one bucket's.
func TestHandleDecidesAsTheKeyDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
		defer cancel()
		rng := rand.New(rand.NewPCG(1, 1))
		named := mustLimiter(t, Config{Limit: Per(20, time.Second)})
		mixed := mustLimiter(t, Config{Limit: Per(20, time.Second)})
		k := mixed.Key("k")
		for i := range 5000 {
			n, byName := rng.IntN(25)-2, rng.IntN(2) == 0
			var want, got any
			switch op := rng.IntN(7); {
			case op == 0:
				want, got = named.AllowN("k", n), k.AllowN(n)
			case op == 1 && byName:
				want, got = named.TakeN("k", n), mixed.TakeN("k", n)
			case op == 1:
				want, got = named.TakeN("k", n), k.TakeN(n)
			case op == 2:
				named.Charge("k", n/8)
				k.Charge(n / 8)
			case op == 3:
				named.Refund("k", n/8)
				k.Refund(n / 8)
			case op == 4:
				a, b := named.ReserveN("k", n/4), k.ReserveN(n/4)
				want, got = fmt.Sprint(a.OK(), a.Delay()), fmt.Sprint(b.OK(), b.Delay())
				if byName {
					a.Cancel()
					b.Cancel()
				}
			case op == 6:
				a, _ := named.Estimate("k", n)
				b, _ := k.Estimate(n)
				a.Settle(n / 2)
				b.Settle(n / 2)
				want, got = a.Result(), b.Result()
			case op == 5:
				want, got = fmt.Sprint(named.WaitN(ctx, "k", n)), fmt.Sprint(k.WaitN(ctx, n))
			}
			if want != got {
				t.Fatalf("step %d: by name %v, by handle %v", i, want, got)
			}
			if want, got := named.Peek("k"), k.Peek(); want != got {
				t.Fatalf("step %d: by name %+v, by handle %+v", i, want, got)
			}
			time.Sleep(time.Duration(rng.IntN(int(100 * time.Millisecond))))
		}
	})
}

// TestHandleOutlivesEviction: a handle whose key has made room for others
// decides on the key's next entry, and not on the one that has gone.
func TestHandleOutlivesEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustLimiter(t, Config{Limit: Per(2, 1000*time.Hour), MaxKeys: 2})
		k := l.Key("k")
		require.Zero(t, l.Stats().Keys, "a handle is no use")
		require.True(t, k.Allow())
		for i := range 40 { // more than get a second chance
			l.Allow(fmt.Sprint("other", i))
		}
		before := l.Stats()
		require.Positive(t, before.Evicted)
		k.Take()
		if in := inMemory(l.local, "k"); in == nil || k.index.Load() != in.slot.Index() {
			t.Errorf("the handle has index %d of %+v", k.index.Load(), in)
		}
		if got := l.Stats().Allowed + l.Stats().Denied; got != before.Allowed+before.Denied+1 {
			t.Errorf("%d decisions counted, want %d", got, before.Allowed+before.Denied+1)
		}
	})
}

// TestHandleFollowsItsLimit: SetLimit, and what LimitFor says after Reload, hold
// for handles too.
func TestHandleFollowsItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var own atomic.Pointer[Limit]
		own.Store(&Limit{Rate: 1, Burst: 3})
		l := mustLimiter(t, Config{Limit: Per(9, time.Second), LimitFor: func(key string) (Limit, bool) { return *own.Load(), key == "own" }})
		def, k := l.Key("default"), l.Key("own")
		require.Equal(t, 9, def.Take().Limit.Burst)
		require.Equal(t, 3, k.Take().Limit.Burst)
		require.NoError(t, l.SetLimit(Per(7, time.Second)))
		own.Store(&Limit{Rate: 1, Burst: 5})
		l.Reload()
		if got := def.Take().Limit.Burst; got != 7 {
			t.Errorf("after SetLimit: burst %d, want 7", got)
		}
		if got := k.Take().Limit.Burst; got != 5 {
			t.Errorf("after Reload: burst %d, want 5", got)
		}
	})
}

// TestHandlesLoseNothing: handles that share few places with many keys admit
// no more, and count no less, than what there is.
func TestHandlesLoseNothing(t *testing.T) {
	onAllCores(t)
	const workers, each = 4, 3000
	l := mustLimiter(t, Config{Limit: Limit{Rate: 1e-9, Burst: workers * each}, MaxKeys: 8})
	var handles []*Key
	for i := range 32 {
		handles = append(handles, l.Key(fmt.Sprint(i)))
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 0))
			for range each {
				handles[rng.IntN(len(handles))].Allow()
			}
		})
	}
	wg.Wait()
	s := l.Stats()
	if s.Allowed+s.Denied != workers*each {
		t.Errorf("%d allowed and %d denied, of %d", s.Allowed, s.Denied, workers*each)
	}
	if n := testing.AllocsPerRun(100, func() { handles[0].Allow(); handles[0].Take() }); n != 0 {
		t.Errorf("a decision by handle allocates %v times", n)
	}
}

// TestDecisionsAtOnceAdmitTheBurst: whoever asks at the same time, by name or
// by handle, exactly the tokens that there are get admitted, and all decisions
// are counted.
func TestDecisionsAtOnceAdmitTheBurst(t *testing.T) {
	onAllCores(t)
	const workers, each, burst = 8, 4000, 10007
	l := mustLimiter(t, Config{Limit: Limit{Rate: 1e-9, Burst: burst}})
	k := l.Key("k")
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range each {
				if w%2 == 0 && k.Allow() || w%2 == 1 && l.Allow("k") {
					allowed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := allowed.Load(); got != burst {
		t.Errorf("%d admitted, want %d", got, burst)
	}
	if s := l.Stats(); s.Allowed != burst || s.Denied != workers*each-burst {
		t.Errorf("%d allowed and %d denied are counted, want %d and %d", s.Allowed, s.Denied, burst, workers*each-burst)
	}
}

// TestKeySecretIsChecked: New rejects an empty or short secret, so that a
// secret lost in configuration is an error.
func TestKeySecretIsChecked(t *testing.T) {
	limit := Per(100, time.Hour)
	for _, secret := range [][]byte{{}, []byte("short"), make([]byte, 15)} {
		_, err := New(Config{Limit: limit, KeySecret: secret})
		require.ErrorContains(t, err, "Config.KeySecret")
	}
	_, err := New(Config{Limit: limit, KeySecret: make([]byte, 16)})
	require.NoError(t, err)
}

// TestKeySecretCostsResidentKeysNothing: a decision on a key in memory
// computes no digest and allocates nothing.
func TestKeySecretCostsResidentKeysNothing(t *testing.T) {
	l, err := New(Config{Limit: Limit{Rate: 1e9, Burst: 1e6}, KeySecret: make([]byte, 32)})
	require.NoError(t, err)
	keys := []string{"alice@example.com", strings.Repeat("long alice@example.com ", 5)}
	for i := range 40 {
		keys = append(keys, fmt.Sprint("alice@example.com/", i))
	}
	for _, key := range keys {
		l.Allow(key)
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, key := range keys {
			l.Allow(key)
		}
	}); n != 0 {
		t.Errorf("a round of %d keys allocates %v times", len(keys), n)
	}
}
