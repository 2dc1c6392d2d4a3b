package limiter

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// quietCase is a load that is quiet now and then, and what the fleet may admit
// of it in an outage, in parts of what a central bucket admits.
type quietCase struct {
	name        string
	n           int
	lim         Limit
	total       func(time.Duration) float64
	weight      func(int, time.Duration) float64
	down, dur   time.Duration
	regular     bool
	least, most float64
}

// clumps are requests that all come at once, every period.
func clumps(requests float64, period time.Duration) func(time.Duration) float64 {
	const width = 40 * time.Millisecond
	return onOff(requests/width.Seconds(), width, period)
}

// pausing is a demand of early up to an instant, and of late from another on.
func pausing(early float64, pause time.Duration, late float64, again time.Duration) func(time.Duration) float64 {
	return func(at time.Duration) float64 {
		switch {
		case at < pause:
			return early
		case at < again:
			return 0
		}
		return late
	}
}

// movedAt is a load that goes from one process to another at an instant, and
// to all at a later one.
func movedAt(move, spread time.Duration) func(int, time.Duration) float64 {
	return func(process int, at time.Duration) float64 {
		switch {
		case at >= spread, at < move && process == 0, at >= move && process == 1:
			return 1
		}
		return 0
	}
}

func quietCases() (list []quietCase) {
	slow, second := Limit{Rate: 0.5, Burst: 5}, Limit{Rate: 100, Burst: 100}
	for _, n := range []int{2, 10, 100} {
		list = append(list, quietCase{
			"5/10s, 4 at once every 10 s", n, slow, clumps(4, 10*sec), equal, 65 * sec, 165 * sec, true, 0.8, 1.25,
		})
	}
	for _, lim := range []Limit{slow, Per(5, time.Minute), second, busy} {
		r := float64(lim.Rate)
		for _, idle := range []time.Duration{3 * sec, 10 * sec, 30 * sec, 2 * time.Minute} {
			for _, n := range []int{2, 10} {
				down := 20*sec + idle
				list = append(list, quietCase{
					fmt.Sprintf("%v, idle %v", lim, idle), n, lim, pausing(10*r, 20*sec, 10*r, down), equal, down, down + 20*sec, false, 0.7, 1.25,
				})
				list = append(list, quietCase{
					fmt.Sprintf("%v, moved %v ago", lim, idle), n, lim, steady(10 * r), movedAt(20*sec, down), down, down + 20*sec, false, 0, 1.25,
				})
			}
		}
		list = append(list, quietCase{
			fmt.Sprintf("%v, rises, moved 5 s ago", lim), 2, lim, stepped(0.1*r, 5*r, 57*sec, time.Hour), movedAt(60*sec, 65*sec), 65 * sec, 95 * sec, false, 0, 1.25,
		})
		list = append(list, quietCase{
			fmt.Sprintf("%v, 0.9 r 1/k", lim), 10, lim, steady(0.9 * r), skewed, 120 * sec, 240 * sec, false, 0.9, 1.25,
		})
	}
	return list
}

// TestOutageSparesIdleKeys ...
func TestOutageSparesIdleKeys(t *testing.T) {
	for _, tc := range quietCases() {
		t.Run(fmt.Sprintf("%d, %s", tc.n, tc.name), func(t *testing.T) {
			fleet, central := 0., 0.
			seeds := max(1, min(30, int(60/float64(tc.lim.Rate))))
			if tc.n == 100 {
				seeds = 5
			}
			for seed := range seeds {
				synctest.Test(t, func(t *testing.T) {
					f := newFleetOn(t, tc.n, Config{Limit: tc.lim}, near, 0, uint64(seed))
					defer f.close()
					y := f.run(tc.lim, load{
						seed: uint64(seed), dur: tc.dur, total: tc.total, weight: tc.weight, regular: tc.regular,
						at: []event{{tc.down, func() { f.down.Store(true) }}},
					})
					fleet += between(y.admitted, tc.down, tc.dur)
					central += between(y.central, tc.down, tc.dur)
				})
			}
			t.Logf("admitted %.0f of %.0f: %.2f", fleet, central, fleet/central)
			if part := fleet / central; part < tc.least || part > tc.most {
				t.Errorf("admitted %.0f, where a central bucket admits %.0f", fleet, central)
			}
		})
	}
}
