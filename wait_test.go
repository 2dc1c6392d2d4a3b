package limiter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter/internal/longtest"
)

// waiting starts a call of Wait for n tokens and returns a channel of its
// result. The calls of a test queue in the order in which they are started.
func waiting(ctx context.Context, l *Limiter, key string, n int) <-chan error {
	done := make(chan error, 1)
	go func() { done <- l.WaitN(ctx, key, n) }()
	synctest.Wait()
	return done
}

func isDone(done <-chan error) bool {
	synctest.Wait()
	return len(done) > 0
}

// TestWaitersAreServedInOrder: the waiters of a key return in the order of their
// calls, each when the bucket holds its tokens, and a small cost does not
// overtake a large one.
func TestWaitersAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLocal(t, Limit{Rate: 10, Burst: 5})
		l.AllowN("k", 5)
		begin := time.Now()
		var mu sync.Mutex
		var served []string
		for i, n := range []int{1, 5, 2, 0, 1} {
			go func() {
				if err := l.WaitN(t.Context(), "k", n); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				served = append(served, fmt.Sprintf("%d after %v", i, time.Since(begin)))
			}()
			synctest.Wait()
		}
		require.Equal(t, 5, l.Stats().Waiting)
		time.Sleep(time.Second)
		synctest.Wait()
		// the third and the fourth are due at the same time
		slices.Sort(served)
		require.Equal(t, []string{"0 after 100ms", "1 after 600ms", "2 after 800ms", "3 after 800ms", "4 after 900ms"}, served)
		require.Zero(t, l.Stats().Waiting)
		require.EqualValues(t, 6, l.Stats().Allowed)
	})
}

// arrival is a caller of WaitN in a test of their order.
type arrival struct {
	n       int
	at      time.Duration // of the call
	cancel  time.Duration // 0: never
	ended   time.Duration // of the return
	outcome error
}

// queueUp has callers of one key arrive one by one in random processes, of which a third
// are cancelled. It returns those of each process in order of arrival, when all have
// returned.
func queueUp(t *testing.T, rng *rand.Rand, callers int, processes ...*Limiter) [][]*arrival {
	begin := time.Now()
	var all sync.WaitGroup
	lists := make([][]*arrival, len(processes))
	for range callers {
		time.Sleep(time.Duration(rng.Int64N(int64(50 * time.Millisecond))))
		a := &arrival{n: rng.IntN(6), at: time.Since(begin)}
		i := rng.IntN(len(processes))
		lists[i] = append(lists[i], a)
		ctx, cancel := context.WithCancel(t.Context())
		if rng.IntN(3) == 0 {
			a.cancel = a.at + time.Duration(1+rng.Int64N(int64(10*time.Second)))
			time.AfterFunc(a.cancel-a.at, cancel)
		}
		all.Go(func() {
			defer cancel()
			a.outcome = processes[i].WaitN(ctx, "k", a.n)
			a.ended = time.Since(begin)
		})
		synctest.Wait()
	}
	all.Wait()
	return lists
}

// TestWaitIsFirstInFirstOut: no caller of a key is served before one that called earlier,
// whatever their costs, and whoever is cancelled between them. Alone, each is served as
// soon as its tokens are there and all before it are served or gone.
func TestWaitIsFirstInFirstOut(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	inOrder := func(t *testing.T, list []*arrival) {
		t.Helper()
		var last time.Duration
		served := 0
		for i, a := range list {
			if a.outcome != nil {
				require.ErrorIs(t, a.outcome, context.Canceled)
				require.Equal(t, a.cancel, a.ended, "caller %d is cancelled late", i)
				continue
			}
			served++
			if a.ended < last {
				t.Errorf("caller %d of %d tokens was served after %v, one before it after %v", i, a.n, a.ended, last)
			}
			last = a.ended
		}
		require.Greater(t, served, len(list)/3)
		require.Less(t, served, len(list))
	}
	for i := range longtest.Choose(5, 20, 200) {
		t.Run("alone", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newTestLocal(t, Limit{Rate: 10, Burst: 20})
				l.AllowN("k", 20)
				list := queueUp(t, rand.New(rand.NewPCG(seed, uint64(i))), 100, l)[0]
				inOrder(t, list)
				var due time.Duration
				tokens := 0
				for j, a := range list {
					if due = max(due, a.at); a.outcome != nil {
						due = max(due, a.ended)
						continue
					}
					tokens += a.n
					due = max(due, time.Duration(tokens)*time.Second/10)
					if (a.ended - due).Abs() > time.Microsecond {
						t.Errorf("caller %d of %d tokens was served after %v, want %v", j, a.n, a.ended, due)
					}
				}
			})
		})
	}
	t.Run("fleet", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 2, Config{Limit: Limit{Rate: 20, Burst: 20}})
			defer f.close()
			until(t, "both are known", func() bool { return f.members[0].Status().Processes == 2 && f.members[1].Status().Processes == 2 })
			f.members[0].AllowN("k", 20)
			for _, list := range queueUp(t, rand.New(rand.NewPCG(seed, 1)), 200, f.members[0].Limiter, f.members[1].Limiter) {
				inOrder(t, list)
			}
		})
	})
}

