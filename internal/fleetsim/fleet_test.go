package fleetsim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/longtest"
	"github.com/seed-e56e777b/limiter/internal/simnet"
)

// TestFleetIsOneBucket: while the state answers, and once all processes are counted, the
// fleet admits as much of the same requests as one central bucket.
func TestFleetIsOneBucket(t *testing.T) {
	for _, tc := range []struct {
		name   string
		n      int
		demand float64
		weight func(int, time.Duration) float64
		over   float64
		excess float64 // bursts
	}{
		{"alone, 3 r", 1, 3000, Equal, 0.001, 0.02},
		{"10, 0.8 r", 10, 800, Equal, 0.001, 0.02},
		{"10, 1.2 r, skewed", 10, 1200, Skewed, 0.005, 0.25},
		{"10, 2 r", 10, 2000, Equal, 0.005, 0.5},
		{"10, 10 r", 10, 10000, Equal, 0.005, 1},
		{"100, 2 r", 100, 2000, Equal, 0.005, 0.5},
		{"10, 3 r, jumping", 10, 3000, Jumping, 0.01, 0.5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if testing.Short() && tc.n > 1 && tc.demand != 1200 {
				t.Skip("runs without -short")
			}
			synctest.Test(t, func(t *testing.T) {
				f := New(t, tc.n, limiter.Config{Limit: busy})
				defer f.Close()
				y := f.Run(busy, Load{Seed: 1, Dur: 25 * time.Second, Total: Steady(tc.demand), Weight: tc.weight})
				t.Logf("admitted %+.2f %% against one central bucket; worst window %.2f bursts over", 100*y.Over(5*time.Second, 25*time.Second), y.Excess())
				if over := y.Over(5*time.Second, 25*time.Second); math.Abs(over) > tc.over {
					t.Errorf("admitted %+.2f %% against one central bucket, want at most %.1f %%", 100*over, 100*tc.over)
				}
				if y.Excess() > tc.excess {
					t.Errorf("worst window %.2f bursts over r·t + b, want at most %v", y.Excess(), tc.excess)
				}
			})
		})
	}
}

// TestRiseIsBounded: a sudden rise of demand over-admits at most as much as documented,
// and repays it.
func TestRiseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const high = 5000
		n := longtest.Choose(5, 10, 10)
		f := New(t, n, limiter.Config{Limit: busy})
		defer f.Close()
		step := func(at time.Duration) float64 {
			if at > 10*time.Second && at < 20*time.Second {
				return high
			}
			return 500
		}
		y := f.Run(busy, Load{Seed: 8, Dur: 30 * time.Second, Total: step, Weight: Equal})
		bound := min(float64(n-1)*float64(busy.Burst), high*0.102) / float64(busy.Burst)
		t.Logf("worst window %.2f bursts over, bound %.2f; from the rise on %+.2f %%", y.Excess(), bound, 100*y.Over(10*time.Second, 30*time.Second))
		if y.Excess() > bound {
			t.Errorf("worst window %.2f bursts over r·t + b, want at most %.2f", y.Excess(), bound)
		}
		if over := y.Over(10*time.Second, 30*time.Second); math.Abs(over) > 0.005 {
			t.Errorf("admitted %+.2f %% against one central bucket from the rise on", 100*over)
		}
	})
}

// TestOutageKeepsTheLimitFarFromIt: also of keys that are far from their limits when the
// outage begins, though processes have told each other little of their demand, and after an
// outage that is long enough for Redis to forget the keys.
func TestOutageKeepsTheLimitFarFromIt(t *testing.T) {
	for _, sc := range farFromLimit() {
		t.Run(sc.Name, func(t *testing.T) {
			if testing.Short() && (sc.N > 4 || sc.Load.Dur > 5*time.Minute || strings.HasSuffix(sc.Name, "1/k")) {
				t.Skip("runs without -short")
			}
			sc.Run(t)
			for _, r := range sc.Results {
				t.Log(r.Name, r)
				if !r.Met() {
					t.Errorf("%s: %v, want %s", r.Name, r, r.Bounds())
				}
			}
		})
	}
}

