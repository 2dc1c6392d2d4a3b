package limiter

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter/internal/account"
	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/keyform"
	"github.com/seed-e56e777b/limiter/internal/longtest"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/table"
	"github.com/seed-e56e777b/limiter/internal/topkeys"
)

// TestAccountsHaveNoPointers: the GC has nothing to follow in what is kept of a key.
func TestAccountsHaveNoPointers(t *testing.T) {
	checkNoPointers(t, reflect.TypeFor[account.Account]())
}

// inMemory is a copy of a key in memory, nil where it is not.
func inMemory(lo *local, key string) *lockedKey {
	var k lockedKey
	if !lo.find(&k, keyform.Local(key), mono.Now(lo.base)) {
		return nil
	}
	seen := k
	if k.account != nil {
		a := *k.account
		seen.account = &a
	}
	k.unlock()
	return &seen
}

// flushed is a copy of a key in memory, whose account has been told everything.
func flushed(l *Limiter, key string) *lockedKey {
	var k lockedKey
	l.local.find(&k, keyform.Local(key), l.now())
	k.promote()
	k.flush(l.now())
	k.unlock()
	return &k
}

// TestCountsOutgrowTheirSlot: what a slot has no room to count is counted all the same.
func TestCountsOutgrowTheirSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLocal(t, Limit{Rate: 1, Burst: 600})
		for range 600 + 700 {
			l.Allow("k")
		}
		if s := l.Stats(); s.Allowed != 600 || s.Denied != 700 {
			t.Errorf("%d allowed, %d denied, want 600 and 700", s.Allowed, s.Denied)
		}
	})
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
		require.Equal(t, 1, m.Stats().Waiting, "nobody waits")
		m.Allow("b")
		synctest.Wait()
		require.Nil(t, inMemory(m.local, "a"))
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
						if got := f.ToGo("a").Round(time.Second / 10); got != 2*time.Second {
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
	onAllCores(t)
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

// TestInsertionAtCapacityMakesNoAccount: a key that takes another's slot takes its account
// too, if that has nothing to report.
func TestInsertionAtCapacityMakesNoAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, Config{Limit: Per(5, time.Second), MaxKeys: 64})
		defer f.close()
		l := f.members[0].Limiter
		sh := &l.local.shards[0].shard
		for _, key := range benchKeys(1000) {
			l.AllowN(key, 6) // denied: it has an account
		}
		if n := sh.accounts.Made(); n < 60 || n > 80 {
			t.Errorf("%d accounts were made for 64 keys", n)
		}
	})
}

// TestUrgentKeysAreLookedFor: a key that is to be told at once says so when it is in
// the queue, and not before, when a round may look for it in vain.
func TestUrgentKeysAreLookedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, Config{Limit: Per(60, time.Minute), SyncInterval: time.Minute})
		defer f.close()
		a := f.members[0]
		a.Allow("k")
		var k lockedKey
		if !a.local.find(&k, "k", a.now()) || a.local.urgent.Load() {
			t.Fatal("not in memory, or looked for before it is due")
		}
		k.scheduleBy(dueUrgent)
		k.unlock()
		if !k.slot.Marked(table.Due) || k.shard.nextScan.Load() != dueUrgent {
			t.Error("urgent, and not found")
		}
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
		sh, _ := a.local.locate("k")
		var k lockedKey
		sh.makeOrphan(&k, "k", Per(1000, time.Hour), a.now())
		k.bucket.Charge(a.now(), 3)
		k.account.Count(a.now(), 3, 3, k.bucket.Rate, a.local.params.Load())
		k.save()
		sh.mu.Lock()
		sh.addOrphanShardLocked(k.orphan)
		k.scheduleBy(a.now().Add(time.Hour))
		sh.mu.Unlock()
		before := a.Stats().Rounds
		if err := a.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := a.Stats().Rounds - before; n > 5 {
			t.Errorf("%d rounds for one Sync", n)
		}
		if got, want := f.ToGo("k"), 3*time.Hour/1000; got < want-time.Second || got > want {
			t.Errorf("it is %v from full in the fleet, want %v", got, want)
		}
	})
}

