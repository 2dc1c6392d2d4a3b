package limiter

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var busy = Limit{Rate: 1000, Burst: 100}

// TestFleetIsOneBucket: while the state answers, and once the fleet has met,
// it admits what one central bucket admits of the same requests.
func TestFleetIsOneBucket(t *testing.T) {
	for _, tc := range []struct {
		name   string
		n      int
		demand float64
		weight func(int, time.Duration) float64
		over   float64
		excess float64 // bursts
	}{
		{"alone, 3 r", 1, 3000, equal, 0.001, 0.02},
		{"10, 0.8 r", 10, 800, equal, 0.001, 0.02},
		{"10, 1.2 r, skewed", 10, 1200, skewed, 0.005, 0.25},
		{"10, 2 r", 10, 2000, equal, 0.005, 0.5},
		{"10, 10 r", 10, 10000, equal, 0.005, 1},
		{"100, 2 r", 100, 2000, equal, 0.005, 0.5},
		{"10, 3 r, jumping", 10, 3000, jumping, 0.01, 0.5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, tc.n, Config{Limit: busy})
				defer f.close()
				y := f.run(busy, load{seed: 1, dur: 25 * time.Second, total: steady(tc.demand), weight: tc.weight})
				t.Logf("admitted %+.2f %% against one central bucket; worst window %.2f bursts over", 100*y.over(5*time.Second, 25*time.Second), y.excess())
				if over := y.over(5*time.Second, 25*time.Second); math.Abs(over) > tc.over {
					t.Errorf("admitted %+.2f %% against one central bucket, want at most %.1f %%", 100*over, 100*tc.over)
				}
				if y.excess() > tc.excess {
					t.Errorf("worst window %.2f bursts over r·t + b, want at most %v", y.excess(), tc.excess)
				}
			})
		})
	}
}

// TestRiseIsBounded: a sudden rise of demand over-admits at most what the
// documentation says, and pays it back.
func TestRiseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, high = 10, 5000
		f := newFleet(t, n, Config{Limit: busy})
		defer f.close()
		step := func(at time.Duration) float64 {
			if at > 10*time.Second && at < 20*time.Second {
				return high
			}
			return 500
		}
		y := f.run(busy, load{seed: 8, dur: 30 * time.Second, total: step, weight: equal})
		bound := min((n-1)*float64(busy.Burst), high*0.102) / float64(busy.Burst)
		t.Logf("worst window %.2f bursts over, bound %.2f; from the rise on %+.2f %%", y.excess(), bound, 100*y.over(10*time.Second, 30*time.Second))
		if y.excess() > bound {
			t.Errorf("worst window %.2f bursts over r·t + b, want at most %.2f", y.excess(), bound)
		}
		if over := y.over(10*time.Second, 30*time.Second); math.Abs(over) > 0.005 {
			t.Errorf("admitted %+.2f %% against one central bucket from the rise on", 100*over)
		}
	})
}

// TestOutageKeepsTheLimit: while the state is gone the fleet admits what a
// central bucket would, neither nothing nor everything nor N times the limit,
// and goes on without a burst or a pause when it is back.
func TestOutageKeepsTheLimit(t *testing.T) {
	for _, tc := range []struct {
		name   string
		n      int
		demand func(time.Duration) float64
		weight func(int, time.Duration) float64
		least  float64
		most   float64
	}{
		{"5, 3 r, skewed", 5, steady(3000), skewed, -0.03, 0.03},
		{"10, 3 r, skewed", 10, steady(3000), skewed, -0.03, 0.03},
		{"10, 0.5 r", 10, steady(500), equal, -0.01, 0.01},
		{"10, 0.5 r, then 5 r", 10, rise, equal, -0.05, 0.10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, tc.n, Config{Limit: busy})
				defer f.close()
				y := f.run(busy, load{
					seed: 2, dur: 30 * time.Second, total: tc.demand, weight: tc.weight,
					at: []event{
						{10 * time.Second, func() { f.down.Store(true) }},
						{15 * time.Second, func() { f.wantState(Degraded) }},
						{20 * time.Second, func() { f.down.Store(false) }},
						{22 * time.Second, func() { f.wantState(Synced) }},
					},
				})
				t.Logf("during the outage %+.2f %%, in the 5 s after %+.2f %%; worst window %.2f bursts over", 100*y.over(10*time.Second, 20*time.Second), 100*y.over(20*time.Second, 25*time.Second), y.excess())
				if over := y.over(10*time.Second, 20*time.Second); over < tc.least || over > tc.most {
					t.Errorf("admitted %+.2f %% against one central bucket during the outage", 100*over)
				}
				if over := y.over(20*time.Second, 25*time.Second); math.Abs(over) > 0.03 {
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

// TestPartOfTheFleetCutOff: those cut off keep their shares, and the others
// leave them room.
func TestPartOfTheFleetCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 10, Config{Limit: busy})
		defer f.close()
		y := f.run(busy, load{
			seed: 3, dur: 50 * time.Second, total: steady(3000), weight: equal,
			at: []event{{10 * time.Second, f.cutOff(true, f.members[:5]...)}, {40 * time.Second, f.cutOff(false, f.members[:5]...)}},
		})
		t.Logf("while half is cut off %+.2f %%, after %+.2f %%; worst window %.2f bursts over", 100*y.over(10*time.Second, 40*time.Second), 100*y.over(40*time.Second, 50*time.Second), y.excess())
		if over := y.over(10*time.Second, 40*time.Second); math.Abs(over) > 0.05 {
			t.Errorf("admitted %+.2f %% against one central bucket while half was cut off", 100*over)
		}
	})
}