// TestOutageKeepsTheLimit: without the state, the fleet admits as much as a central
// bucket. When the state is back, it goes on without a burst or a pause.
func TestOutageKeepsTheLimit(t *testing.T) {
	for _, tc := range []struct {
		name   string
		n      int
		demand func(time.Duration) float64
		weight func(int, time.Duration) float64
		least  float64
		most   float64
	}{
		{"5, 3 r, skewed", 5, Steady(3000), Skewed, -0.03, 0.03},
		{"10, 3 r, skewed", 10, Steady(3000), Skewed, -0.03, 0.03},
		{"10, 0.5 r", 10, Steady(500), Equal, -0.01, 0.01},
		{"10, 0.5 r, then 5 r", 10, rise, Equal, -0.05, 0.10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if testing.Short() && tc.n > 5 {
				t.Skip("runs without -short")
			}
			synctest.Test(t, func(t *testing.T) {
				f := New(t, tc.n, limiter.Config{Limit: busy})
				defer f.Close()
				y := f.Run(busy, Load{
					Seed: 2, Dur: 30 * time.Second, Total: tc.demand, Weight: tc.weight,
					At: []Event{
						{10 * time.Second, func() { f.Down.Store(true) }},
						{15 * time.Second, func() { f.WantState(limiter.Degraded) }},
						{20 * time.Second, func() { f.Down.Store(false) }},
						{22 * time.Second, func() { f.WantState(limiter.Synced) }},
					},
				})
				t.Logf("during the outage %+.2f %%, in the 5 s after %+.2f %%; worst window %.2f bursts over", 100*y.Over(10*time.Second, 20*time.Second), 100*y.Over(20*time.Second, 25*time.Second), y.Excess())
				if over := y.Over(10*time.Second, 20*time.Second); over < tc.least || over > tc.most {
					t.Errorf("admitted %+.2f %% against one central bucket during the outage", 100*over)
				}
				if over := y.Over(20*time.Second, 25*time.Second); math.Abs(over) > 0.03 {
					t.Errorf("admitted %+.2f %% against one central bucket in the 5 s after", 100*over)
				}
			})
		})
	}
}

func rise(at time.Duration) float64 {
	if at > 15*time.Second {
		return 5000
	}
	return 500
}

// TestFleetThatLosesRedisAtItsStart: processes that lose a late Redis before they have told
// each other much have equal shares.
func TestFleetThatLosesRedisAtItsStart(t *testing.T) {
	lates := []time.Duration{300 * time.Millisecond, 100 * time.Millisecond, 0}
	for _, late := range lates[:longtest.Choose(1, 3, 3)] {
		synctest.Test(t, func(t *testing.T) {
			f := NewOn(t, 5, limiter.Config{Limit: busy, Processes: 5}, tuned, 1)
			defer f.Close()
			f.Late.Store(int64(late))
			y := f.Run(busy, Load{Seed: 1, Dur: 12 * sec, Total: Steady(3000), Weight: Skewed, At: withoutRedis(f, sec, 12*sec)})
			if over := y.Over(2*sec, 12*sec); math.Abs(over) > 0.05 {
				t.Errorf("packets late by up to %v: admitted %+.2f %% against one central bucket", late, 100*over)
			}
		})
	}
}

// TestPartOfTheFleetCutOff: those cut off keep their shares, and the others
// leave them room.
func TestPartOfTheFleetCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, back := longtest.Choose(6, 10, 10), longtest.Choose[time.Duration](30, 40, 40)*time.Second
		f := New(t, n, limiter.Config{Limit: busy})
		defer f.Close()
		y := f.Run(busy, Load{
			Seed: 3, Dur: back + 10*time.Second, Total: Steady(3000), Weight: Equal,
			At: []Event{{10 * time.Second, f.CutOff(true, f.Members[:n/2]...)}, {back, f.CutOff(false, f.Members[:n/2]...)}},
		})
		t.Logf("while half is cut off %+.2f %%, after %+.2f %%; worst window %.2f bursts over", 100*y.Over(10*time.Second, back), 100*y.Over(back, back+10*time.Second), y.Excess())
		if over := y.Over(10*time.Second, back); math.Abs(over) > 0.07 { // 3 % of it before the silence is noticed
			t.Errorf("admitted %+.2f %% against one central bucket while half was cut off", 100*over)
		}
	})
}

