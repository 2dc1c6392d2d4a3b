package fleetsim

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/outage"
	"github.com/seed-e56e777b/limiter/internal/simnet"
)

// Group is the scenarios of one table.
type Group struct {
	Title     string
	Intro     string
	Scenarios []Scenario
}

// Scenario is one run of a fleet and its targets.
type Scenario struct {
	Name    string
	N       int
	Lim     limiter.Limit
	Cfg     limiter.Config // beside Limit
	Path    simnet.Path    // default: Near
	Load    Load
	During  func(*Fleet) []Event // events of the run
	Drive   func(*Fleet, *Tally) // driver of the requests in place of Load's arrivals
	Without simnet.Mechanism
	Rules   outage.Rules // rules that the processes do not apply
	Figures []Figure
	Chart   string // file of a chart over time, next to the page
	Fast    bool   // true if every go test runs it

	Tally   *Tally // of the last run
	Results []Result
}

// Figure is one number of a run, with its bounds.
type Figure struct {
	Name        string
	Of          func(*Tally) float64
	Scale       float64 // factor for the number as shown
	Digits      int
	Unit        string
	Least, Most float64 // as shown; NaN: no such bound
	Own         bool    // true if the bound is of this scenario only
	Plain       bool    // true if shown without a sign
}

// Result is a figure of a run, with its value.
type Result struct {
	Figure
	Got float64
}

// Met reports whether the figure is within its bounds.
func (r Result) Met() bool {
	return !(r.Got < r.Least) && !(r.Got > r.Most) // NaN, no bound, compares false
}

var none = math.NaN()

func (g Figure) within(least, most float64) Figure {
	g.Least, g.Most = least, most
	return g
}

func (g Figure) atMost(most float64) Figure   { return g.within(none, most) }
func (g Figure) atLeast(least float64) Figure { return g.within(least, none) }

// alone returns the figure with a bound that differs from that of the other rows.
func (g Figure) alone() Figure {
	g.Own = true
	return g
}

// Bounds returns the target as text, empty if there is none.
func (r Result) Bounds() string {
	switch {
	case !math.IsNaN(r.Least) && r.Least == -r.Most:
		return fmt.Sprintf("±%g%s", r.Most, r.Unit)
	case !math.IsNaN(r.Least) && !math.IsNaN(r.Most):
		return fmt.Sprintf("%g to %g%s", r.Least, r.Most, r.Unit)
	case !math.IsNaN(r.Most):
		return fmt.Sprintf("≤ %g%s", r.Most, r.Unit)
	case !math.IsNaN(r.Least):
		return fmt.Sprintf("≥ %g%s", r.Least, r.Unit)
	}
	return ""
}

func (r Result) String() string {
	if r.Plain {
		return fmt.Sprintf("%.*f%s", r.Digits, r.Got, r.Unit)
	}
	return fmt.Sprintf("%+.*f%s", r.Digits, r.Got, r.Unit)
}

// Verdict returns an empty text if the target is met.
func (r Result) Verdict() string {
	if r.Met() {
		return ""
	}
	return "MISSED " + r.Bounds()
}

// Run makes the run in a separate bubble.
func (sc *Scenario) Run(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, cfg, ld := sc.Path, sc.Cfg, sc.Load
		if path == (simnet.Path{}) {
			path = simnet.Near
		}
		cfg.Limit = sc.Lim
		if cfg.MaxKeys == 0 {
			cfg.MaxKeys = 64
		}
		ld.Seed++
		f := newWithout(t, sc.N, cfg, path, sc.Without, sc.Rules, ld.Seed)
		defer f.Close()
		if sc.During != nil {
			ld.At = sc.During(f)
		}
		if sc.Drive == nil {
			sc.Tally = f.Run(sc.Lim, ld)
		} else {
			sc.Tally = f.drive(sc.Lim, ld, sc.Drive)
		}
	})
	sc.Results = nil
	for _, g := range sc.Figures {
		sc.Results = append(sc.Results, Result{g, g.Of(sc.Tally) * g.Scale})
	}
}

func percent(name string, of func(*Tally) float64) Figure {
	return Figure{Name: name, Of: of, Scale: 100, Digits: 2, Unit: " %", Least: none, Most: none}
}

func plain(name string, digits int, unit string, of func(*Tally) float64) Figure {
	return Figure{Name: name, Of: of, Scale: 1, Digits: digits, Unit: unit, Least: none, Most: none}
}

// admittedIn is the admission in a phase, as the difference to the central bucket's in
// per cent.
func admittedIn(name string) Figure {
	return percent(name, func(y *Tally) float64 { p := y.phase(name); return y.Over(p.From, p.To) })
}

// burstIn is the worst window of a phase.
func burstIn(name string) Figure {
	return plain(name+": worst window", 2, " b", func(y *Tally) float64 { return y.phase(name).window.most / float64(y.lim.Burst) })
}

// spellIn is the longest spell of a phase without an admission.
func spellIn(name string) Figure {
	return plain(name+": longest denial", 2, " s", func(y *Tally) float64 { return y.phase(name).spell.Seconds() })
}

// settledAfter is the time from an instant until the fleet admits neither too much nor
// too little, up to the end of the run.
func settledAfter(what string, at time.Duration) Figure {
	return plain("settled after "+what, 1, " s", func(y *Tally) float64 { return y.settled(at, y.dur).Seconds() })
}

var (
	over      = percent("admitted, against central", func(y *Tally) float64 { return y.Over(y.warm, y.dur) })
	worst     = plain("worst window", 2, " b", (*Tally).Excess)
	falsely   = percent("denied beyond central", (*Tally).falseDenials)
	spreads   = percent("spread of chances", func(y *Tally) float64 { s, _ := y.spread(); return s })
	centrally = percent("spread, central", func(y *Tally) float64 { _, s := y.spread(); return s })
	exchanges = plain("exchanges per token", 3, "", (*Tally).perToken)
)
