package limiter

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// TestDemandOfWhatWaits: what decisions note in their entry becomes the demand that
// it was, within a hundredth, be it allowed, denied, or both, and be they so many
// that the entry has no room.
func TestDemandOfWhatWaits(t *testing.T) {
	for name, lim := range map[string]Limit{
		"allowed":   {Rate: 1e6, Burst: 1e6},
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
						if residentEntry(m.local, "k").pending.asked != 0 {
							waits++
						}
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