// TestCrashCostsNothing: the traffic of a process that dies without a word, or leaves,
// is admitted at the limit by the others.
func TestCrashCostsNothing(t *testing.T) {
	for _, clean := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			lim := longtest.Choose(perSecond(200, 20), busy, busy)
			f := New(t, 4, limiter.Config{Limit: lim})
			defer f.Close()
			gone := false
			weight := func(process int, _ time.Duration) float64 {
				if process == 3 && gone {
					return 0
				}
				return 1
			}
			y := f.Run(lim, Load{
				Seed: 10, Dur: 90 * time.Second, Total: Steady(3 * float64(lim.Rate)), Weight: weight,
				At: []Event{{10 * time.Second, func() {
					gone = true
					f.Members[3].Cut.Store(!clean)
					if clean {
						_ = f.Members[3].Close()
					}
				}}},
			})
			during, after := y.Over(15*time.Second, 60*time.Second), y.Over(75*time.Second, 90*time.Second)
			t.Logf("clean %v: %+.2f %% in the minute after, %+.2f %% then", clean, 100*during, 100*after)
			if least := -0.03; during < least || clean && during < -0.01 || math.Abs(after) > 0.01 {
				t.Errorf("clean %v: %+.2f %% in the minute after, %+.2f %% then", clean, 100*during, 100*after)
			}
		})
	}
}

// TestResetAfterEnds: where Redis was never reached, when this process's share is full.
func TestResetAfterEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, 1, limiter.Config{Limit: limiter.Per(100, time.Minute), Processes: 4})
		defer f.Close()
		f.Down.Store(true)
		a := f.Members[0]
		for a.Allow("k") {
		}
		left := a.Peek("k").ResetAfter
		if left < time.Second || left > time.Minute+10*time.Second {
			t.Errorf("full in %v", left)
		}
		time.Sleep(left)
		if got := a.Peek("k").ResetAfter; got > time.Millisecond {
			t.Errorf("full in %v more, when it was to be full", got)
		}
	})
}

// TestStartsWithoutRedis: with a state that was never there every process
// takes 1/Processes of the limit, and they converge when it appears.
func TestStartsWithoutRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lim := longtest.Choose(perSecond(200, 20), busy, busy)
		f := New(t, 4, limiter.Config{Limit: lim, Processes: 4})
		defer f.Close()
		f.Down.Store(true)
		y := f.Run(lim, Load{
			Seed: 4, Dur: 20 * time.Second, Total: Steady(3 * float64(lim.Rate)), Weight: Equal,
			At: []Event{
				{time.Second, func() {
					if st := f.Members[0].Status(); st.State != limiter.Connecting || st.Processes != 4 {
						t.Errorf("before the state was reached: %+v", st)
					}
				}},
				{10 * time.Second, func() { f.Down.Store(false) }},
				{12 * time.Second, func() { f.WantState(limiter.Synced) }},
			},
		})
		t.Logf("without state %+.2f %%, with it %+.2f %%", 100*y.Over(0*time.Second, 10*time.Second), 100*y.Over(10*time.Second, 20*time.Second))
		if over := y.Over(0*time.Second, 10*time.Second); math.Abs(over) > 0.05 {
			t.Errorf("admitted %+.2f %% against one central bucket without state", 100*over)
		}
		if over := y.Over(10*time.Second, 20*time.Second); math.Abs(over) > 0.03 {
			t.Errorf("admitted %+.2f %% against one central bucket with it", 100*over)
		}
	})
}

// TestWipeIsHealed: after a loss of the state, processes report the least TATs that they
// have seen, so that no process gets a fresh burst.
func TestWipeIsHealed(t *testing.T) {
	for name, lose := range map[string]func(*Fleet) func(){
		"wiped": func(f *Fleet) func() { return f.State.Wipe },
		"rolled back": func(f *Fleet) func() {
			old := f.State.Snapshot()
			return func() { f.State.Restore(old) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := New(t, longtest.Choose(4, 10, 10), limiter.Config{Limit: busy})
				defer f.Close()
				var back func()
				dur := longtest.Choose[time.Duration](25, 30, 30) * time.Second
				y := f.Run(busy, Load{
					Seed: 5, Dur: dur, Total: Steady(longtest.Choose(1500., 3000, 3000)), Weight: Skewed,
					At: []Event{{5 * time.Second, func() { back = lose(f) }}, {10 * time.Second, func() { back() }}},
				})
				t.Logf("%+.2f %%, worst window %.2f bursts over", 100*y.Over(5*time.Second, dur), y.Excess())
				if over := y.Over(5*time.Second, dur); math.Abs(over) > 0.005 {
					t.Errorf("admitted %+.2f %% against one central bucket, want at most 0.5 %%", 100*over)
				}
				if f.Members[0].Stats().Losses == 0 {
					t.Error("the loss went unseen")
				}
			})
		})
	}
}