// TestWaitsReturnWhenXTimeRatesDo: calls of Wait, Allow and Reserve at random
// times, none of them cancelled, return and decide as x/time/rate's do, while
// others wait.
func TestWaitsReturnWhenXTimeRatesDo(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for i := range longtest.Choose(30, 100, 2000) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			lim := Limit{Rate: rate.Limit(math.Pow(10, rng.Float64()*6-2)), Burst: 1 + rng.IntN(20)}
			ours, theirs := newTestLocal(t, lim), rate.NewLimiter(lim.Rate, lim.Burst)
			var calls sync.WaitGroup
			for range 100 {
				n := rng.IntN(lim.Burst + 1)
				time.Sleep(time.Duration(rng.ExpFloat64() * 1e9 / float64(lim.Rate)))
				now := time.Now()
				if edge(theirs, now, n, 2) {
					continue
				}
				switch rng.IntN(4) {
				case 0:
					if got, want := ours.AllowN("k", n), theirs.AllowN(now, n); got != want {
						t.Errorf("AllowN(%d) = %v, x/time: %v", n, got, want)
					}
				case 1:
					same(t, lim, pair{ours.ReserveN("k", n), theirs.ReserveN(now, n)}, now, 2)
				default:
					var got, want time.Duration
					var both sync.WaitGroup
					both.Go(func() { _ = ours.WaitN(context.Background(), "k", n); got = time.Since(now) })
					both.Go(func() { _ = theirs.WaitN(context.Background(), n); want = time.Since(now) })
					calls.Go(func() {
						both.Wait()
						if (got - want).Abs() > 100 { // each of a hundred is rounded to a nanosecond
							t.Errorf("WaitN(%d) took %v, x/time's %v", n, got, want)
						}
					})
					synctest.Wait()
				}
			}
			calls.Wait()
		})
		if t.Failed() {
			t.Fatalf("schedule %d of seed %d", i, seed)
		}
	}
}

// TestCancelledWaitersLeaveNothing: waits that are called off cost the key
// nothing, here and in the fleet, and the next in line is served at once.
func TestCancelledWaitersLeaveNothing(t *testing.T) {
	t.Run("alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newTestLocal(t, Limit{Rate: 1, Burst: 10})
			l.AllowN("k", 10)
			ctx, cancel := context.WithCancel(t.Context())
			var gone []<-chan error
			for range 500 {
				gone = append(gone, waiting(ctx, l, "k", 5))
			}
			next := waiting(t.Context(), l, "k", 2)
			time.Sleep(2 * time.Second)
			require.False(t, isDone(next), "it has overtaken 500")
			cancel()
			require.True(t, isDone(next), "2 tokens are there")
			require.NoError(t, <-next)
			for _, done := range gone {
				require.ErrorIs(t, <-done, context.Canceled)
			}
			require.False(t, l.Allow("k"))
			time.Sleep(time.Second)
			require.True(t, l.Allow("k"))
			require.EqualValues(t, 12+1, 10+2+l.Stats().Allowed-2)
		})
	})
	t.Run("fleet", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 2, Config{Limit: Limit{Rate: 10, Burst: 10}})
			defer f.close()
			until(t, "both are known", func() bool { return f.members[0].Status().Processes == 2 && f.members[1].Status().Processes == 2 })
			ctx, cancel := context.WithCancel(t.Context())
			var gone []<-chan error
			for range 500 {
				gone = append(gone, waiting(ctx, f.members[0].Limiter, "k", 1))
			}
			time.Sleep(time.Second)
			cancel()
			for _, done := range gone {
				if err := <-done; err != nil { // some were served
					require.ErrorIs(t, err, context.Canceled)
				}
			}
			begin := time.Now()
			until(t, "a token is admitted elsewhere", func() bool { return f.members[1].Allow("k") })
			if d := time.Since(begin); d > 350*time.Millisecond {
				t.Errorf("500 cancelled waiters cost the other process %v, want at most 1/r and 2 rounds", d)
			}
		})
	})
}