// TestDemandOfWhatWaits: what decisions note in their entry becomes the demand that
// it was, within a hundredth, be it allowed, denied, or both, and be they so many
// that the entry has no room.
func TestDemandOfWhatWaits(t *testing.T) {
	for name, lim := range map[string]Limit{
		"allowed":   {Rate: 1e6, Burst: 1e6},
		"far below": {Rate: 1e5, Burst: 1e7},
		"denied":    {Rate: 1e-3, Burst: 1},
		"of either": {Rate: 300, Burst: 1},
	} {
		for _, cost := range []int{1, 100} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFleet(t, 2, Config{Limit: lim.WithBurst(lim.Burst * cost)})
					defer f.close()
					m := f.members[0]
					waits := 0
					for range 5000 {
						time.Sleep(time.Millisecond)
						m.AllowN("k", cost)
						if inMemory(m.local, "k").buffer.Attempts != 0 {
							waits++
						}
					}
					if waits < 4000 {
						t.Errorf("%d of 5000 decisions were noted in the buffer", waits)
					}
					a := flushed(m.Limiter, "k").account
					if got, want := a.OwnDemand(m.now(), m.local.params.Load()), 1000*float64(cost); math.Abs(got/want-1) > 0.01 {
						t.Errorf("a demand of %.0f/s, want %.0f", got, want)
					}
				})
			})
		}
	}
}

// TestWhatWaitsIsChargedAsItCame: a key far from its limit is exchanged now and then,
// and noted in its entry meanwhile; whenever what was taken came, the fleet's bucket
// is then as full as one that was asked each time.
func TestWhatWaitsIsChargedAsItCame(t *testing.T) {
	lim := Limit{Rate: 10, Burst: 1000}
	for name, gaps := range map[string][]time.Duration{ // before so many costs of 1 each
		"at once":       {0},
		"late":          {13 * time.Second},
		"in the middle": {7 * time.Second, 6 * time.Second},
		"thrice":        {time.Second, 3 * time.Second, 9 * time.Second},
		"rarely":        {time.Second, time.Second, time.Second, time.Second, time.Second},
		"at the last":   {14900 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, 1, Config{Limit: lim})
				defer f.close()
				m := f.members[0]
				until(t, "in step", func() bool { return m.Status().State == Synced })
				central := rate.NewLimiter(lim.Rate, lim.Burst)
				take := func() {
					central.Allow()
					m.Allow("k")
				}
				take()
				for i, gap := range gaps {
					time.Sleep(gap)
					for range 150 / (i + 1) {
						take()
					}
				}
				if err := m.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
				got := float64(lim.Burst) - f.ToGo("k").Seconds()*float64(lim.Rate)
				if want := central.Tokens(); math.Abs(got-want) > 1 {
					t.Errorf("the fleet's bucket has %.1f tokens, want %.1f", got, want)
				}
			})
		})
	}
}

// TestNothingWaitsInAnOutage: who decides by its entry alone sees at once that its
// grant can't be renewed.
func TestNothingWaitsInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, Config{Limit: Limit{Rate: 1e6, Burst: 1e6}})
		defer f.close()
		m := f.members[0]
		until(t, "all see each other", func() bool { return m.Status().Processes == 2 })
		f.Down.Store(true)
		for m.Allow("k"); !m.local.stale.Load(); m.Allow("k") {
			time.Sleep(time.Millisecond)
		}
		m.Allow("k")
		if mode := inMemory(m.local, "k").bucket.Mode; mode != bucket.Stale {
			t.Errorf("mode %v when the grant can't be renewed", mode)
		}
	})
}