// TestCrashCostsItsPart: a process that dies without a word leaves its part of
// the limit unused for a minute, and no longer; one that leaves costs nothing.
func TestCrashCostsItsPart(t *testing.T) {
	for _, clean := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 4, Config{Limit: busy})
			defer f.close()
			gone := false
			weight := func(process int, _ time.Duration) float64 {
				if process == 3 && gone {
					return 0
				}
				return 1
			}
			y := f.run(busy, load{
				seed: 10, dur: 90 * time.Second, total: steady(3000), weight: weight,
				at: []event{{10 * time.Second, func() {
					gone = true
					f.members[3].cut.Store(!clean)
					if clean {
						_ = f.members[3].Close()
					}
				}}},
			})
			during, after := y.over(15*time.Second, 60*time.Second), y.over(75*time.Second, 90*time.Second)
			t.Logf("clean %v: %+.2f %% in the minute after, %+.2f %% then", clean, 100*during, 100*after)
			if least := -0.26; during < least || clean && during < -0.01 || math.Abs(after) > 0.01 {
				t.Errorf("clean %v: %+.2f %% in the minute after, %+.2f %% then", clean, 100*during, 100*after)
			}
		})
	}
}

// TestResetAfterEnds: where Redis was never reached, when this process's share is full.
func TestResetAfterEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, Config{Limit: Per(100, time.Minute), Processes: 4})
		defer f.close()
		f.down.Store(true)
		a := f.members[0]
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
		f := newFleet(t, 4, Config{Limit: busy, Processes: 4})
		defer f.close()
		f.down.Store(true)
		y := f.run(busy, load{
			seed: 4, dur: 20 * time.Second, total: steady(3000), weight: equal,
			at: []event{
				{time.Second, func() {
					if st := f.members[0].Status(); st.State != Connecting || st.Processes != 4 {
						t.Errorf("before the state was reached: %+v", st)
					}
				}},
				{10 * time.Second, func() { f.down.Store(false) }},
				{12 * time.Second, func() { f.wantState(Synced) }},
			},
		})
		t.Logf("without state %+.2f %%, with it %+.2f %%", 100*y.over(0*time.Second, 10*time.Second), 100*y.over(10*time.Second, 20*time.Second))
		if over := y.over(0*time.Second, 10*time.Second); math.Abs(over) > 0.05 {
			t.Errorf("admitted %+.2f %% against one central bucket without state", 100*over)
		}
		if over := y.over(10*time.Second, 20*time.Second); math.Abs(over) > 0.03 {
			t.Errorf("admitted %+.2f %% against one central bucket with it", 100*over)
		}
	})
}