// TestWaitersSeeEveryChange: a refund, a reset, a raised limit and no limit at
// all reach waiters at once, and a burst that has become too small ends a wait.
func TestWaitersSeeEveryChange(t *testing.T) {
	for name, tc := range map[string]struct {
		do   func(l *Limiter)
		want error
	}{
		"refund":   {func(l *Limiter) { l.Refund("k", 3) }, nil},
		"reset":    {func(l *Limiter) { _ = l.Reset(context.Background(), "k") }, nil},
		"faster":   {func(l *Limiter) { _ = l.SetLimit(Per(5, time.Microsecond)) }, nil},
		"no limit": {func(l *Limiter) { _ = l.SetLimit(Limit{Rate: rate.Inf}) }, nil},
		"smaller":  {func(l *Limiter) { _ = l.SetLimit(Limit{Rate: 1, Burst: 2}) }, ErrExceedsBurst},
		"nothing":  {func(l *Limiter) { _ = l.SetLimit(Limit{}) }, ErrExceedsBurst},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newTestLocal(t, Per(5, time.Hour))
				l.AllowN("k", 5)
				done := waiting(t.Context(), l, "k", 3)
				require.False(t, isDone(done))
				tc.do(l)
				time.Sleep(time.Microsecond)
				require.True(t, isDone(done), "it still waits")
				require.ErrorIs(t, <-done, tc.want)
				require.Zero(t, l.Stats().Waiting)
			})
		})
	}
	t.Run("shadow", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var shadow atomic.Bool
			l := mustLimiter(t, Config{Limit: Per(5, time.Hour), Shadow: func(string) bool { return shadow.Load() }})
			l.AllowN("k", 5)
			done := waiting(t.Context(), l, "k", 1)
			shadow.Store(true)
			l.Reload()
			require.True(t, isDone(done))
			require.EqualValues(t, 1, l.Stats().Shadowed)
		})
	})
}

// TestOthersStandBehindWaiters: while somebody waits, a decision is admitted only
// if there is enough for it after all who wait, what Take and Peek say is
// after them, and a reservation acts after them.
func TestOthersStandBehindWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLocal(t, Limit{Rate: 1, Burst: 10})
		l.AllowN("k", 6)
		done := waiting(t.Context(), l, "k", 8) // in 4 s
		require.False(t, l.Allow("k"), "4 tokens are there, and 8 wait")
		if r := l.Take("k"); r.Allowed || r.RetryAfter.Round(time.Millisecond) != 5*time.Second || r.Remaining != 0 {
			t.Errorf("Take behind a waiter: %+v, want a retry in 5s", r)
		}
		if r := l.Peek("k"); r.Allowed || r.RetryAfter.Round(time.Millisecond) != 5*time.Second {
			t.Errorf("Peek behind a waiter: %+v, want a retry in 5s", r)
		}
		other := newTestLocal(t, Limit{Rate: 1, Burst: 1})
		require.False(t, AllowAll(l.Part("k", 1), other.Part("k", 1)))
		require.True(t, other.Allow("k"), "nothing was taken of the other part")
		r := l.ReserveN("k", 2)
		require.Equal(t, 6*time.Second, r.Delay())
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
		defer cancel()
		require.ErrorIs(t, l.Wait(ctx, "k"), context.DeadlineExceeded, "it would take 7 s")
		time.Sleep(4 * time.Second)
		require.True(t, isDone(done), "a reservation behind it has delayed it")
		r.Cancel()
		l.Refund("k", 1)
		require.True(t, l.Allow("k"), "nobody waits any more")
	})
}

// TestCopiesOfAReservationGiveBackOnce: however often it is cancelled, by however
// many copies, and whenever.
func TestCopiesOfAReservationGiveBackOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, Config{Limit: Limit{Rate: 1, Burst: 10}})
		defer f.close()
		until(t, "synced", func() bool { return f.members[0].Status().State == Synced })
		for name, l := range map[string]*Limiter{"alone": newTestLocal(t, Limit{Rate: 1, Burst: 10}), "fleet": f.members[0].Limiter} {
			for _, used := range []int{5, 10} { // a reservation that acts at once, and one that does not
				require.NoError(t, l.Reset(t.Context(), "k"))
				l.AllowN("k", used)
				r := l.ReserveN("k", 5)
				before := l.Peek("k").ResetAfter
				for range 3 {
					again := r
					again.Cancel()
					again.Cancel()
				}
				time.Sleep(time.Second / 2)
				r.Cancel()
				if got := (before - time.Second/2 - l.Peek("k").ResetAfter).Round(time.Second / 2); got != 5*time.Second {
					t.Errorf("%s, %d used: 5 tokens were cancelled, and %v given back", name, used, got)
				}
			}
		}
	})
}