// TestReturnInTurnAfterALoss: processes that come back one after the other from a short
// outage, to a state that is lost, hold their shares until demand is known again.
func TestReturnInTurnAfterALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const down, up, all = 60 * sec, 64 * sec, 74 * sec
		lim := perSecond(300, 30)
		f := NewOn(t, 4, limiter.Config{Limit: lim, SyncInterval: sec, Processes: 4}, tuned, 1)
		defer f.Close()
		y := f.Run(lim, Load{
			Seed: 1, Dur: 90 * sec, Total: Steady(900), Weight: Skewed,
			At: []Event{
				{down, f.CutOff(true, f.Members...)},
				{up, func() { f.State.Wipe(); f.CutOff(false, f.Members[0])() }},
				{all, f.CutOff(false, f.Members[1:]...)},
			},
		})
		if over := y.Over(up, up+10*sec); math.Abs(over) > 0.05 {
			t.Errorf("admitted %+.2f %% against one central bucket while one is back", 100*over)
		}
		if over := y.Over(all, all+10*sec); math.Abs(over) > 0.05 {
			t.Errorf("admitted %+.2f %% against one central bucket once all are back", 100*over)
		}
	})
}

// TestOutageWithLossGivesNoBurst: Redis is gone for a while and comes back
// empty. What the processes saw last, and have run up since, leaves the bucket
// where it would be.
func TestOutageWithLossGivesNoBurst(t *testing.T) {
	for _, tc := range []struct {
		n      int
		demand float64
		away   time.Duration
	}{{2, 600, 2 * time.Second}, {2, 600, 8 * time.Second}, {2, 3000, 20 * time.Second}, {5, 900, 8 * time.Second}} {
		if testing.Short() && tc.demand > 600 {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			lim := perSecond(300, 300)
			f := New(t, tc.n, limiter.Config{Limit: lim})
			defer f.Close()
			y := f.Run(lim, Load{
				Seed: 9, Dur: 15*time.Second + tc.away, Total: Steady(tc.demand), Weight: Equal,
				At: []Event{
					{10 * time.Second, func() { f.Down.Store(true) }},
					{10*time.Second + tc.away, func() { f.State.Wipe(); f.Down.Store(false) }},
				},
			})
			back := 10*time.Second + tc.away
			t.Logf("%d processes, %v away: %+.2f %% in the outage, %+.2f %% in the 3 s after; worst window %.2f bursts over", tc.n, tc.away, 100*y.Over(10*time.Second, back), 100*y.Over(back, back+3*time.Second), y.Excess())
			if over := y.Over(back, back+3*time.Second); math.Abs(over) > 0.06 {
				t.Errorf("%d processes, %v away: %+.2f %% against one central bucket in the 3 s after", tc.n, tc.away, 100*over)
			}
		})
	}
}

// TestReportsAreCountedOnce: with lost requests and replies, every token admitted is
// charged exactly once.
func TestReportsAreCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lim := limiter.Limit{Rate: 1000, Burst: 1e9} // a token is a millisecond, and the bucket is never full again
		// An interval so long that no process is ever silent, which would change
		// the charge of a token.
		f := New(t, 3, limiter.Config{Limit: lim, SyncInterval: time.Second})
		defer f.Close()
		first := f.Members[0]
		first.Charge("k", 1e6)
		for _, m := range f.Members {
			m.Charge("k", 1)
			if err := Sync(m.Limiter); err != nil {
				t.Fatal(err)
			}
		}
		begin, debt := time.Now(), f.ToGo("k")
		rng := rand.New(rand.NewPCG(6, 6))
		want := time.Duration(0)
		for _, m := range f.Members {
			m.SetLoss(1./3, 1./3)
		}
		for range 20000 {
			m := f.Members[rng.IntN(3)]
			n := rng.IntN(5)
			switch rng.IntN(10) {
			case 0:
				m.Refund("k", n)
				want -= time.Duration(n) * time.Millisecond
			case 1:
				m.Charge("k", n)
				want += time.Duration(n) * time.Millisecond
			default:
				if m.AllowN("k", n) {
					want += time.Duration(n) * time.Millisecond
				}
			}
			time.Sleep(time.Duration(rng.ExpFloat64() * 1e6))
		}
		for _, m := range f.Members {
			Until(t, "all is exchanged", func() bool { return Sync(m.Limiter) == nil })
		}
		if got := f.ToGo("k") - debt + time.Since(begin); (got - want).Abs() > time.Microsecond {
			t.Errorf("charged %v, want %v", got, want)
		}
		if s := first.Stats(); s.RoundErrors == 0 || s.DuplicateRounds == 0 {
			t.Errorf("nothing was lost: %+v", s)
		}
	})
}

