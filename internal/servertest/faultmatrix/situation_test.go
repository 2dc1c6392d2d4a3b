package faultmatrix

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/servertest"
)

// TestFleetAsServicesRunIt: real processes on a real Redis admit about the limit
// through each situation.
func TestFleetAsServicesRunIt(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some 15 s")
	}
	servertest.Need(t)
	const slack = 0.2 // for a busy machine
	for _, st := range Situations(true) {
		t.Run(st.Name, func(t *testing.T) {
			t.Parallel()
			all, err := Observe(t.Context(), st, []Kind{Tuned})
			require.NoError(t, err)
			var windows []Window
			for _, w := range st.Windows {
				windows = append(windows, w.WithSlack(slack))
			}
			for _, o := range all {
				for _, mark := range o.FailedOf(windows) {
					t.Errorf("%s: %s", mark.What, mark.Note)
				}
				t.Logf("%s\nin each second: %.2f", o.row(), o.Seconds)
			}
		})
	}
}