// TestCancelledReservationsAreForgotten: what is remembered of them is bounded
// by those that could still be cancelled again.
func TestCancelledReservationsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLocal(t, Limit{Rate: 1000, Burst: 1})
		for range 10_000 {
			r := l.Reserve("k")
			r.Cancel()
			time.Sleep(time.Millisecond)
		}
		if n := len(l.reservations.cancelled); n > 1000 {
			t.Errorf("%d cancelled reservations are remembered", n)
		}
	})
}

// TestWaitAllInAnyOrder: waits on several limits, their parts in any order,
// all come to an end; no limit is passed, and what was called off is not taken.
func TestWaitAllInAnyOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for i := range longtest.Choose(5, 20, 200) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			var limiters []*Limiter
			for range 3 {
				limiters = append(limiters, newTestLocal(t, Limit{Rate: rate.Limit(1 + rng.IntN(100)), Burst: 1 + rng.IntN(5)}))
			}
			taken := make([]atomic.Int64, len(limiters))
			begin := time.Now()
			var all sync.WaitGroup
			for range 60 {
				order := rng.Perm(len(limiters))[:1+rng.IntN(len(limiters))]
				var parts []Part
				var costs []int
				for _, i := range order {
					costs = append(costs, 1+rng.IntN(limiters[i].local.limit.Load().Burst))
					parts = append(parts, limiters[i].Part("k", costs[len(costs)-1]))
				}
				ctx, cancel := context.WithCancel(t.Context())
				if rng.IntN(3) == 0 {
					time.AfterFunc(time.Duration(rng.Int64N(int64(10*time.Second))), cancel)
				}
				all.Go(func() {
					defer cancel()
					if err := WaitAll(ctx, parts...); err != nil {
						if !errors.Is(err, context.Canceled) {
							t.Errorf("WaitAll: %v", err)
						}
						return
					}
					for j, i := range order {
						n := taken[i].Add(int64(costs[j]))
						lim := limiters[i].local.limit.Load()
						if most := float64(lim.Burst) + float64(lim.Rate)*time.Since(begin).Seconds() + 1e-6; float64(n) > most {
							t.Errorf("limiter %d: %d tokens after %v, of %v", i, n, time.Since(begin), *lim)
						}
					}
				})
				time.Sleep(time.Duration(rng.Int64N(int64(50 * time.Millisecond))))
			}
			all.Wait()
			for i, l := range limiters {
				if n := l.Stats().Waiting; n != 0 {
					t.Errorf("%d still wait for limiter %d", n, i)
				}
				lim := l.local.limit.Load()
				time.Sleep(time.Duration(float64(lim.Burst)/float64(lim.Rate)*1e9) + time.Millisecond)
				if r := l.Peek("k"); r.Remaining != lim.Burst {
					t.Errorf("limiter %d has %d of %d tokens when all is refilled", i, r.Remaining, lim.Burst)
				}
			}
		})
		if t.Failed() {
			t.Fatalf("schedule %d of seed %d", i, seed)
		}
	}
}

// TestWaitAllStarvesNobody: a wait for two limits ends although others take each
// of them as soon as it has a token.
func TestWaitAllStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newTestLocal(t, Limit{Rate: 10, Burst: 1}), newTestLocal(t, Limit{Rate: 7, Burst: 1})
		ctx, cancel := context.WithCancel(t.Context())
		var others sync.WaitGroup
		for _, l := range []*Limiter{a, b} {
			for range 20 {
				others.Go(func() {
					for l.Wait(ctx, "k") == nil {
					}
				})
				others.Go(func() {
					for ctx.Err() == nil {
						l.Allow("k")
						time.Sleep(time.Millisecond)
					}
				})
			}
		}
		time.Sleep(time.Second)
		begin := time.Now()
		require.NoError(t, WaitAll(t.Context(), a.Part("k", 1), b.Part("k", 1)))
		if d := time.Since(begin); d > 6*time.Second { // 20 before it, in the slower, twice
			t.Errorf("WaitAll took %v beside 20 waiters on each part", d)
		}
		cancel()
		others.Wait()
	})
}

