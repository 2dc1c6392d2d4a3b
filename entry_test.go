package limiter

import (
	"context"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestEntriesHaveNoPointers: a collection of garbage has nothing to follow in a
// resident key, and it fills its cache lines.
func TestEntriesHaveNoPointers(t *testing.T) {
	for _, e := range []any{entry{}, longEntry{}, longestEntry{}, account{}} {
		checkNoPointers(t, reflect.TypeOf(e))
		if size := reflect.TypeOf(e).Size(); size%64 != 0 {
			t.Errorf("%T takes %d bytes", e, size)
		}
	}
	if most := fieldSize + 1 + maxKey; most > longestText {
		t.Errorf("a text of %d bytes does not fit into %d", most, longestText)
	}
}

// residentEntry is the entry of a key, nil where the key is not resident.
func residentEntry(lo *local, key string) *entry {
	e := lo.find(key)
	if e != nil {
		e.mu.Unlock()
	}
	return e
}

// openedEntry is the entry of a resident key, whose account has been told everything.
func openedEntry(l *Limiter, key string) opened {
	return l.local.open(residentEntry(l.local, key), l.now())
}

// TestCountsOutgrowTheirEntry: what an entry has no room to count is counted all the same.
func TestCountsOutgrowTheirEntry(t *testing.T) {
	l := newTestLocal(t, Limit{Rate: 1, Burst: 3})
	l.Allow("k")
	e := residentEntry(l.local, "k")
	e.allowed, e.denied = 1<<31-1, 1<<31-1
	for range 4 {
		l.Allow("k")
	}
	const want = uint64(1<<31 + 1)
	if s := l.Stats(); s.Allowed != want || s.Denied != want {
		t.Errorf("%d allowed, %d denied, want %d of both", s.Allowed, s.Denied, want)
	}
}

func checkNoPointers(t *testing.T, typ reflect.Type) {
	t.Helper()
	switch typ.Kind() {
	case reflect.Struct:
		for f := range typ.Fields() {
			checkNoPointers(t, f.Type)
		}
	case reflect.Array:
		checkNoPointers(t, typ.Elem())
	case reflect.Bool, reflect.Float32, reflect.Float64, reflect.Int32, reflect.Int64,
		reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
	default:
		t.Errorf("there is a %v", typ)
	}
}

// TestWaitOutlivesEviction: who waits for a key that makes room for another goes
// on when its time has come, and nothing is kept of its wait.
func TestWaitOutlivesEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, Config{Limit: Limit{Rate: 1, Burst: 2}, MaxKeys: 1})
		defer f.close()
		m := f.members[0]
		m.Charge("a", 4)
		done := make(chan error, 1)
		go func() { done <- m.Wait(t.Context(), "a") }()
		synctest.Wait()
		kept := func() (n int) {
			m.local.grants.Range(func(any, any) bool { n++; return true })
			return n
		}
		require.Equal(t, 1, kept(), "nobody waits")
		m.Allow("b")
		synctest.Wait()
		if n := kept(); n != 0 {
			t.Errorf("%d keys that are not resident are waited for", n)
		}
		start := time.Now()
		require.NoError(t, <-done)
		if d := time.Since(start); d < time.Second || d > 10*time.Second {
			t.Errorf("it waited for %v", d)
		}
	})
}

// TestReservationOutlivesItsEntry: where the entry that a reservation is of has
// become another key's, it acts when it was to act, and what it gives back is
// neither that key's nor a present of its own: the fleet alone is told.
func TestReservationOutlivesItsEntry(t *testing.T) {
	for name, processes := range map[string]int{"no Redis": 0, "with Redis": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := Config{Limit: Limit{Rate: 1, Burst: 2}, MaxKeys: 1}
				l, sync := mustLimiter(t, cfg), func() {}
				if processes > 0 {
					f := newFleet(t, processes, cfg)
					defer f.close()
					until(t, "synced", func() bool { return f.members[0].Status().State == Synced })
					l = f.members[0].Limiter
					sync = func() { require.NoError(t, l.Sync(t.Context())) }
					defer func() {
						sync()
						if got := f.toGo("a").Round(time.Second / 10); got != 2*time.Second {
							t.Errorf("a's TAT is %v ahead, want what was taken and not given back, 2s", got)
						}
					}()
				}
				l.AllowN("a", 2)
				r := l.Reserve("a")
				require.Equal(t, time.Second, r.Delay())
				sync()
				require.True(t, l.Allow("b"))
				sync()
				require.Same(t, r.e, residentEntry(l.local, "b"), "the entry is not used again")
				if got := r.Delay(); got > time.Second || got < time.Second/2 {
					t.Errorf("a delay of %v, want what is left of 1s", got)
				}
				r.Cancel()
				time.Sleep(10 * time.Millisecond) // more than what is remembered of a key is rounded by
				if got := l.Peek("b").Remaining; got != 1 {
					t.Errorf("%d of b remain, want 1", got)
				}
				if got := l.Peek("a").Remaining; got != 0 {
					t.Errorf("%d of a remain, want 0", got)
				}
			})
		})
	}
}

