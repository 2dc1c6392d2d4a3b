package limiter

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestNewsIsToldOnce: what the fleet knows of a key in debt is not told again
// for nothing but the unevenness of the way to the state.
func TestNewsIsToldOnce(t *testing.T) {
	for _, jitter := range []float64{0, 0.8} {
		synctest.Test(t, func(t *testing.T) {
			const n = 10
			lim := Per(60, time.Minute)
			f := newFleetOn(t, n, Config{Limit: lim}, path{trip: 20 * time.Millisecond, jitter: jitter}, 0)
			defer f.close()
			f.run(lim, load{seed: 1, dur: 2 * time.Minute, total: steady(50), weight: equal})
			heard := f.members[0].Stats().NewsHeard
			t.Logf("jitter %v: %d news of one key in 2 minutes", jitter, heard)
			if heard > 20 { // one for each quarter of a burst makes 8
				t.Errorf("jitter %v: %d news of one key in 2 minutes", jitter, heard)
			}
		})
	}
}