// TestWaitersOfManyKeysWithRoomForFew: keys that are evicted while somebody
// waits for them are served all the same.
func TestWaitersOfManyKeysWithRoomForFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, Config{Limit: Limit{Rate: 1, Burst: 1}, MaxKeys: 2})
		defer f.close()
		l := f.members[0]
		var waits sync.WaitGroup
		begin := time.Now()
		for i := range 20 {
			key := fmt.Sprint("k", i)
			l.Charge(key, 3)
			waits.Go(func() {
				if err := l.Wait(t.Context(), key); err != nil {
					t.Errorf("%s: %v", key, err)
				}
			})
		}
		waits.Wait()
		if d := time.Since(begin); d > 20*time.Second {
			t.Errorf("20 waits of 4 s took %v", d)
		}
	})
}

// TestWaitingIsDemand: processes of a fleet get shares by the number of those who
// wait in them, be the requests that wait few or many.
func TestWaitingIsDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, Config{Limit: Limit{Rate: 50, Burst: 5}})
		defer f.close()
		var served [2]atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		var workers sync.WaitGroup
		for i, n := range []int{40, 120} {
			for range n {
				workers.Go(func() {
					for f.members[i].Wait(ctx, "k") == nil {
						served[i].Add(1)
					}
				})
			}
		}
		time.Sleep(10 * time.Second)
		before := [2]int64{served[0].Load(), served[1].Load()}
		time.Sleep(60 * time.Second)
		few, many := float64(served[0].Load()-before[0]), float64(served[1].Load()-before[1])
		if of := few / (few + many); of < 0.21 || of > 0.29 {
			t.Errorf("40 of 160 waiters got %.2f of the tokens", of)
		}
		if all := few + many; all < 2900 || all > 3100 {
			t.Errorf("%v admitted in 60 s of 50/s", all)
		}
		cancel()
		workers.Wait()
	})
}

// waitingAll starts a call of WaitAll, as waiting does of Wait.
func waitingAll(ctx context.Context, parts ...Part) <-chan error {
	done := make(chan error, 1)
	go func() { done <- WaitAll(ctx, parts...) }()
	synctest.Wait()
	return done
}

// within fails the test where a wait has not ended after d.
func within(t *testing.T, done <-chan error, d time.Duration, what string) {
	t.Helper()
	begin := time.Now()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("%s: %v after %v", what, err, time.Since(begin))
		}
	case <-time.After(d):
		t.Errorf("%s: still waits after %v", what, d)
	}
}

func endsWithin(done <-chan error, d time.Duration) bool {
	select {
	case err := <-done:
		return err == nil
	case <-time.After(d):
		return false
	}
}

// TestCancelledReservationBringsWaitersForward: a waiter behind a reservation
// that is cancelled is served by the tokens that are back.
func TestCancelledReservationBringsWaitersForward(t *testing.T) {
	for _, fleet := range []bool{false, true} {
		t.Run(map[bool]string{false: "local", true: "fleet"}[fleet], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				l := newTestLocal(t, Limit{Rate: 1, Burst: 10})
				if fleet {
					f := newFleet(t, 1, Config{Limit: Limit{Rate: 1, Burst: 10}})
					defer f.close()
					l = f.members[0].Limiter
					until(t, "synced", func() bool { return l.Status().State == Synced })
				}
				require.True(t, l.AllowN("k", 10))
				r := l.ReserveN("k", 5)
				w := waiting(ctx, l, "k", 6) // in 11 s
				r.Cancel()                   // from now on: in 6 s
				if !endsWithin(w, 8*time.Second) {
					t.Errorf("fleet %v: 6 tokens, 6 s away: still waits after 8 s", fleet)
					if !endsWithin(w, time.Hour) {
						t.Errorf("fleet %v: and after an hour", fleet)
					}
				}
			})
		})
	}
}

// TestCancelledReservationOfAnEarlierQueue: the same for a reservation that was
// made behind a waiter served since.
func TestCancelledReservationOfAnEarlierQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := newTestLocal(t, Limit{Rate: 1, Burst: 10})
		require.True(t, l.AllowN("k", 10))
		a := waiting(ctx, l, "k", 1) // in 1 s
		r := l.ReserveN("k", 5)      // in 6 s
		w := waiting(ctx, l, "k", 2) // in 8 s
		within(t, a, 2*time.Second, "the first")
		r.Cancel() // now in 2 s
		within(t, w, 3*time.Second, "2 tokens, 2 s away")
	})
}