// restingFleet is one of two processes in which a key was asked for long ago, and now rests in
// the first process; "busy" is asked for all the time.
func restingFleet(t *testing.T, cfg Config) (f *fleet, a, b *member) {
	t.Helper()
	cfg.MaxKeys = 10
	f = newFleet(t, 2, cfg)
	t.Cleanup(f.close)
	a, b = f.members[0], f.members[1]
	until(t, "all see each other", func() bool { return a.Status().Processes == 2 })
	if !a.AllowN("k", 4) {
		t.Fatal("denied")
	}
	letRest(t, a, b)
	return f, a, b
}

// letRest asks for "busy" until the key "k" rests in the first of two processes.
func letRest(t *testing.T, a, b *member) {
	t.Helper()
	for range account.IdleAfter/time.Second + 2*demoteEvery/time.Second {
		a.Allow("busy")
		b.Allow("busy")
		time.Sleep(time.Second)
	}
	if inMemory(a.local, "k").flags.is(hasAccount) {
		t.Fatal("a key that nobody asked for does not rest")
	}
}

// TestQuietKeysKeepNoAccount: what is kept of a key for the exchange is there for
// others while nobody asks for the key, and is made anew when somebody does. Not
// that of a key that is asked for, here or elsewhere.
func TestQuietKeysKeepNoAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, _ := restingFleet(t, Config{Limit: Per(60, time.Minute)})
		sh, _ := a.local.locate("k")
		if sh.accounts.Made() == sh.accounts.InUse() {
			t.Error("nothing has become free")
		}
		if r := a.Peek("k"); r.Remaining != 60 || r.ResetAfter != 0 || inMemory(a.local, "k").flags.is(hasAccount) {
			t.Errorf("Peek = %+v of a key that rests, want a full one", r)
		}
		key := a.Key("k")
		for range 60 {
			if !key.Allow() {
				t.Fatal("denied, of a full bucket")
			}
		}
		if key.Allow() {
			t.Error("a key that has rested admits more than its burst")
		}
		if err := a.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got, want := f.ToGo("k"), time.Minute; got < want-time.Second || got > want {
			t.Errorf("the fleet's bucket is %v from full, want %v", got, want)
		}
	})
}

// TestNewsReachesKeysAtRest: what the fleet tells of a key is known at its next
// decision, though it had no account to write it into.
func TestNewsReachesKeysAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := restingFleet(t, Config{Limit: Per(60, time.Minute)})
		b.Charge("k", 120)
		until(t, "the news is heard", func() bool {
			_, ok := a.local.news.Get("kk", a.now())
			return ok
		})
		if a.Allow("k") {
			t.Error("allowed, though the fleet has nothing left")
		}
	})
}

// TestKeysAtRestAreReset: in Redis too, where others have used them.
func TestKeysAtRestAreReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, b := restingFleet(t, Config{Limit: Per(60, time.Minute)})
		b.Charge("k", 30)
		if err := b.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := a.Reset(context.Background(), "k"); err != nil {
			t.Fatal(err)
		}
		if got := f.ToGo("k"); got > 0 {
			t.Errorf("the fleet's bucket is %v from full after a Reset", got)
		}
	})
}

// TestKeysAtRestGetNewLimits: by SetLimit and by Reload, one that is not shared too.
func TestKeysAtRestGetNewLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := Per(60, time.Minute)
		limitFor := func(key string) (Limit, bool) { return limits, key == "k" }
		_, a, _ := restingFleet(t, Config{Limit: Per(60, time.Minute), LimitFor: limitFor})
		for _, want := range []Limit{Per(90, time.Minute), {Rate: rate.Inf}, Per(30, time.Minute)} {
			limits = want
			a.Reload()
			if got := a.Peek("k").Limit; got != want {
				t.Errorf("a limit of %v, want %v", got, want)
			}
		}
		if a.AllowN("k", 31) || !a.AllowN("k", 30) || a.Allow("k") {
			t.Error("not decided by the new limit")
		}
		if inMemory(a.local, "k").account == nil {
			t.Error("a key of a shared limit has no account")
		}
	})
}

