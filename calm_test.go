package limiter

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

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
						e := m.local.find("k")
						if e.pending.asked != 0 {
							waits++
						}
						e.mu.Unlock()
					}
					if waits < 4000 {
						t.Errorf("%d of 5000 decisions were noted in the entry", waits)
					}
					e := openedEntry(m.Limiter, "k")
					if got, want := e.demandAfter(m.now(), m.local.world.Load()), 1000*float64(cost); math.Abs(got/want-1) > 0.01 {
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
				got := float64(lim.Burst) - f.toGo("k").Seconds()*float64(lim.Rate)
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
		f.down.Store(true)
		for m.Allow("k"); !m.local.stale.Load(); m.Allow("k") {
			time.Sleep(time.Millisecond)
		}
		m.Allow("k")
		if e := residentEntry(m.local, "k"); e.mode != modeStale {
			t.Errorf("mode %v when the grant can't be renewed", e.mode)
		}
	})
}