// TestWaitAllOutlivesALimitThereAndBack: a limit below the cost that is raised
// again before the goroutine of WaitAll runs leaves it waiting, in its place.
func TestWaitAllOutlivesALimitThereAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := newTestLocal(t, Limit{Rate: 1, Burst: 10})
		require.True(t, l.AllowN("k", 10))
		w := waitingAll(ctx, l.Part("k", 5)) // in 5 s
		require.NoError(t, l.SetLimit(Limit{Rate: 1, Burst: 1}))
		require.NoError(t, l.SetLimit(Limit{Rate: 1, Burst: 10}))
		select {
		case err := <-w:
			require.NoError(t, err)
		case <-time.After(time.Hour):
			t.Errorf("WaitAll for 5 tokens at 1/s still waits after an hour; level %d, waiting %d", l.Peek("k").Remaining, l.Stats().Waiting)
		}
	})
}

// TestWaitAllOfMoreKeysThanFit: a wait for more keys than MaxKeys ends.
func TestWaitAllOfMoreKeysThanFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := mustLimiter(t, Config{Limit: Limit{Rate: 1, Burst: 2}, MaxKeys: 1})
		require.True(t, AllowAll(l.Part("a", 2), l.Part("b", 2)))
		w := waitingAll(ctx, l.Part("a", 2), l.Part("b", 1)) // in 2 s
		within(t, w, time.Hour, "WaitAll of two keys with room for one")
	})
}

// TestCancelledBehindAWaitAll: in the queue B, A, W, where the WaitAll B has its
// tokens here and waits elsewhere, W is served when A gives up.
func TestCancelledBehindAWaitAll(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(map[bool]string{false: "Wait", true: "WaitAll"}[all], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				l, other := newTestLocal(t, Limit{Rate: 1, Burst: 10}), newTestLocal(t, Per(1, 10*time.Hour))
				require.True(t, other.Allow("k"))
				require.True(t, l.AllowN("k", 10))
				b := waitingAll(ctx, l.Part("k", 4), other.Part("k", 1)) // in 10 h
				actx, acancel := context.WithCancel(ctx)
				if all {
					waitingAll(actx, l.Part("k", 6), other.Part("k", 1))
				} else {
					waiting(actx, l, "k", 7)
				}
				w := waiting(ctx, l, "k", 3)
				time.Sleep(20 * time.Second) // full
				require.Equal(t, 3, l.Stats().Waiting)
				require.Empty(t, b)
				acancel()
				within(t, w, time.Hour, "3 tokens of 10, 4 of which are the first's")
			})
		})
	}
}

// TestChangesReachWaitersOfEvictedKeys: a changed limit, a reset and a refund
// reach a waiter whose key has made room.
func TestChangesReachWaitersOfEvictedKeys(t *testing.T) {
	for name, do := range map[string]func(*Limiter){
		"SetLimit": func(l *Limiter) { _ = l.SetLimit(Limit{Rate: rate.Inf}) },
		"Reset":    func(l *Limiter) { _ = l.Reset(context.Background(), "a") },
		"Refund":   func(l *Limiter) { l.Refund("a", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				l := mustLimiter(t, Config{Limit: Per(1, time.Hour), MaxKeys: 1})
				require.True(t, l.Allow("a"))
				w := waiting(ctx, l, "a", 1)
				l.Allow("b") // evicts a
				do(l)
				within(t, w, time.Minute, "a waiter of an evicted key")
			})
		})
	}
}

// TestReloadReachesWaiters: Reload reaches those who wait for a long key, or
// with a secret, too.
func TestReloadReachesWaiters(t *testing.T) {
	for name, tc := range map[string]struct {
		key    string
		secret []byte
	}{"plain": {"k", nil}, "long": {strings.Repeat("k", 65), nil}, "secret": {"k", []byte("0123456789abcdef")}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var raised atomic.Bool
				l := mustLimiter(t, Config{Limit: Per(1, time.Hour), KeySecret: tc.secret, LimitFor: func(string) (Limit, bool) {
					return Per(2, time.Minute), raised.Load()
				}})
				require.True(t, l.Allow(tc.key))
				w := waiting(ctx, l, tc.key, 1)
				raised.Store(true)
				l.Reload()
				within(t, w, time.Minute, "a waiter")
			})
		})
	}
}

// TestReloadBesideSetLimitReachesWaiters: SetLimit comes while Reload asks
// LimitFor.
func TestReloadBesideSetLimitReachesWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var raised, once atomic.Bool
		var l *Limiter
		l = mustLimiter(t, Config{Limit: Per(1, time.Hour), LimitFor: func(string) (Limit, bool) {
			if raised.Load() {
				if once.CompareAndSwap(false, true) {
					_ = l.SetLimit(Per(2, time.Hour)) // another goroutine's, in fact
				}
				return Per(2, time.Minute), true
			}
			return Per(1, time.Hour), true
		}})
		require.True(t, l.Allow("k"))
		w := waiting(ctx, l, "k", 1)
		raised.Store(true)
		l.Reload()
		within(t, w, time.Minute, "a waiter")
	})
}