// TestWipeIsHealed: a state that loses everything is told what its processes
// have seen, so that nobody gets a fresh burst out of it.
func TestWipeIsHealed(t *testing.T) {
	for name, lose := range map[string]func(*fleet) func(){
		"wiped": func(f *fleet) func() { return f.state.Wipe },
		"rolled back": func(f *fleet) func() {
			old := f.state.Snapshot()
			return func() { f.state.Restore(old) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, 10, Config{Limit: busy})
				defer f.close()
				var back func()
				y := f.run(busy, load{
					seed: 5, dur: 30 * time.Second, total: steady(3000), weight: skewed,
					at: []event{{5 * time.Second, func() { back = lose(f) }}, {10 * time.Second, func() { back() }}},
				})
				t.Logf("%+.2f %%, worst window %.2f bursts over", 100*y.over(5*time.Second, 30*time.Second), y.excess())
				if over := y.over(5*time.Second, 30*time.Second); math.Abs(over) > 0.005 {
					t.Errorf("admitted %+.2f %% against one central bucket, want at most 0.5 %%", 100*over)
				}
				if f.members[0].Stats().Losses == 0 {
					t.Error("the loss went unseen")
				}
			})
		})
	}
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
		synctest.Test(t, func(t *testing.T) {
			lim := Limit{Rate: 300, Burst: 300}
			f := newFleet(t, tc.n, Config{Limit: lim})
			defer f.close()
			y := f.run(lim, load{
				seed: 9, dur: 15*time.Second + tc.away, total: steady(tc.demand), weight: equal,
				at: []event{
					{10 * time.Second, func() { f.down.Store(true) }},
					{10*time.Second + tc.away, func() { f.state.Wipe(); f.down.Store(false) }},
				},
			})
			back := 10*time.Second + tc.away
			t.Logf("%d processes, %v away: %+.2f %% in the outage, %+.2f %% in the 3 s after; worst window %.2f bursts over", tc.n, tc.away, 100*y.over(10*time.Second, back), 100*y.over(back, back+3*time.Second), y.excess())
			if over := y.over(back, back+3*time.Second); math.Abs(over) > 0.06 {
				t.Errorf("%d processes, %v away: %+.2f %% against one central bucket in the 3 s after", tc.n, tc.away, 100*over)
			}
		})
	}
}

// TestReportsAreCountedOnce: whatever gets lost on the way, every token
// admitted is charged exactly once.
func TestReportsAreCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lim := Limit{Rate: 1000, Burst: 1e9} // a token is a millisecond, and the bucket is never full again
		// An interval so long that nobody is ever taken for silent, which would
		// change what a token is charged as.
		f := newFleet(t, 3, Config{Limit: lim, SyncInterval: time.Second})
		defer f.close()
		first := f.members[0]
		first.Charge("k", 1e6)
		for _, m := range f.members {
			m.Charge("k", 1)
			if err := syncNow(m.Limiter); err != nil {
				t.Fatal(err)
			}
		}
		begin, debt := time.Now(), f.toGo("k")
		rng := rand.New(rand.NewPCG(6, 6))
		want := time.Duration(0)
		for _, m := range f.members {
			m.path.loseAsk, m.path.loseAns = 1./3, 1./3
		}
		for range 20000 {
			m := f.members[rng.IntN(3)]
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
		for _, m := range f.members {
			until(t, "all is exchanged", func() bool { return syncNow(m.Limiter) == nil })
		}
		if got := f.toGo("k") - debt + time.Since(begin); (got - want).Abs() > time.Microsecond {
			t.Errorf("charged %v, want %v", got, want)
		}
		if s := first.Stats(); s.RoundErrors == 0 || s.DuplicateRounds == 0 {
			t.Errorf("nothing was lost: %+v", s)
		}
	})
}

func syncNow(l *Limiter) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return l.Sync(ctx)
}

// TestDenialConsumesNothing: what was denied is charged nowhere.
func TestDenialConsumesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, Config{Limit: Limit{Rate: 0.001, Burst: 10}})
		defer f.close()
		a, b := f.members[0], f.members[1]
		if !a.AllowN("k", 10) {
			t.Fatal("a full bucket denies")
		}
		_ = syncNow(a.Limiter)
		before := f.toGo("k") + time.Duration(clock(a.base))
		for range 1000 {
			if b.AllowN("k", 3) && b.exchangedKey("k") {
				t.Fatal("an empty bucket admits")
			}
			time.Sleep(time.Millisecond)
		}
		_ = syncNow(b.Limiter)
		_ = syncNow(b.Limiter)
		after := f.toGo("k") + time.Duration(clock(a.base))
		taken := b.Stats().Allowed * 3
		if got := (after - before).Round(time.Microsecond); got != time.Duration(taken)*1000*time.Second {
			t.Errorf("1000 requests of which %d tokens were admitted charged %v", taken, got)
		}
	})
}

// exchangedKey reports whether a key's state is known here.
func (l *Limiter) exchangedKey(key string) bool { return l.Peek(key).Age >= 0 }

