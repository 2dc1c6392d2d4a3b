package fleetsim

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/longtest"
	"github.com/seed-e56e777b/limiter/internal/simnet"
)

// quietCase is a load that is idle when an outage begins, and the fleet's admission in the
// outage, as a part of one central bucket's.
type quietCase struct {
	n           int
	lim         limiter.Limit
	what        string
	total       func(time.Duration) float64
	weight      func(int, time.Duration) float64
	down, dur   time.Duration
	least, most float64
}

// clumped is requests that come together, once in every period.
func clumped(requests float64, period time.Duration) func(time.Duration) float64 {
	const width = 40 * time.Millisecond
	return OnOff(requests/width.Seconds(), width, period)
}

// idling is a load of ten times the rate that pauses for as long before an outage.
func idling(n int, lim limiter.Limit, pause time.Duration, least float64) quietCase {
	down := 20*sec + pause
	hard := 10 * float64(lim.Rate)
	total := func(at time.Duration) float64 {
		if at >= 20*sec && at < down {
			return 0
		}
		return hard
	}
	return quietCase{n, lim, fmt.Sprintf("idle for %v", pause), total, Equal, down, down + 20*sec, least, 1.25}
}

// moving is one that left one process for another so long before an outage, and
// then comes to both.
func moving(lim limiter.Limit, ago time.Duration) quietCase {
	down := 20*sec + ago
	weight := func(process int, at time.Duration) float64 {
		if at >= down || (process == 0) == (at < 20*sec) {
			return 1
		}
		return 0
	}
	return quietCase{2, lim, fmt.Sprintf("moved %v ago", ago), Steady(10 * float64(lim.Rate)), weight, down, down + 20*sec, 0.75, 1.25}
}

// TestOutageStarvesNoIdleKey: a key that was quiet when the state went away has
// about its limit in the outage, whether its requests come in clumps or it was
// asked for again after a pause; and where its load had moved the total stays
// at the limit.
func TestOutageStarvesNoIdleKey(t *testing.T) {
	slow, second := perSecond(0.5, 5), perSecond(100, 100)
	for _, tc := range []quietCase{
		{2, slow, "4 at once every 10 s", clumped(4, 10*sec), Equal, 65 * sec, 165 * sec, 0.6, 1.25},
		{10, slow, "4 at once every 10 s", clumped(4, 10*sec), Equal, 65 * sec, 165 * sec, 0.4, 1.25},
		{10, slow, "0.9 r 1/k", Steady(0.45), Skewed, 120 * sec, 240 * sec, 0.75, 1.25},
		idling(2, slow, 10*sec, 0.8),
		idling(10, slow, 10*sec, 0.66),
		idling(2, slow, 2*time.Minute, 0.8),
		idling(10, slow, 2*time.Minute, 0.8),
		idling(2, limiter.Per(5, time.Minute), 2*time.Minute, 0.8),
		idling(10, second, 10*sec, 0.9),
		idling(10, second, 2*time.Minute, 0.9),
		moving(slow, 2*time.Minute),
		moving(second, 2*time.Minute),
		moving(second, 30*sec),
		moving(busy, 2*time.Minute),
	} {
		t.Run(fmt.Sprintf("%d processes, %g per s, %s", tc.n, tc.lim.Rate, tc.what), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && (tc.n > 2 || tc.dur > 165*sec || tc.what == "moved 2m0s ago") || !longtest.Enabled() && (tc.lim == busy || tc.n > 2 && tc.what == "idle for 2m0s") {
				t.Skip("runs longer")
			}
			fleet, central := 0., 0.
			seeds := longtest.Choose(1., 2, 5)
			if tc.dur <= time.Minute && !testing.Short() {
				seeds = 5
			}
			for seed := range uint64(max(1, min(seeds, 2.5/float64(tc.lim.Rate)))) {
				synctest.Test(t, func(t *testing.T) {
					f := NewOn(t, tc.n, limiter.Config{Limit: tc.lim}, simnet.Near, seed)
					defer f.Close()
					y := f.Run(tc.lim, Load{
						Seed: seed, Dur: tc.dur, Total: tc.total, Weight: tc.weight,
						At: []Event{{tc.down, func() { f.Down.Store(true) }}},
					})
					fleet += between(y.admitted, tc.down, tc.dur)
					central += between(y.central, tc.down, tc.dur)
				})
			}
			t.Logf("admitted %.0f, one central bucket %.0f: %.2f", fleet, central, fleet/central)
			if part := fleet / central; part < tc.least || part > tc.most {
				t.Errorf("admitted %.0f, one central bucket %.0f: %.2f, want %v to %v", fleet, central, part, tc.least, tc.most)
			}
		})
	}
}
