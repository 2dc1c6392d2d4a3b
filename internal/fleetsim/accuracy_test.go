package fleetsim

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/longtest"
)

// TestMain keeps the fleets of a test to one core, where they take half the CPU time,
// most of all under the race detector. Runs at length use all.
func TestMain(m *testing.M) {
	flag.Parse()
	if !longtest.Enabled() && *folder == "" {
		runtime.GOMAXPROCS(1)
	}
	os.Exit(m.Run())
}

var folder = flag.String("accuracy", "", "run every scenario, and write docs/accuracy.md and its charts into this `folder`")

// missedFile lists the targets that are known to be missed, one a line.
const missedFile = "testdata/missed.txt"

// TestAccuracy holds the fleet to the targets of docs/accuracy.md: in a few
// scenarios, or at length in all of them. A target that testdata/missed.txt lists
// may be missed. With -accuracy it writes the page, its charts and that list.
func TestAccuracy(t *testing.T) {
	groups, all := Groups(), longtest.Enabled() || *folder != ""
	known := knownMisses(t)
	t.Run("scenarios", func(t *testing.T) {
		for i := range groups {
			for j := range groups[i].Scenarios {
				sc := &groups[i].Scenarios[j]
				if !all && (!sc.Fast || testing.Short()) {
					continue
				}
				t.Run(groups[i].Title+"/"+sc.Name, func(t *testing.T) {
					t.Parallel()
					sc.Run(t)
					judge(t, &groups[i], sc, known)
				})
			}
		}
	})
	if *folder != "" && allRun(groups) {
		writeAccuracy(t, *folder, groups)
		writeMisses(t, groups)
	}
}

// judge logs the figures of a run, and fails if a target is missed that is not
// known to be.
func judge(t *testing.T, g *Group, sc *Scenario, known map[string]bool) {
	var line strings.Builder
	for _, r := range sc.Results {
		line.WriteString(" | " + r.Name + " " + r.String() + " " + r.Verdict())
		if *folder == "" && !r.Met() && !known[missName(g, sc, r)] {
			t.Errorf("%s: %v, want %s", r.Name, r, r.Bounds())
		}
	}
	t.Log(line.String())
}

// missName is the line of a target in missedFile.
func missName(g *Group, sc *Scenario, r Result) string {
	return g.Title + " | " + sc.Name + " | " + r.Name
}

func knownMisses(t *testing.T) map[string]bool {
	data, err := os.ReadFile(missedFile)
	require.NoError(t, err)
	known := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		known[strings.TrimSpace(line)] = true
	}
	return known
}

func writeMisses(t *testing.T, groups []Group) {
	missed := map[string]bool{}
	for i := range groups {
		for j := range groups[i].Scenarios {
			sc := &groups[i].Scenarios[j]
			for _, r := range sc.Results {
				if !r.Met() {
					missed[missName(&groups[i], sc, r)] = true
				}
			}
		}
	}
	text := strings.Join(slices.Sorted(maps.Keys(missed)), "\n") + "\n"
	require.NoError(t, os.WriteFile(filepath.FromSlash(missedFile), []byte(text), 0o600))
}

// allRun reports whether every figure of the page is there: -run may have left
// something out.
func allRun(list []Group) bool {
	return !slices.ContainsFunc(list, func(g Group) bool {
		return slices.ContainsFunc(g.Scenarios, func(sc Scenario) bool { return sc.Tally == nil })
	})
}

// TestScenariosHaveNames: no two scenarios of a group have one name, by which
// testdata/missed.txt and testdata/fingerprints.txt know them.
func TestScenariosHaveNames(t *testing.T) {
	for _, g := range Groups() {
		seen := map[string]bool{}
		for _, sc := range g.Scenarios {
			if seen[sc.Name] && !strings.HasPrefix(sc.Name, "… without") {
				t.Errorf("%s: two scenarios %q", g.Title, sc.Name)
			}
			seen[sc.Name] = true
		}
	}
}