// TestPeekKnowsTheNewsOfKeysAtRest: as the decision that comes next.
func TestPeekKnowsTheNewsOfKeysAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := restingFleet(t, Config{Limit: Per(60, time.Minute)})
		b.Charge("k", 120)
		until(t, "the news is heard", func() bool { return !a.Peek("k").Allowed })
		if got, want := a.Peek("k"), a.Take("k"); got.Allowed || got.RetryAfter != want.RetryAfter || got.ResetAfter != want.ResetAfter {
			t.Errorf("Peek = %+v, and then Take = %+v", got, want)
		}
	})
}

// TestResetOutlivesNewsOfKeysAtRest: here in any case, though Redis was not asked.
func TestResetOutlivesNewsOfKeysAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := restingFleet(t, Config{Limit: Per(60, time.Minute)})
		b.Charge("k", 120)
		until(t, "the news is heard", func() bool { return !a.Peek("k").Allowed })
		a.Cut.Store(true)
		called, off := context.WithCancel(context.Background())
		off()
		if a.Reset(called, "k") == nil {
			t.Error("a Reset that was called off says that it was done")
		}
		if !a.Allow("k") {
			t.Error("denied after a Reset, for what was heard before")
		}
	})
}

// TestRefundOutlivesNewsOfKeysAtRest: what was heard of a key before the fleet had it back
// is nothing to deny it for when it wakes.
func TestRefundOutlivesNewsOfKeysAtRest(t *testing.T) {
	if testing.Short() {
		t.Skip("runs without -short: a quarter of an hour of rounds")
	}
	synctest.Test(t, func(t *testing.T) {
		_, a, b := restingFleet(t, Config{Limit: Per(1000, 10*time.Hour)})
		b.Charge("k", 900)
		until(t, "the news is heard", func() bool { return a.Peek("k").Remaining < 500 })
		a.Allow("k")
		b.Refund("k", 900)
		if err := b.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		for range 15 { // until the others' demand is forgotten
			a.Allow("k")
			time.Sleep(time.Minute)
		}
		letRest(t, a, b)
		if got := a.Peek("k").Remaining; got < 950 {
			t.Errorf("%d remain of 1000 that the fleet has", got)
		}
	})
}

// inUse is the number of accounts that keys have.
func (lo *local) inUse() (n int) {
	for sh := range lo.eachShard() {
		n += sh.accounts.InUse()
	}
	return n
}

// TestAccountsGoAfterAnOutage: also those of keys that were looked at in it, and not used.
func TestAccountsGoAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, Config{Limit: Limit{Rate: 10, Burst: 20}})
		defer f.close()
		m, keys := f.members[0], benchKeys(100)
		until(t, "synced", func() bool { return m.Status().State == Synced })
		for range 50 {
			for _, key := range keys {
				m.Allow(key)
			}
			time.Sleep(10 * time.Millisecond)
		}
		require.NoError(t, syncNow(m.Limiter))
		require.Positive(t, m.local.inUse(), "no key is near its limit")
		m.Cut.Store(true)
		m.Allow("other")
		until(t, "cut off", func() bool { return m.Status().State == Degraded })
		for _, key := range keys {
			m.AllowN(key, 0)
		}
		m.Cut.Store(false)
		until(t, "synced again", func() bool { return m.Status().State == Synced })
		time.Sleep(5 * time.Minute)
		if n := m.local.inUse(); n > 10 {
			t.Errorf("%d accounts are kept", n)
		}
	})
}

// TestAccountsOfReservationsGo: without Redis, when they have acted.
func TestAccountsOfReservationsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustLimiter(t, Config{Limit: Limit{Rate: 10, Burst: 20}, MaxKeys: 2000})
		keys := benchKeys(1000)
		for _, key := range keys {
			l.Reserve(key)
			l.ReserveN(key, 20)
		}
		require.Len(t, keys, l.local.inUse())
		time.Sleep(2 * demoteEvery)
		l.Reserve("other")
		if n := l.local.inUse(); n > 1 {
			t.Errorf("%d accounts are kept", n)
		}
	})
}

