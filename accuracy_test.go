package limiter

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// scenario is one run of a fleet, and what is wanted of it.
type scenario struct {
	name    string
	n       int
	lim     Limit
	cfg     Config // beside Limit
	path    path   // default: near
	load    load
	during  func(*fleet) []event // what happens meanwhile
	without mechanism
	figures []figure
	chart   string // file of a chart over time, beside the page
	fast    bool   // part of every go test

	tally   *tally // of the run that has been made
	results []result
}

// figure is one number that a run is judged by.
type figure struct {
	name        string
	of          func(*tally) float64
	scale       float64 // of the number as it is shown
	digits      int
	unit        string
	least, most float64 // as shown; NaN: no such bound
	own         bool    // the bound is of this scenario alone
}

// result is a figure of a run that has been made.
type result struct {
	figure
	got float64
}

func (r result) met() bool {
	return !(r.got < r.least) && !(r.got > r.most) // NaN, no bound, compares false
}

var none = math.NaN()

func (g figure) within(least, most float64) figure {
	g.least, g.most = least, most
	return g
}

func (g figure) atMost(most float64) figure { return g.within(none, most) }

// alone says that the bound is not that of the rows around it.
func (g figure) alone() figure {
	g.own = true
	return g
}

func percent(name string, of func(*tally) float64) figure {
	return figure{name, of, 100, 2, " %", none, none, false}
}

// admittedIn is the admission in a phase against the central bucket's, as a
// difference in per cent.
func admittedIn(name string) figure {
	return percent(name, func(y *tally) float64 { p := y.phase(name); return y.over(p.from, p.to) })
}

// burstIn is the worst window of a phase.
func burstIn(name string) figure {
	return figure{name + ": worst window", func(y *tally) float64 { return y.phase(name).window.most / float64(y.lim.Burst) }, 1, 2, " b", none, none, false}
}

// spellIn is the longest spell of a phase without an admission.
func spellIn(name string) figure {
	return figure{name + ": longest denial", func(y *tally) float64 { return y.phase(name).spell.Seconds() }, 1, 2, " s", none, none, false}
}

// settledAfter is how long it took from an instant on until no more was
// admitted too much or too little, up to the end of the run.
func settledAfter(what string, at time.Duration) figure {
	return figure{"settled after " + what, func(y *tally) float64 { return y.settled(at, y.dur).Seconds() }, 1, 1, " s", none, none, false}
}

var (
	over      = percent("admitted, against central", func(y *tally) float64 { return y.over(y.warm, y.dur) })
	worst     = figure{"worst window", (*tally).excess, 1, 2, " b", none, none, false}
	falsely   = percent("denied beyond central", (*tally).falseDenials)
	spreads   = percent("spread of chances", func(y *tally) float64 { s, _ := y.spread(); return s })
	centrally = percent("spread, central", func(y *tally) float64 { _, s := y.spread(); return s })
	exchanges = figure{"exchanges per token", (*tally).perToken, 1, 3, "", none, none, false}
)

func (y *tally) phase(name string) *phaseTally {
	for i := range y.phases {
		if y.phases[i].name == name {
			return &y.phases[i]
		}
	}
	panic("no phase " + name)
}

// run makes the run in a bubble of its own.
func (sc scenario) run(t *testing.T) (y *tally, results []result) {
	synctest.Test(t, func(t *testing.T) {
		if sc.path == (path{}) {
			sc.path = near
		}
		sc.cfg.Limit = sc.lim
		sc.cfg.MaxKeys = 64
		sc.load.seed++
		f := newFleetOn(t, sc.n, sc.cfg, sc.path, sc.without, sc.load.seed)
		defer f.close()
		if sc.during != nil {
			sc.load.at = sc.during(f)
		}
		y = f.run(sc.lim, sc.load)
	})
	for _, g := range sc.figures {
		results = append(results, result{g, g.of(y) * g.scale})
	}
	return y, results
}

func (r result) String() string {
	return fmt.Sprintf("%+.*f%s", r.digits, r.got, r.unit)
}

// bounds says what is wanted, if anything is.
func (r result) bounds() string {
	switch {
	case !math.IsNaN(r.least) && r.least == -r.most:
		return fmt.Sprintf("±%g%s", r.most, r.unit)
	case !math.IsNaN(r.least) && !math.IsNaN(r.most):
		return fmt.Sprintf("%g to %g%s", r.least, r.most, r.unit)
	case !math.IsNaN(r.most):
		return fmt.Sprintf("≤ %g%s", r.most, r.unit)
	case !math.IsNaN(r.least):
		return fmt.Sprintf("≥ %g%s", r.least, r.unit)
	}
	return ""
}

// TestAccuracy holds the fleet to the figures of docs/accuracy.md: in a few of
// the scenarios, or with -accuracy in all of them, which writes that page.
func TestAccuracy(t *testing.T) {
	list := groups()
	t.Run("scenarios", func(t *testing.T) {
		for i := range list {
			for j := range list[i].scenarios {
				sc := &list[i].scenarios[j]
				if !sc.fast && *accuracyFolder == "" {
					continue
				}
				t.Run(list[i].title+"/"+sc.name, func(t *testing.T) {
					t.Parallel()
					sc.tally, sc.results = sc.run(t)
					var line strings.Builder
					for _, r := range sc.results {
						line.WriteString(fmt.Sprintf(" | %s %v %s", r.name, r, r.verdict()))
						if !r.met() && *accuracyFolder == "" {
							t.Errorf("%s: %v, want %s", r.name, r, r.bounds())
						}
					}
					t.Log(line.String())
				})
			}
		}
	})
	if *accuracyFolder != "" && allRun(list) {
		writeAccuracy(t, *accuracyFolder, list)
	}
}

// allRun reports whether there is all that the page wants: -run may have left
// something out.
func allRun(list []group) bool {
	return !slices.ContainsFunc(list, func(g group) bool {
		return slices.ContainsFunc(g.scenarios, func(sc scenario) bool { return sc.tally == nil })
	})
}

// verdict is nothing where all is well.
func (r result) verdict() string {
	if r.met() {
		return ""
	}
	return "MISSED " + r.bounds()
}