// TestDecisionsNeverWait: with a state whose calls hang for ever, decisions
// take no time, the process goes stale, and Close returns.
func TestDecisionsNeverWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, Config{Limit: busy})
		m := f.members[0]
		until(t, "synced", func() bool { return m.Status().State == Synced })
		release := make(chan struct{})
		m.hung = release
		begin := time.Now()
		for range 1000 {
			m.Take("k")
			m.Allow("other")
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("decisions took %v", d)
		}
		until(t, "degraded", func() bool { return m.Status().State == Degraded })
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
		f.close()
	})
}

// TestCloseTellsAll: Close reports what is unreported, leaves the fleet, and
// may be called again, from anywhere.
func TestCloseTellsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, Config{Limit: Limit{Rate: 1, Burst: 1000}})
		a, b := f.members[0], f.members[1]
		until(t, "both see each other", func() bool { return a.Status().Processes == 2 && b.Status().Processes == 2 })
		a.AllowN("k", 100)
		for range 3 {
			go func() { _ = a.Close() }()
		}
		_ = a.Close()
		if got := f.toGo("k").Round(time.Second); got != 100*time.Second {
			t.Errorf("after Close %v are charged, want 100s", got)
		}
		until(t, "the other is alone", func() bool { return b.Status().Processes == 1 })
		ctx := context.Background()
		if e1, e2 := a.Sync(ctx), a.Reset(ctx, "k"); !errors.Is(e1, ErrClosed) || !errors.Is(e2, ErrClosed) {
			t.Errorf("after Close: Sync %v, Reset %v", e1, e2)
		}
		if err := a.Wait(ctx, "k"); err != nil || !a.Allow("new") {
			t.Errorf("after Close: Wait %v, or a new key is denied", err)
		}
		f.close()
	})
}

// TestResetReachesTheFleet: a key that was reset is full here at once, in the
// state, and elsewhere after its next exchange.
func TestResetReachesTheFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, Config{Limit: Limit{Rate: 0.01, Burst: 50}})
		defer f.close()
		a, b := f.members[0], f.members[1]
		until(t, "both see each other", func() bool { return a.Status().Processes == 2 && b.Status().Processes == 2 })
		b.AllowN("k", 50)
		_, _ = syncNow(b.Limiter), syncNow(a.Limiter)
		a.Allow("k")
		_ = syncNow(a.Limiter)
		if got := a.Peek("k").Remaining; got != 0 {
			t.Fatalf("%d remain of a bucket that another process has emptied", got)
		}
		if err := a.Reset(context.Background(), "k"); err != nil {
			t.Fatal(err)
		}
		if got := a.Peek("k").Remaining; got != 50 {
			t.Errorf("%d remain here after Reset, want 50", got)
		}
		if got := f.toGo("k"); got > 0 {
			t.Errorf("the state has %v to go after Reset", got)
		}
		_ = syncNow(b.Limiter)
		if got := b.Peek("k").Remaining; got < 49 {
			t.Errorf("%d remain elsewhere after Reset and an exchange", got)
		}
		f.down.Store(true)
		if err := a.Reset(context.Background(), "never seen"); err == nil {
			t.Error("Reset without the state is confirmed")
		}
	})
}

// TestNewsReachesFirstContacts: who has never met a key that others have
// emptied does not take its bucket for full; a word on one that is resident is
// taken in too, and a reset reaches those that have met it.
func TestNewsReachesFirstContacts(t *testing.T) {
	for _, secret := range [][]byte{nil, make([]byte, minSecret)} {
		synctest.Test(t, func(t *testing.T) { newsReaches(t, Config{Limit: Per(6, time.Minute), KeySecret: secret}) })
	}
}

func newsReaches(t *testing.T, cfg Config) {
	f := newFleet(t, 3, cfg)
	defer f.close()
	a, b, c := f.members[0], f.members[1], f.members[2]
	for _, m := range f.members {
		until(t, "all see each other", func() bool { return m.Status().Processes == 3 })
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
	for i, m := range f.members {
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

// TestOverAdmissionIsCounted: what the fleet admitted beyond one bucket shows in
// Stats, about as large as it was.
func TestOverAdmissionIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lim := Limit{Rate: 0.01, Burst: 100}
		f := newFleet(t, 4, Config{Limit: lim})
		defer f.close()
		for _, m := range f.members {
			until(t, "all see each other", func() bool { return m.Status().Processes == 4 })
		}
		for _, m := range f.members {
			m.AllowN("k", 100)
		}
		over := func() (n uint64) {
			for _, m := range f.members {
				n += m.Stats().OverAdmitted
			}
			return n
		}
		until(t, "all is told", func() bool { return f.toGo("k") > 39000*time.Second })
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
		f := newFleet(t, 1, Config{Limit: Limit{Rate: 1, Burst: 1000}, MaxKeys: 10})
		defer f.close()
		m := f.members[0]
		until(t, "synced", func() bool { return m.Status().State == Synced })
		m.AllowN("evicted", 500)
		for i := range 10 {
			m.Allow(string(rune('a' + i)))
		}
		if got := m.Stats(); got.Evicted != 1 || got.Keys != 10 {
			t.Fatalf("%+v", got)
		}
		until(t, "charged", func() bool { return f.toGo("evicted") > 490*time.Second })
		if got := m.Stats().DroppedTokens; got != 0 {
			t.Errorf("%d tokens dropped", got)
		}
	})
}