// TestAccountsServeALimitThatIsSharedLater: what is taken of a key whose limit was none,
// and that has been reserved, is reported, and to its own partition.
func TestAccountsServeALimitThatIsSharedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var limit Limit
		f := newFleet(t, 1, Config{Limit: Limit{Rate: rate.Inf}, LimitFor: func(string) (Limit, bool) { return limit, true }})
		defer f.close()
		l := f.members[0].Limiter
		until(t, "synced", func() bool { return l.Status().State == Synced })
		for _, key := range benchKeys(20) {
			limit = Limit{}
			require.True(t, l.ReserveN(key, 0).OK())
			time.Sleep(time.Second)
			limit = Limit{Rate: 1, Burst: 100}
			l.Reload()
			for _, n := range []int{50, 20} {
				time.Sleep(time.Second)
				before := f.ToGo(key)
				require.True(t, l.AllowN(key, n))
				require.NoError(t, syncNow(l))
				if got := f.ToGo(key) - max(0, before); got < time.Duration(n-1)*time.Second {
					t.Errorf("%q: %d tokens were charged as %v", key, n, got)
				}
			}
		}
	})
}

// TestSyncEndsInAFlood: what came after it was called is not its concern.
func TestSyncEndsInAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, Config{Limit: Limit{Rate: 1, Burst: 100}, MaxKeys: 32})
		defer f.close()
		l := f.members[0].Limiter
		until(t, "synced", func() bool { return l.Status().State == Synced })
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				l.Allow(strconv.Itoa(i))
				time.Sleep(20 * time.Microsecond)
			}
		})
		time.Sleep(longtest.Choose(time.Second/4, time.Second, time.Second))
		begin := time.Now()
		if err := syncNow(l); err != nil || time.Since(begin) > time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		stop()
		all.Wait()
	})
}

// TestPeekBesideEvictions: in an outage, where what is seen is brought up to date.
func TestPeekBesideEvictions(t *testing.T) {
	onAllCores(t)
	p, f := newTap(), &fleet{t: t}
	cfg := Config{Limit: Limit{Rate: 100, Burst: 100}, MaxKeys: 200, Processes: 2, SyncInterval: 50 * time.Millisecond}
	l, other := p.join(f, cfg), p.join(f, cfg)
	defer l.Close()
	defer other.Close()
	until(t, "in contact", func() bool { return l.Status().State == Synced && l.Status().Processes == 2 })
	names := benchKeys(2000)
	for _, key := range names[:10] {
		l.Allow(key)
	}
	require.NoError(t, syncNow(l))
	p.cut()
	l.Allow(names[0])
	until(t, "cut off", func() bool { return l.Status().State == Degraded })
	var all sync.WaitGroup
	all.Go(func() {
		for i := range 3000 {
			if r := l.Peek(names[i%10]); r.Limit.Burst != 100 {
				t.Errorf("a limit of %v", r.Limit)
			}
		}
	})
	all.Go(func() {
		for _, key := range names {
			l.Allow(key)
		}
	})
	all.Wait()
}

// deniedOf returns the counts of TopDenied by key.
func deniedOf(l *Limiter) map[string]uint64 {
	counts := map[string]uint64{}
	for _, d := range l.TopDenied(math.MaxInt) {
		counts[d.Key] = d.Denied
	}
	return counts
}