// TestNobodyDecidesOnAnothersEntry: where entries become other keys' all the time,
// every decision, by name or by a handle, on one key or several, is by its key's
// own limit, and counted once.
func TestNobodyDecidesOnAnothersEntry(t *testing.T) {
	const keys, goroutines, each = 8, 4, 3000
	l := mustLimiter(t, Config{MaxKeys: 2, Limit: Per(1, time.Second), LimitFor: func(key string) (Limit, bool) {
		return Limit{Rate: 1e9, Burst: 1e9 + int(key[0])}, true
	}})
	names, handles := make([]string, keys), make([]*Key, keys)
	for i := range keys {
		names[i] = string(rune('a' + i))
		handles[i] = l.Key(names[i])
	}
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			check := func(i int, r Result) {
				if want := 1e9 + int(names[i][0]); r.Limit.Burst != want {
					t.Errorf("%q was decided on by a burst of %d, want %d", names[i], r.Limit.Burst, want)
				}
			}
			for n := range each {
				i, j := (n+g)%keys, (3*n+g)%keys
				check(i, handles[i].TakeN(0))
				check(j, l.TakeN(names[j], 0))
				r, tightest := TakeAll(l.Part(names[i], 0))
				check(i, r)
				if tightest != 0 {
					t.Errorf("the tightest of one is %d", tightest)
				}
			}
		})
	}
	all.Wait()
	s := l.Stats()
	if s.Evicted < each || s.Allowed+s.Denied != 3*goroutines*each {
		t.Errorf("%d evicted, %d decisions counted, want %d", s.Evicted, s.Allowed+s.Denied, 3*goroutines*each)
	}
}

// TestInsertionAtCapacityMakesNoEntry: a key that takes another's place takes its
// entry too.
func TestInsertionAtCapacityMakesNoEntry(t *testing.T) {
	l := mustLimiter(t, Config{Limit: Per(5, time.Second), MaxKeys: 64})
	made := func() (n int) {
		for sh := range l.local.eachShard() {
			for _, m := range sh.made {
				n += m
			}
		}
		return n
	}
	names := benchKeys(1000)
	for _, key := range names[:100] {
		l.Allow(key)
	}
	before := made()
	for _, key := range names {
		l.Allow(key)
	}
	if after := made(); before < 64 || before > 80 || after != before {
		t.Errorf("%d entries were made for 64 keys, %d when more had come", before, after)
	}
}

// TestUrgentKeysAreLookedFor: a key that is to be told at once says so when it is in
// the queue, and not before, when a round may look for it in vain.
func TestUrgentKeysAreLookedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, Config{Limit: Per(60, time.Minute), SyncInterval: time.Minute})
		defer f.close()
		a := f.members[0]
		a.Allow("k")
		resident := residentEntry(a.local, "k")
		resident.mu.Lock()
		e := a.local.open(resident, a.now())
		e.planBy(dueUrgent)
		if a.local.urgent.Load() {
			t.Error("looked for before it is in the queue")
		}
		a.local.unlock(e.entry)
		if !a.local.urgent.Load() {
			t.Error("not looked for before the next round")
		}
	})
}

// TestQueueOfEvictedKeysMoves: what is left of an evicted key is told as soon as somebody
// wants it told, though it was to wait; else a Sync would look for it in vain, round
// after round.
func TestQueueOfEvictedKeysMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, Config{Limit: Per(1000, time.Hour)})
		defer f.close()
		a := f.members[0]
		until(t, "in step", func() bool { return a.Status().State == Synced })
		sh, hash := a.local.locate("k")
		gone := a.local.loneEntry("k", hash, Per(1000, time.Hour), a.now())
		sh.mu.Lock()
		gone.mu.Lock()
		gone.charge(a.now(), 3)
		e := a.local.withAccount(gone)
		e.count(a.now(), 3, 3)
		sh.queueLocked(e, a.now()+int64(time.Hour))
		gone.mu.Unlock()
		sh.mu.Unlock()
		before := a.Stats().Rounds
		if err := a.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := a.Stats().Rounds - before; n > 5 {
			t.Errorf("%d rounds for one Sync", n)
		}
		if got, want := f.toGo("k"), 3*time.Hour/1000; got < want-time.Second || got > want {
			t.Errorf("it is %v from full in the fleet, want %v", got, want)
		}
	})
}
