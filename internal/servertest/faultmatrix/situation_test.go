package faultmatrix

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/servertest"
)

// TestFleetAsServicesRunIt: real processes on a real Redis admit about the limit
// through each situation. A situation that fails is tried again, because a busy
// machine may stall a fleet for seconds.
func TestFleetAsServicesRunIt(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some 20 s")
	}
	servertest.Need(t)
	const attempts = 3
	for _, st := range Situations(true) {
		t.Run(st.Name, func(t *testing.T) {
			t.Parallel()
			for range attempts {
				if roughlyAsRequired(t, st) {
					return
				}
			}
			t.Errorf("not as required in %d attempts", attempts)
		})
	}
}

// roughlyAsRequired runs a situation, and reports whether it keeps within wider
// bounds than those of the page.
func roughlyAsRequired(t *testing.T, st *Situation) bool {
	const below, above = 0.2, 0.15
	all, err := Observe(t.Context(), st, []Kind{Tuned})
	require.NoError(t, err)
	o := all[0]
	t.Logf("%s\nin each second: %.2f", o.row(), o.Seconds)
	var windows []Window
	for _, w := range st.Windows {
		windows = append(windows, w.WithSlack(below, above))
	}
	failed := o.FailedOf(windows)
	for _, mark := range failed {
		t.Logf("%s: %s", mark.What, mark.Note)
	}
	return len(failed) == 0
}

// TestObservedIsJudgedByItsSeconds: each bound of a window is found broken where
// it is, and nowhere else.
func TestObservedIsJudgedByItsSeconds(t *testing.T) {
	bounds := Window{From: 2 * time.Second, To: 4 * time.Second, Least: 0.9, Most: 1.1, LeastSecond: 0.5, MostSecond: 1.5}
	for _, c := range []struct {
		name   string
		counts []int // in each second, of a limit of 300
		failed string
	}{
		{"fine", []int{300, 300, 300, 300}, ""},
		{"too much before, without bounds", []int{900, 0, 300, 300}, ""},
		{"too little", []int{300, 300, 250, 250}, "admitted during"},
		{"too much", []int{300, 300, 350, 350}, "admitted during"},
		{"a pause", []int{300, 300, 140, 430}, "the least second during"},
		{"a burst", []int{300, 300, 460, 160}, "the most second during"},
	} {
		began := time.Unix(0, 0)
		o := &Observed{Situation: &Situation{Limit: sharedLimit, Windows: []Window{{To: 2 * time.Second}, bounds}}, began: began}
		for i, n := range c.counts {
			o.counts = append(o.counts, Event{At: began.Add(time.Duration(i)*time.Second + time.Millisecond), Admitted: n})
		}
		var failed []string
		for _, mark := range o.Failed() {
			failed = append(failed, mark.What)
		}
		if got := strings.Join(failed, ", "); got != c.failed {
			t.Errorf("%s: failed %q, want %q", c.name, got, c.failed)
		}
	}
}