// TestTopDeniedCountsEveryDenial: by whichever method, alone and in a fleet, as
// Stats does; a look at a key and a request that is admitted count nothing.
func TestTopDeniedCountsEveryDenial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fleet, _, f := tapped(t, Config{Limit: Per(1, 1000*time.Hour)})
		defer f.close()
		soon, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for name, l := range map[string]*Limiter{"alone": newTestLocal(t, Per(1, 1000*time.Hour)), "fleet": fleet} {
			other := newTestLocal(t, Per(10, time.Hour))
			handle := l.Key("handle")
			handle.Allow()
			for key, deny := range map[string]func(){
				"allow":   func() { l.Allow("allow") },
				"take":    func() { l.TakeN("take", 1) },
				"handle":  func() { handle.Allow(); handle.Take() },
				"all":     func() { AllowAll(other.Part("x", 1), l.Part("all", 1)) },
				"wait":    func() { _ = l.Wait(soon, "wait") },
				"exceeds": func() { _ = l.WaitN(t.Context(), "exceeds", 2) },
				"waitall": func() { _ = WaitAll(soon, other.Part("x", 1), l.Part("waitall", 1)) },
				"reserve": func() { l.ReserveN("reserve", 2) },
			} {
				if key != "handle" {
					l.Allow(key)
				}
				for range 300 {
					deny()
					l.Peek(key)
				}
			}
			got := deniedOf(l)
			for key, n := range got {
				if want := uint64(300); n != want && (key != "handle" || n != 2*want) {
					t.Errorf("%s: %q: %d denials", name, key, n)
				}
			}
			require.Len(t, got, 8, name)
			require.Empty(t, deniedOf(other), name)
			require.Equal(t, uint64(9*300), l.Stats().Denied, name)
		}
	})
}

// TestTopDeniedInShadow: a key in shadow mode is listed as if its limit held, and
// is no denial in Stats.
func TestTopDeniedInShadow(t *testing.T) {
	l := newShadow(t, Per(1, 1000*time.Hour))
	for range 500 {
		l.Allow("k")
	}
	require.Equal(t, map[string]uint64{"k": 499}, deniedOf(l))
	s := l.Stats()
	require.Equal(t, []uint64{500, 0, 499}, []uint64{s.Allowed, s.Denied, s.Shadowed})
}

// TestTopDeniedIsOfLate: a denial is listed for one window at least, and two at
// most, with the time of the first one.
func TestTopDeniedIsOfLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLocal(t, Per(1, time.Hour))
		window := time.Duration(topkeys.Window)
		time.Sleep(window / 2)
		first := time.Now()
		for range 400 {
			l.AllowN("early", 2)
		}
		time.Sleep(window)
		for range 100 {
			l.AllowN("early", 2)
			l.AllowN("late", 3)
		}
		list := l.TopDenied(10)
		require.Len(t, list, 2)
		require.Equal(t, DeniedKey{Key: "early", Denied: 500, Since: list[0].Since}, list[0])
		require.WithinRange(t, list[0].Since, first.Add(-300*time.Millisecond), first)
		require.Equal(t, "late", list[1].Key)
		require.WithinRange(t, list[1].Since, time.Now().Add(-300*time.Millisecond), time.Now())
		require.Len(t, l.TopDenied(1), 1)
		require.Empty(t, l.TopDenied(0))
		require.Empty(t, l.TopDenied(-1))
		time.Sleep(window / 2)
		require.Equal(t, map[string]uint64{"early": 100, "late": 100}, deniedOf(l))
		time.Sleep(window)
		require.Empty(t, deniedOf(l))
	})
}

// TestTopDeniedSurvivesAFlood: a key denied a million times is first with all
// its denials, among many that are denied once and evict it over and over; so
// are keys denied a thousand times.
func TestTopDeniedSurvivesAFlood(t *testing.T) {
	l := newTestLocalOf(t, Config{Limit: Per(1, 1000*time.Hour), MaxKeys: 100})
	fresh := longtest.Choose(20_000, 100_000, 100_000)
	for i := range fresh {
		l.AllowN("fresh"+strconv.Itoa(i), 2)
		for range 10 {
			l.AllowN("heavy", 2)
		}
		if i%10 == 0 {
			l.AllowN("steady"+strconv.Itoa(i%100/10), 2)
		}
	}
	require.Greater(t, l.Stats().Evicted, uint64(fresh/2))
	list := l.TopDenied(11)
	require.Equal(t, "heavy", list[0].Key)
	require.LessOrEqual(t, list[0].Denied, uint64(10*fresh))
	require.GreaterOrEqual(t, list[0].Denied+list[0].Missed, uint64(10*fresh))
	require.Less(t, list[0].Missed, uint64(fresh/100))
	for _, d := range list[1:] {
		require.Contains(t, d.Key, "steady")
		require.LessOrEqual(t, d.Denied, uint64(fresh/100))
		require.GreaterOrEqual(t, d.Denied+d.Missed, uint64(fresh/100))
	}
}

