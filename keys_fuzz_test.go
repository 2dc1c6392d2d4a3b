package limiter

import (
	"context"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

// fields is a state in memory that notes which fields it is told of.
type fields struct {
	state *exchange.Memory
	mu    sync.Mutex
	told  map[string]bool
}

func (x *fields) Exchange(ctx context.Context, fl *exchange.FleetCall, chunks []*exchange.Chunk) {
	x.state.Exchange(ctx, fl, chunks)
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range chunks {
		for i := range c.Records {
			x.told[strings.Clone(c.Records[i].Field)] = true
		}
	}
}

// FuzzKeys: any two keys are decided, exchanged and reset each by itself, and
// what stands for one in Redis begins with a type byte, is no longer than 65
// bytes and is nobody else's.
func FuzzKeys(f *testing.F) {
	for i, key := range oddKeys {
		f.Add(key, oddKeys[(i+1)%len(oddKeys)], i%2 == 0)
	}
	long := strings.Repeat("x", maxKey+1)
	digest := "d" + heldKey(long)[:digestSize]
	f.Add(long, digest[1:], false) // a digest as a key
	f.Add(long, digest, false)     // with the type byte of one
	f.Add("m", "\x00m", false)     // the scripts' own fields
	f.Add("\x00n12345678\x00", "n", false)
	f.Add("k", "kk", true)
	f.Add(long, long[1:]+"\x00", true)      // equal but for the end
	f.Add(long[1:], long[1:]+"\x00", false) // the longest that is held as it is
	f.Add("\x00", "", true)                 // the empty key is one too
	f.Add(digest[1:]+"\x00", digest, false) // padded like a digest that is held
	f.Fuzz(func(t *testing.T, a, b string, secret bool) {
		if a == b {
			t.Skip()
		}
		synctest.Test(t, func(t *testing.T) { twoKeys(t, a, b, secret) })
	})
}

func twoKeys(t *testing.T, a, b string, secret bool) {
	cfg := Config{Limit: Limit{Rate: 1e-3, Burst: 5}, Processes: 1, Logger: quiet}
	if secret {
		cfg.KeySecret = make([]byte, minSecret)
	}
	cfg, err := cfg.checked()
	if err != nil {
		t.Fatal(err)
	}
	x := &fields{state: exchange.NewMemory(testPartitions, time.Now), told: map[string]bool{}}
	l := newLimiter(cfg, x, testPartitions, 1)
	defer l.Close()
	if !l.Peek(a).Allowed || l.Stats().Keys != 0 {
		t.Error("Peek denies a fresh key, or makes it resident")
	}
	if !l.AllowN(a, 5) || l.Allow(a) {
		t.Error("the burst is not what is admitted")
	}
	if r := l.Take(b); !r.Allowed || r.Remaining != 4 {
		t.Errorf("after another key was used up: %+v", r)
	}
	ctx := context.Background()
	if err := l.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.Reset(ctx, a); err != nil {
		t.Fatal(err)
	}
	if ra, rb := l.Peek(a), l.Peek(b); ra.Remaining != 5 || rb.Remaining != 4 {
		t.Errorf("after a Reset of one: %d and %d are left", ra.Remaining, rb.Remaining)
	}
	x.mu.Lock()
	told := maps.Clone(x.told)
	x.mu.Unlock()
	if len(told) != 2 {
		t.Errorf("%d fields for two keys: %v", len(told), told)
	}
	for field := range told {
		checkField(t, field, a, b, secret)
	}
}

// checkField finds a field that Redis could take for something else.
func checkField(t *testing.T, field, a, b string, secret bool) {
	t.Helper()
	switch {
	case field[0] == 'd' && len(field) == 1+digestSize:
	case !secret && field[0] == 'k' && len(field) <= 1+maxKey && (field[1:] == a || field[1:] == b):
	default:
		t.Errorf("a field %q for %q and %q", field, a, b)
	}
}