// TestDenialConsumesNothing: a denied request is charged nowhere.
func TestDenialConsumesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, 2, limiter.Config{Limit: perSecond(0.001, 10)})
		defer f.Close()
		a, b := f.Members[0], f.Members[1]
		if !a.AllowN("k", 10) {
			t.Fatal("a full bucket denies")
		}
		_ = Sync(a.Limiter)
		begin := time.Now()
		before := f.ToGo("k")
		for range 1000 {
			if b.AllowN("k", 3) && b.Peek("k").Age >= 0 {
				t.Fatal("an empty bucket admits")
			}
			time.Sleep(time.Millisecond)
		}
		_ = Sync(b.Limiter)
		_ = Sync(b.Limiter)
		after := f.ToGo("k") + time.Since(begin)
		taken := b.Stats().Allowed * 3
		if got := (after - before).Round(time.Microsecond); got != time.Duration(taken)*1000*time.Second {
			t.Errorf("1000 requests of which %d tokens were admitted charged %v", taken, got)
		}
	})
}

// TestDecisionsNeverWait: with a state whose calls hang for ever, decisions
// take no time, the process goes stale, and Close returns.
func TestDecisionsNeverWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, 2, limiter.Config{Limit: busy})
		m := f.Members[0]
		Until(t, "synced", func() bool { return m.Status().State == limiter.Synced })
		release := make(chan struct{})
		m.Hung = release
		begin := time.Now()
		for range 1000 {
			m.Take("k")
			m.Allow("other")
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("decisions took %v", d)
		}
		Until(t, "degraded", func() bool { return m.Status().State == limiter.Degraded })
		if d := time.Since(begin); d > 500*time.Millisecond {
			t.Errorf("degraded after %v", d)
		}
		begin = time.Now()
		if err := m.Close(); err != nil || time.Since(begin) > 2*time.Second {
			t.Errorf("Close: %v after %v", err, time.Since(begin))
		}
		if !m.Allow("k") {
			t.Error("closed, it denies what it has")
		}
		close(release)
		f.Close()
	})
}

// TestCloseTellsAll: Close reports all usage, leaves the fleet, and may be called again,
// from any goroutine.
func TestCloseTellsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, 2, limiter.Config{Limit: perSecond(1, 1000)})
		a, b := f.Members[0], f.Members[1]
		Until(t, "both see each other", func() bool { return a.Status().Processes == 2 && b.Status().Processes == 2 })
		a.AllowN("k", 100)
		for range 3 {
			go func() { _ = a.Close() }()
		}
		_ = a.Close()
		if got := f.ToGo("k").Round(time.Second); got != 100*time.Second {
			t.Errorf("after Close %v are charged, want 100s", got)
		}
		Until(t, "the other is alone", func() bool { return b.Status().Processes == 1 })
		ctx := context.Background()
		if e1, e2 := a.Sync(ctx), a.Reset(ctx, "k"); !errors.Is(e1, limiter.ErrClosed) || !errors.Is(e2, limiter.ErrClosed) {
			t.Errorf("after Close: Sync %v, Reset %v", e1, e2)
		}
		if err := a.Wait(ctx, "k"); err != nil || !a.Allow("new") {
			t.Errorf("after Close: Wait %v, or a new key is denied", err)
		}
		f.Close()
	})
}