// TestPauseGrantsOneBurst: however long a process does nothing, or has no
// contact, it then has a burst and no more, alone and in a fleet.
func TestPauseGrantsOneBurst(t *testing.T) {
	for _, n := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, n, Config{Limit: Limit{Rate: 1, Burst: 20}})
			defer f.close()
			m := f.members[0]
			for _, cut := range []bool{false, true} {
				m.Allow("k")
				m.cut.Store(cut)
				time.Sleep(10 * time.Minute)
				m.cut.Store(false)
				admitted := 0
				for range 100 {
					if m.Allow("k") {
						admitted++
					}
				}
				if admitted > 20 || admitted == 0 {
					t.Errorf("%d processes, cut off %v: %d admitted after ten minutes, want 1 to 20", n, cut, admitted)
				}
			}
		})
	}
}

// TestOnChangeIsToldInOrder: every change of state, in order, and one log line
// each.
func TestOnChangeIsToldInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var states []State
		told := make(chan State, 10)
		f := newFleet(t, 1, Config{Limit: busy, OnChange: func(st Status) { told <- st.State }})
		defer f.close()
		for _, down := range []bool{false, true, false} {
			f.down.Store(down)
			states = append(states, <-told)
		}
		if want := []State{Synced, Degraded, Synced}; !slices.Equal(states, want) {
			t.Errorf("told %v, want %v", states, want)
		}
	})
}

// TestWaitersKeepPaceInAnOutage: a fleet of worker pools runs at the limit
// while the state is away, too.
func TestWaitersKeepPaceInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 5, Config{Limit: Limit{Rate: 300, Burst: 30}})
		ctx, cancel := context.WithCancel(context.Background())
		var done atomic.Int64
		for _, m := range f.members {
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
			f.down.Store(phase == "in the outage")
			got := pace(10 * time.Second)
			t.Logf("%s %.1f/s", phase, got)
			if math.Abs(got/300-1) > 0.04 {
				t.Errorf("%s %.1f/s, want 300/s", phase, got)
			}
		}
		cancel()
		f.close()
	})
}

// TestWaitIsShortenedByGrants: a waiter in a fleet acts when the shared bucket
// says so, not when its small share of the moment would.
func TestWaitIsShortenedByGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 10, Config{Limit: Limit{Rate: 100, Burst: 10}})
		defer f.close()
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			for range 3000 {
				f.members[0].Allow("k")
				time.Sleep(time.Millisecond)
			}
		}()
		time.Sleep(time.Second)
		begin := time.Now()
		if err := f.members[9].WaitN(context.Background(), "k", 10); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begin); d > 500*time.Millisecond {
			t.Errorf("waited %v for what takes the fleet 100 ms", d)
		}
		<-stop
	})
}

// TestRunsReplay: a run of the fleet is the same again, to the last decision,
// from the same seed, whatever happens on the way to the state.
func TestRunsReplay(t *testing.T) {
	once := func(seed uint64) (print uint64) {
		synctest.Test(t, func(t *testing.T) {
			way := path{trip: 20 * time.Millisecond, jitter: 0.8, loseAsk: 0.05, loseAns: 0.05, twice: 0.1, timeout: 300 * time.Millisecond}
			f := newFleetOn(t, 20, Config{Limit: busy}, way, 0, seed)
			defer f.close()
			print = f.run(busy, load{
				seed: seed, dur: 20 * time.Second, total: steady(3000), weight: skewed,
				at: []event{
					{5 * time.Second, f.cutOff(true, f.members[:7]...)},
					{9 * time.Second, f.cutOff(false, f.members[:7]...)},
					{10 * time.Second, f.state.Wipe},
					{12 * time.Second, func() { f.down.Store(true) }},
					{15 * time.Second, func() { f.down.Store(false) }},
				},
			}).print
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