// TestLowerBurstEndsEveryWaitBeyondIt: not that of the first in line alone.
func TestLowerBurstEndsEveryWaitBeyondIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := newTestLocal(t, Per(10, 10*time.Hour))
		require.True(t, l.AllowN("k", 10))
		waiting(ctx, l, "k", 1)
		w := waiting(ctx, l, "k", 5)
		require.NoError(t, l.SetLimit(Per(2, 2*time.Hour)))
		require.True(t, isDone(w), "5 tokens of a burst of 2 are still waited for, by the second in line")
	})
}

// TestCancelBehindServedWaitersGivesBack: waiters that were ahead of a
// reservation have not overtaken it.
func TestCancelBehindServedWaitersGivesBack(t *testing.T) {
	for _, fleet := range []bool{false, true} {
		t.Run(map[bool]string{false: "local", true: "fleet"}[fleet], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newTestLocal(t, Limit{Rate: 1, Burst: 10})
				if fleet {
					f := newFleet(t, 1, Config{Limit: Limit{Rate: 1, Burst: 10}})
					defer f.close()
					l = f.members[0].Limiter
					until(t, "synced", func() bool { return l.Status().State == Synced })
				}
				require.True(t, l.AllowN("k", 10))
				a := waiting(t.Context(), l, "k", 5)
				r := l.ReserveN("k", 5)
				time.Sleep(6 * time.Second)
				require.True(t, isDone(a))
				before := l.Peek("k").ResetAfter
				r.Cancel()
				if back := before - l.Peek("k").ResetAfter; back < 4900*time.Millisecond {
					t.Errorf("fleet %v: 5 reserved tokens cancelled 4 s before they act, %v given back (in time at 1/s); 5 s to full were reserved", fleet, back)
				}
			})
		})
	}
}

// TestResetForgetsReservations: after a Reset two waiters of a whole burst with a
// reservation behind them get one burst.
func TestResetForgetsReservations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := newTestLocal(t, Limit{Rate: 1, Burst: 10})
		require.True(t, l.AllowN("k", 10))
		a, b := waiting(ctx, l, "k", 10), waiting(ctx, l, "k", 10)
		require.Equal(t, 30*time.Second, l.ReserveN("k", 10).Delay())
		require.NoError(t, l.Reset(ctx, "k"))
		require.True(t, isDone(a))
		require.False(t, isDone(b), "20 tokens at once, of a full bucket of 10")
	})
}

// TestEvictionForgetsReservations: the same after an eviction, which keeps no
// debt.
func TestEvictionForgetsReservations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := mustLimiter(t, Config{Limit: Limit{Rate: 1, Burst: 10}, MaxKeys: 1})
		require.True(t, l.AllowN("k", 10))
		a := waiting(ctx, l, "k", 10)
		require.Equal(t, 20*time.Second, l.ReserveN("k", 10).Delay())
		l.Allow("other")
		l.Refund("k", 1) // brings it back
		require.False(t, isDone(a), "10 tokens at once, of an empty bucket that got one back")
	})
}

// modelCall is a call that waits.
type modelCall struct {
	id     int
	parts  map[int]int // limiter → cost
	cancel context.CancelFunc
	done   bool
	err    error
}