// TestResetReachesTheFleet: a key that was reset is full here at once, in the
// state, and elsewhere after its next exchange.
func TestResetReachesTheFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, 2, limiter.Config{Limit: perSecond(0.01, 50)})
		defer f.Close()
		a, b := f.Members[0], f.Members[1]
		Until(t, "both see each other", func() bool { return a.Status().Processes == 2 && b.Status().Processes == 2 })
		b.AllowN("k", 50)
		_, _ = Sync(b.Limiter), Sync(a.Limiter)
		a.Allow("k")
		_ = Sync(a.Limiter)
		if got := a.Peek("k").Remaining; got != 0 {
			t.Fatalf("%d remain of a bucket that another process has emptied", got)
		}
		if err := a.Reset(context.Background(), "k"); err != nil {
			t.Fatal(err)
		}
		if got := a.Peek("k").Remaining; got != 50 {
			t.Errorf("%d remain here after Reset, want 50", got)
		}
		if got := f.ToGo("k"); got > 0 {
			t.Errorf("the state has %v to go after Reset", got)
		}
		_ = Sync(b.Limiter)
		if got := b.Peek("k").Remaining; got < 49 {
			t.Errorf("%d remain elsewhere after Reset and an exchange", got)
		}
		f.Down.Store(true)
		if err := a.Reset(context.Background(), "never seen"); err == nil {
			t.Error("Reset without the state is confirmed")
		}
	})
}

// TestNewsReachesFirstContacts: a process that sees a key for the first time, after others
// have emptied it, finds no full bucket. News of a key in memory counts too, and a reset
// reaches the processes that have the key.
func TestNewsReachesFirstContacts(t *testing.T) {
	for _, secret := range [][]byte{nil, make([]byte, 16)} {
		synctest.Test(t, func(t *testing.T) {
			newsReaches(t, limiter.Config{Limit: limiter.Per(6, time.Minute), KeySecret: secret})
		})
	}
}

func newsReaches(t *testing.T, cfg limiter.Config) {
	f := New(t, 3, cfg)
	defer f.Close()
	a, b, c := f.Members[0], f.Members[1], f.Members[2]
	for _, m := range f.Members {
		Until(t, "all see each other", func() bool { return m.Status().Processes == 3 })
	}
	c.Allow("k")
	time.Sleep(time.Second)
	a.AllowN("k", 5)
	time.Sleep(300 * time.Millisecond)
	if r := b.Peek("k"); r.Remaining > 0 || r.ResetAfter < 50*time.Second {
		t.Errorf("at a first contact: %+v of an empty bucket", r)
	}
	if r := c.Peek("k"); r.Remaining > 0 || r.ResetAfter < 50*time.Second {
		t.Errorf("where the key is resident: %+v of an empty bucket", r)
	}
	if got := b.Stats(); got.NewsHeard == 0 || got.Keys != 0 {
		t.Errorf("%+v", got)
	}
	if err := a.Reset(context.Background(), "k"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	for i, m := range f.Members {
		if r := m.Peek("k"); r.Remaining < 5 {
			t.Errorf("process %d after a reset elsewhere: %+v", i, r)
		}
	}
	long := string(make([]byte, 200))
	a.AllowN(long, 6)
	time.Sleep(300 * time.Millisecond)
	if r := b.Peek(long); r.Remaining > 0 {
		t.Errorf("a digest at a first contact: %+v of an empty bucket", r)
	}
}

// TestOverAdmissionIsCounted: Stats counts the tokens admitted beyond one bucket, about
// right.
func TestOverAdmissionIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lim := perSecond(0.01, 100)
		f := New(t, 4, limiter.Config{Limit: lim})
		defer f.Close()
		for _, m := range f.Members {
			Until(t, "all see each other", func() bool { return m.Status().Processes == 4 })
		}
		for _, m := range f.Members {
			m.AllowN("k", 100)
		}
		over := func() (n uint64) {
			for _, m := range f.Members {
				n += m.Stats().OverAdmitted
			}
			return n
		}
		Until(t, "all is told", func() bool { return f.ToGo("k") > 39000*time.Second })
		time.Sleep(time.Second)
		if got := over(); got < 290 || got > 300 {
			t.Errorf("%d tokens counted as admitted beyond one bucket, want about 300", got)
		}
	})
}

