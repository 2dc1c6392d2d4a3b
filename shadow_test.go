package limiter

import (
	"context"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func inShadow(string) bool { return true }

func newShadow(t *testing.T, lim Limit) *Limiter {
	t.Helper()
	l, err := New(Config{Limit: lim, Shadow: inShadow})
	require.NoError(t, err)
	return l
}

// TestShadowCountsWhatWouldBeDenied: on the same calls, a limit on trial lets
// everything through, counts exactly what its twin denies, and has as much left.
func TestShadowCountsWhatWouldBeDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lim := Limit{Rate: 20, Burst: 8}
		shadow, twin := newShadow(t, lim), newTestLocal(t, lim)
		rng := rand.New(rand.NewPCG(1, 2))
		calls := uint64(0)
		for range 3000 {
			time.Sleep(time.Duration(rng.ExpFloat64() * 5e7))
			n := rng.IntN(10)
			calls++
			switch rng.IntN(3) {
			case 0:
				twin.AllowN("k", n)
				if !shadow.AllowN("k", n) {
					t.Fatal("AllowN denies")
				}
			case 1:
				want := twin.TakeN("k", n)
				want.Shadow, want.Allowed, want.RetryAfter = !want.Allowed, true, 0
				if got := shadow.TakeN("k", n); got != want {
					t.Fatalf("TakeN(%d) = %+v, want %+v", n, got, want)
				}
			case 2:
				want := twin.AllowN("k", n)
				if r, _ := TakeAll(shadow.Part("k", n)); !r.Allowed || r.Shadow == want {
					t.Fatalf("TakeAll of %d = %+v, the twin: %v", n, r, want)
				}
			}
		}
		s, d := shadow.Stats(), twin.Stats().Denied
		if s.Shadowed != d || s.Denied != 0 || s.Allowed != calls {
			t.Errorf("%d shadowed, %d denied, %d allowed; want %d, 0, %d", s.Shadowed, s.Denied, s.Allowed, d, calls)
		}
		if d < 100 {
			t.Errorf("only %d denials: nothing tried", d)
		}
	})
}

// TestShadowNeverWaits: waits and reservations on a limit on trial are over at
// once, whatever they cost, and have nothing to give back.
func TestShadowNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newShadow(t, Limit{Rate: 0.1, Burst: 2})
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, n := range []int{2, 1, 3, math.MaxInt} {
			if err := l.WaitN(ctx, "k", n); err != nil {
				t.Errorf("WaitN(%d): %v", n, err)
			}
		}
		if err := WaitAll(ctx, l.Part("k", 1), newTestLocal(t, Per(1, time.Hour)).Part("k", 1)); err != nil {
			t.Errorf("WaitAll: %v", err)
		}
		r := l.ReserveN("k", 5)
		if !r.OK() || r.Delay() != 0 {
			t.Errorf("ReserveN: OK %v, delay %v", r.OK(), r.Delay())
		}
		r.Cancel()
		if d := time.Since(begin); d != 0 {
			t.Errorf("took %v", d)
		}
		if s := l.Stats(); s.Allowed != 6 || s.Shadowed != 5 || s.Denied != 0 {
			t.Errorf("%d allowed, %d shadowed, %d denied; want 6, 5, 0", s.Allowed, s.Shadowed, s.Denied)
		}
		if r := l.Peek("k"); r.Remaining != 0 || r.ResetAfter != 20*time.Second || !r.Allowed || !r.Shadow {
			t.Errorf("Peek = %+v, want an empty bucket without debt, in the shadow", r)
		}
	})
}

// TestShadowIsPerKeyAndReloaded: keys that are not on trial are denied as ever,
// and Reload ends a trial.
func TestShadowIsPerKeyAndReloaded(t *testing.T) {
	var over atomic.Bool
	l, err := New(Config{Limit: Per(1, time.Hour), Shadow: func(key string) bool { return key == "trial" && !over.Load() }})
	require.NoError(t, err)
	for i, want := range []struct{ trial, held bool }{{true, true}, {true, false}, {false, false}} {
		if i == 2 {
			require.NoError(t, l.SetLimit(Per(1, 2*time.Hour)))
			require.True(t, l.Allow("trial"), "another limit is no reason to end a trial")
			over.Store(true)
			l.Reload()
		}
		if got := l.Allow("trial"); got != want.trial {
			t.Errorf("round %d: on trial: %v", i, got)
		}
		if got := l.Allow("held"); got != want.held {
			t.Errorf("round %d: held: %v", i, got)
		}
	}
}

// TestShadowPartDeniesNothing: of several parts, one on trial neither denies
// nor takes, and is the tightest where all others have something left.
func TestShadowPartDeniesNothing(t *testing.T) {
	shadow, held := newShadow(t, Per(1, time.Hour)), newTestLocal(t, Per(3, time.Hour))
	for i, want := range []struct {
		allowed, shadow bool
		tightest        int
	}{{true, false, 1}, {true, true, 1}, {true, true, 1}, {false, false, 0}} {
		r, tightest := TakeAll(held.Part("k", 1), shadow.Part("k", 1))
		if r.Allowed != want.allowed || r.Shadow != want.shadow || tightest != want.tightest {
			t.Errorf("call %d: %+v, part %d; want %+v", i, r, tightest, want)
		}
	}
	if s := shadow.Stats(); s.Allowed != 3 || s.Shadowed != 2 || s.Denied != 0 {
		t.Errorf("%d allowed, %d shadowed, %d denied; want 3, 2, 0", s.Allowed, s.Shadowed, s.Denied)
	}
}

// TestShadowIsSharedAsADenialIs: what is let through on trial is charged to
// nobody in the fleet, and counts as demand.
func TestShadowIsSharedAsADenialIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, f := tapped(t, Config{Limit: Per(3, 1000*time.Hour), Shadow: inShadow})
		defer f.close()
		for range 50 {
			l.Allow("k")
		}
		a := flushed(l, "k").account
		if a.Attempts != 50 || a.Usage != 3 {
			t.Errorf("demand of %d tokens, usage of %d; want 50, 3", a.Attempts, a.Usage)
		}
		require.NoError(t, syncNow(l))
		if got := f.ToGo("k").Round(time.Minute); got != 1000*time.Hour {
			t.Errorf("charged %v, want 1000h", got)
		}
		if n := testing.AllocsPerRun(100, func() { l.Allow("k"); l.Take("k"); _ = l.Wait(context.Background(), "k") }); n != 0 {
			t.Errorf("what is let through allocates %v times", n)
		}
	})
}