// TestNoWaiterStalls: whatever is called at random, no wait is left over whose
// turn has come: not the oldest while all its tokens are there, and none
// whose tokens are there after all others. At the end nobody waits.
func TestNoWaiterStalls(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for i := range longtest.Choose(20, 80, 3000) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			var ls []*Limiter
			var lims []Limit
			for range 1 + rng.IntN(3) {
				lim := Limit{Rate: rate.Limit(math.Pow(10, rng.Float64()*4-2)), Burst: 1 + rng.IntN(20)}
				lims = append(lims, lim)
				ls = append(ls, mustLimiter(t, Config{Limit: lim}))
				time.Sleep(time.Duration(rng.IntN(1000)))
			}
			var mu sync.Mutex
			var pending []*modelCall
			var trace []string
			note := func(f string, a ...any) {
				trace = append(trace, fmt.Sprintf("%v ", time.Now().UnixNano()%1e15)+fmt.Sprintf(f, a...))
			}
			var resv []Reservation
			ids := 0
			level := func(l *Limiter) float64 {
				var k lockedKey
				l.acquire(&k, "k", l.now())
				defer k.unlock()
				return k.bucket.LevelAt(l.now())
			}
			check := func() {
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				k := pending[:0]
				for _, c := range pending {
					if !c.done {
						k = append(k, c)
					}
				}
				pending = k
				sums := map[int]int{}
				for _, c := range pending {
					for j, n := range c.parts {
						sums[j] += n
					}
				}
				for idx, c := range pending {
					oldest, all := idx == 0, true
					for j, n := range c.parts {
						lv := level(ls[j])
						if lv-float64(n) < 1e-6 {
							oldest = false
						}
						if lv-float64(sums[j]) < 1e-6 {
							all = false
						}
						if n > lims[j].Burst {
							oldest, all = false, false
						}
					}
					if oldest || all {
						for _, s := range trace {
							t.Log(s)
						}
						t.Fatalf("round %d: call %d %v still waits (oldest %v, all %v)", i, c.id, c.parts, oldest, all)
					}
				}
			}
			for range 60 {
				j := rng.IntN(len(ls))
				l := ls[j]
				switch op := rng.IntN(12); op {
				case 0, 1, 2, 3:
					ctx, cancel := context.WithCancel(t.Context())
					c := &modelCall{id: ids, parts: map[int]int{}, cancel: cancel}
					ids++
					if op < 2 {
						c.parts[j] = rng.IntN(lims[j].Burst + 1)
					} else {
						for _, x := range rng.Perm(len(ls))[:1+rng.IntN(len(ls))] {
							c.parts[x] = rng.IntN(lims[x].Burst + 1)
						}
					}
					var parts []Part
					for x, n := range c.parts {
						parts = append(parts, ls[x].Part("k", n))
					}
					rng.Shuffle(len(parts), func(a, b int) { parts[a], parts[b] = parts[b], parts[a] })
					note("call %d %v single %v", c.id, c.parts, op < 2)
					pending = append(pending, c)
					go func() {
						var err error
						if op < 2 {
							err = l.WaitN(ctx, "k", c.parts[j])
						} else {
							err = WaitAll(ctx, parts...)
						}
						mu.Lock()
						defer mu.Unlock()
						c.done, c.err = true, err
						note("call %d done: %v", c.id, err)
						if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, ErrExceedsBurst) {
							t.Errorf("%v", err)
						}
					}()
				case 4, 5:
					if len(pending) > 0 {
						c := pending[rng.IntN(len(pending))]
						note("cancel %d", c.id)
						c.cancel()
					}
				case 6:
					n := rng.IntN(lims[j].Burst + 1)
					note("allow %d %d: %v", j, n, l.AllowN("k", n))
				case 7:
					n := rng.IntN(lims[j].Burst + 1)
					note("charge %d %d", j, n)
					l.Charge("k", n)
				case 8:
					n := rng.IntN(lims[j].Burst + 1)
					note("refund %d %d", j, n)
					l.Refund("k", n)
				case 9:
					if rng.IntN(3) == 0 {
						lim := Limit{Rate: lims[j].Rate, Burst: 1 + rng.IntN(20)}
						if rng.IntN(2) == 0 {
							lim.Rate *= rate.Limit(0.5 + rng.Float64())
						}
						note("setlimit %d %v", j, lim)
						_ = l.SetLimit(lim)
						lims[j] = lim
					} else {
						note("reset %d", j)
						_ = l.Reset(context.Background(), "k")
					}
				case 10:
					n := rng.IntN(lims[j].Burst + 1)
					r := l.ReserveN("k", n)
					note("reserve %d %d: %v", j, n, r.Delay())
					resv = append(resv, r)
				case 11:
					if len(resv) > 0 {
						x := rng.IntN(len(resv))
						note("cancel reservation %d", x)
						resv[x].Cancel()
					}
				}
				check()
				if rng.IntN(3) > 0 {
					time.Sleep(time.Duration(rng.ExpFloat64() * 3e9 / float64(lims[rng.IntN(len(lims))].Rate)))
					check()
				}
			}
			for _, l := range ls {
				_ = l.SetLimit(Limit{Rate: rate.Inf})
			}
			synctest.Wait()
			for _, c := range pending {
				c.cancel()
			}
			synctest.Wait()
			mu.Lock()
			for _, c := range pending {
				if !c.done {
					t.Errorf("round %d: call %d hangs, though cancelled and unlimited", i, c.id)
				}
			}
			mu.Unlock()
			for j, l := range ls {
				if n := l.Stats().Waiting; n != 0 {
					t.Errorf("round %d: %d still wait for %d", i, n, j)
				}
			}
		})
		if t.Failed() {
			return
		}
	}
}