// TestEvictedUsageArrives: usage of a key that was evicted before it was
// reported is charged all the same.
func TestEvictedUsageArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, 1, limiter.Config{Limit: perSecond(1, 1000), MaxKeys: 10})
		defer f.Close()
		m := f.Members[0]
		Until(t, "synced", func() bool { return m.Status().State == limiter.Synced })
		m.AllowN("evicted", 500)
		for i := range 10 {
			m.Allow(string(rune('a' + i)))
		}
		if got := m.Stats(); got.Evicted != 1 || got.Keys != 10 {
			t.Fatalf("%+v", got)
		}
		Until(t, "charged", func() bool { return f.ToGo("evicted") > 490*time.Second })
		if got := m.Stats().DroppedTokens; got != 0 {
			t.Errorf("%d tokens dropped", got)
		}
	})
}

// TestPauseGrantsOneBurst: however long a process does nothing, or has no
// contact, it then has a burst and no more, alone and in a fleet.
func TestPauseGrantsOneBurst(t *testing.T) {
	pause := longtest.Choose[time.Duration](3, 10, 10) * time.Minute // 20 s fill the bucket
	for _, n := range longtest.Choose([]int{2}, []int{1, 3}, []int{1, 3}) {
		synctest.Test(t, func(t *testing.T) {
			f := New(t, n, limiter.Config{Limit: perSecond(1, 20)})
			defer f.Close()
			m := f.Members[0]
			for _, cut := range []bool{false, true} {
				m.Allow("k")
				m.Cut.Store(cut)
				time.Sleep(pause)
				m.Cut.Store(false)
				admitted := 0
				for range 100 {
					if m.Allow("k") {
						admitted++
					}
				}
				if admitted > 20 || admitted == 0 {
					t.Errorf("%d processes, cut off %v: %d admitted after %v, want 1 to 20", n, cut, admitted, pause)
				}
			}
		})
	}
}

// TestOnChangeIsToldInOrder: every change of state, in order, and one log line
// each.
func TestOnChangeIsToldInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var states []limiter.State
		told := make(chan limiter.State, 10)
		f := New(t, 1, limiter.Config{Limit: busy, OnChange: func(st limiter.Status) { told <- st.State }})
		defer f.Close()
		for _, down := range []bool{false, true, false} {
			f.Down.Store(down)
			states = append(states, <-told)
		}
		if want := []limiter.State{limiter.Synced, limiter.Degraded, limiter.Synced}; !slices.Equal(states, want) {
			t.Errorf("told %v, want %v", states, want)
		}
	})
}

// TestWaitersKeepPaceInAnOutage: a fleet of worker pools runs at the limit
// while the state is away, too.
func TestWaitersKeepPaceInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, 5, limiter.Config{Limit: perSecond(300, 30)})
		ctx, cancel := context.WithCancel(context.Background())
		var done atomic.Int64
		for _, m := range f.Members {
			for range 4 {
				go func() {
					for m.Wait(ctx, "k") == nil {
						done.Add(1)
					}
				}()
			}
		}
		pace := func(d time.Duration) float64 {
			before := done.Load()
			time.Sleep(d)
			return float64(done.Load()-before) / d.Seconds()
		}
		time.Sleep(5 * time.Second)
		for _, phase := range []string{"before", "in the outage", "after"} {
			f.Down.Store(phase == "in the outage")
			got := pace(10 * time.Second)
			t.Logf("%s %.1f/s", phase, got)
			if math.Abs(got/300-1) > 0.04 {
				t.Errorf("%s %.1f/s, want 300/s", phase, got)
			}
		}
		cancel()
		f.Close()
	})
}

// TestWaitIsShortenedByGrants: a waiter in a fleet acts when the shared bucket
// says so, not when its small share of the moment would.
func TestWaitIsShortenedByGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, 10, limiter.Config{Limit: perSecond(100, 10)})
		defer f.Close()
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			for range 3000 {
				f.Members[0].Allow("k")
				time.Sleep(time.Millisecond)
			}
		}()
		time.Sleep(time.Second)
		begin := time.Now()
		if err := f.Members[9].WaitN(context.Background(), "k", 10); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begin); d > 500*time.Millisecond {
			t.Errorf("waited %v for what takes the fleet 100 ms", d)
		}
		<-stop
	})
}

