package faultmatrix

import (
	"errors"
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/longtest"
	"github.com/seed-e56e777b/limiter/internal/servertest"
)

func TestMain(m *testing.M) {
	if Serve() {
		return
	}
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("4") // the faults wait more than they compute
	}
	os.Exit(m.Run())
}

var (
	// quick lists faults without loss of data: a choice from the whole matrix,
	// which takes minutes.
	quick = append(
		shortest,
		"not running at start",
		"packets dropped both ways",
		"password changed, connections killed",
		"SCRIPT FLUSH",
	)
	// shortest lists the faults under -short.
	shortest = []string{
		"killed, back with its AOF",
		"SIGSTOP for 3s",
		"replies cut in their middle, one in five",
	}
)

// gainingClock may lose the tokens of the hour that the clock gains, as
// docs/faults.md reports.
const gainingClock = "clock an hour ahead after a restart"

// TestFaultsLoseAndDoubleNothing: real processes on a real Redis through some
// of the faults, in a long run through all but one: each is seen, all processes come
// back by themselves, and every token is charged once.
func TestFaultsLoseAndDoubleNothing(t *testing.T) {
	servertest.Need(t)
	pace := Pace{
		Settle: 200 * time.Millisecond, Before: 200 * time.Millisecond, After: 200 * time.Millisecond,
		Patience: 30 * time.Second, Unseen: 30 * time.Second,
	}
	names := quick
	switch {
	case longtest.Enabled():
		names = nil
		for _, f := range Faults(false) {
			if f.Name != gainingClock {
				names = append(names, f.Name)
			}
		}
	case testing.Short():
		names = shortest
	}
	found := 0
	for _, f := range Faults(false) {
		if !slices.Contains(names, f.Name) {
			continue
		}
		found++
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			if !longtest.Enabled() {
				f.Lasts = min(f.Lasts, 1500*time.Millisecond)
			}
			all, err := Run(t.Context(), f, []Kind{Tuned}, pace)
			if errors.Is(err, ErrNotHere) && os.Getenv("CI") == "" {
				t.Skip(err)
			}
			require.NoError(t, err)
			for _, m := range all {
				for _, mark := range m.Sound() {
					if !mark.OK {
						t.Errorf("%s: not so: %s\n%s", mark.What, mark.Note, m.Story())
					}
				}
				t.Logf("admitted %d tokens of the exact key, Redis has %.3f; back after %v", m.Admitted, m.Charged, m.Back)
			}
		})
	}
	require.Equal(t, len(names), found, "every name is that of a fault")
}

func TestNamesAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range Faults(true) {
		if seen[f.Name] {
			t.Errorf("two faults are called %q", f.Name)
		}
		seen[f.Name] = true
		if f.House == nil || f.Inject == nil || f.Lasts > 0 && f.Heal == nil || f.Want.Back == 0 {
			t.Errorf("%q is incomplete", f.Name)
		}
	}
}