// TestTopDeniedKeepsEvictedKeys: the counts of few keys are exact, though they
// are never in memory together, or have no room there at all.
func TestTopDeniedKeepsEvictedKeys(t *testing.T) {
	l := newTestLocalOf(t, Config{Limit: Per(1, 1000*time.Hour), MaxKeys: 1})
	want := map[string]uint64{}
	for i := range 3000 {
		key := strings.Repeat("k", i%7) // the empty one, too
		l.AllowN(key, 2)
		want[key]++
	}
	require.Equal(t, want, deniedOf(l))
	TakeAll(l.Part("a", 2), l.Part("b", 2), l.Part("c", 2))
	want["a"], want["b"], want["c"] = 1, 1, 1
	require.Equal(t, want, deniedOf(l))
	require.Equal(t, uint64(3003), l.Stats().Denied)
}

// TestTopDeniedShowsKeysAsFarAsItMay: with a secret, digests as in Redis, unless
// ShowKeys is set; of long keys, digests that anybody can compute.
func TestTopDeniedShowsKeysAsFarAsItMay(t *testing.T) {
	long, secret := strings.Repeat("long ", 20), []byte("sixteen bytes ..")
	plain := hex.EncodeToString([]byte(exchange.FieldOf(long)[1:]))
	sum := sha256.Sum256([]byte(long))
	require.Equal(t, hex.EncodeToString(sum[:16]), plain)
	keyed := func(key string) string {
		return hex.EncodeToString([]byte(keyform.Field(secret, keyform.Local(key))[1:]))
	}
	for _, c := range []struct {
		cfg           Config
		short, long   string
		digest, digit bool
	}{
		{Config{}, "user:42", plain, false, true},
		{Config{ShowKeys: true}, "user:42", plain, false, true},
		{Config{KeySecret: secret}, keyed("user:42"), keyed(long), true, true},
		{Config{KeySecret: secret, ShowKeys: true}, "user:42", plain, false, true},
	} {
		c.cfg.Limit = Per(1, time.Hour)
		l := newTestLocalOf(t, c.cfg)
		l.AllowN("user:42", 2)
		l.AllowN("user:42", 2)
		l.AllowN(long, 2)
		list := l.TopDenied(3)
		require.Len(t, list, 2)
		require.Equal(t, DeniedKey{Key: c.short, Digest: c.digest, Denied: 2, Since: list[0].Since}, list[0])
		require.Equal(t, DeniedKey{Key: c.long, Digest: c.digit, Denied: 1, Since: list[1].Since}, list[1])
	}
}

// TestTopDeniedMeetsDecisions: lists made while many goroutines are denied,
// and evict each other's keys, lose nothing.
func TestTopDeniedMeetsDecisions(t *testing.T) {
	onAllCores(t)
	l := newTestLocalOf(t, Config{Limit: Per(1, 1000*time.Hour), MaxKeys: 64})
	const goroutines, each, keys = 8, 5_000, 200
	names := benchKeys(keys)
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := range each {
				l.AllowN(names[i%keys], 2)
				if i%500 == g {
					for _, d := range l.TopDenied(10) {
						if d.Denied > goroutines*each/keys {
							t.Errorf("%q was denied %d times", d.Key, d.Denied)
						}
					}
					l.Stats()
				}
			}
		})
	}
	all.Wait()
	want := map[string]uint64{}
	for _, key := range names {
		want[key] = goroutines * each / keys
	}
	require.Equal(t, want, deniedOf(l))
	require.Equal(t, uint64(goroutines*each), l.Stats().Denied)
}