// TestRunsReplay: a run of the fleet from the same seed is the same to the last decision,
// with any faults of the network.
func TestRunsReplay(t *testing.T) {
	once := func(seed uint64) (print uint64) {
		synctest.Test(t, func(t *testing.T) {
			n, rate := longtest.Choose(4, 20, 20), longtest.Choose(1500., 3000, 3000)
			way := simnet.Path{Trip: 20 * time.Millisecond, Jitter: 0.8, LoseRequest: 0.05, LoseReply: 0.05, Duplicate: 0.1, Timeout: 300 * time.Millisecond}
			f := NewOn(t, n, limiter.Config{Limit: busy}, way, seed)
			defer f.Close()
			print = f.Run(busy, Load{
				Seed: seed, Dur: 20 * time.Second, Total: Steady(rate), Weight: Skewed,
				At: []Event{
					{5 * time.Second, f.CutOff(true, f.Members[:n/3]...)},
					{9 * time.Second, f.CutOff(false, f.Members[:n/3]...)},
					{10 * time.Second, f.State.Wipe},
					{12 * time.Second, func() { f.Down.Store(true) }},
					{15 * time.Second, func() { f.Down.Store(false) }},
				},
			}).Print
		})
		return print
	}
	first, again, other := once(1), once(1), once(2)
	if first != again {
		t.Errorf("the same seed gave %x and %x", first, again)
	}
	if first == other {
		t.Error("another seed gave the same run: nothing is compared")
	}
}

// TestLongRoundTripsShareToo: a round trip of more than two intervals must not
// keep busy keys in the state of an outage.
func TestLongRoundTripsShareToo(t *testing.T) {
	for _, tc := range []struct{ interval, delay time.Duration }{
		{time.Millisecond, 5 * time.Millisecond},
		{100 * time.Millisecond, 110 * time.Millisecond},
	} {
		t.Run(fmt.Sprint(tc.interval, ", round trip ", 2*tc.delay), func(t *testing.T) {
			dur := 10 * time.Second
			if testing.Short() && tc.interval == time.Millisecond {
				dur = 4 * time.Second
			}
			synctest.Test(t, func(t *testing.T) {
				f := NewOn(t, 4, limiter.Config{Limit: busy, SyncInterval: tc.interval}, simnet.Path{Trip: 2 * tc.delay}, 0)
				y := f.Run(busy, Load{Seed: 1, Dur: dur, Total: Steady(3000), Weight: Equal})
				if over := y.Over(dur/2, dur); math.Abs(over) > 0.02 {
					t.Errorf("admitted %+.2f %% against one central bucket", 100*over)
				}
				f.Close()
				time.Sleep(time.Second) // for calls still under way
			})
		})
	}
}

// TestLongestIntervalKeepsTheFleet: with the longest interval, too, everybody
// is counted, always.
func TestLongestIntervalKeepsTheFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := longtest.Choose(3, 8, 8)
		f := New(t, n, limiter.Config{Limit: busy, SyncInterval: time.Minute})
		defer f.Close()
		time.Sleep(longtest.Choose[time.Duration](5, 10, 10) * time.Minute) // for all to have met
		for range longtest.Choose(60, 300, 900) {
			time.Sleep(time.Second)
			for i, m := range f.Members {
				if got := m.Status().Processes; got != n {
					t.Fatalf("process %d counts %d processes of %d", i, got, n)
				}
			}
		}
	})
}

// TestNewsIsToldOnce: a known debt of a key is not announced again because of the jitter
// of the network.
func TestNewsIsToldOnce(t *testing.T) {
	for _, jitter := range longtest.Choose([]float64{0.8}, []float64{0, 0.8}, []float64{0, 0.8}) {
		synctest.Test(t, func(t *testing.T) {
			n := longtest.Choose(4, 10, 10)
			lim := limiter.Per(60, time.Minute)
			f := NewOn(t, n, limiter.Config{Limit: lim}, simnet.Path{Trip: 20 * time.Millisecond, Jitter: jitter}, 0)
			defer f.Close()
			f.Run(lim, Load{Seed: 1, Dur: 2 * time.Minute, Total: Steady(50), Weight: Equal})
			heard := f.Members[0].Stats().NewsHeard
			t.Logf("jitter %v: %d news of one key in 2 minutes", jitter, heard)
			if heard > 20 { // one for each quarter of a burst makes 8
				t.Errorf("jitter %v: %d news of one key in 2 minutes", jitter, heard)
			}
		})
	}
}
