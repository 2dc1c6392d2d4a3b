package main

import (
	_ "embed"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// page is the data of docs/benchmarks.md.
type page struct {
	Machine machine
	Turns   int
	results *results
	fleets  []compared
	phases  phases // of limiter's fleets
	took    time.Duration
}

//go:embed page.md.tmpl
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

func (p *page) write(w io.Writer) error {
	if err := pageTemplate.Execute(w, p); err != nil {
		return fmt.Errorf("limiterbench: %w", err)
	}
	return nil
}

// The methods below are called by the template.

// Seldom returns the number of turns per run of a slow case.
func (p *page) Seldom() int { return seldom }

// Took returns the time of the whole measurement, in minutes.
func (p *page) Took() int { return int(math.Ceil(p.took.Minutes())) }

// Targets returns the rows of the table of targets.
func (p *page) Targets() []row {
	var rows []row
	for _, t := range targets() {
		rows = append(rows, t.row(p))
	}
	return rows
}

// Peers returns the peers of the table of decisions in the process.
func (p *page) Peers() []peer { return peers }

// RedisPeers returns the peers of the table of decisions in Redis.
func (p *page) RedisPeers() []peer { return redisPeers }

// Figure returns a median, with its spread for a time: "87 ns ± 3 %". It returns a
// dash if the subject has no such figure.
func (p *page) Figure(bench, subject, callers, unit string) (string, error) {
	if !planned(bench) {
		return "", fmt.Errorf("limiterbench: no benchmark %q is planned", bench)
	}
	s := figure(bench, subject, callers, unit)
	v := p.results.median(s)
	switch {
	case math.IsNaN(v):
		return "–", nil
	case unit == ns:
		return fmt.Sprintf("%s ± %.0f %%", duration(v), 100*p.results.spread(s)), nil
	case strings.HasSuffix(unit, "-ns"):
		return duration(v), nil
	case unit == "errors/op":
		return fmt.Sprintf("%.2g %%", 100*v), nil
	}
	return trimmed(v), nil
}

// Harness returns the time measured beside the decision.
func (p *page) Harness(population string) string {
	return duration(p.results.median(series{harness + "/" + population + "/callers=1", ns}))
}

// Fleets returns the rows of the table of fleets.
func (p *page) Fleets() []fleetRow {
	var rows []fleetRow
	for _, c := range p.fleets {
		rows = append(rows, fleetRow{c.name, "**limiter**", c.Ours}, fleetRow{c.name, "redis_rate", c.Theirs})
	}
	return rows
}

// fleetRow is a fleet in a scenario.
type fleetRow struct {
	Scenario, By string
	usage
}

// PerSecond, Allowed, PerMillion and Share return decisions per second, the part of
// them that was allowed, the server's CPU for a million of them, and its part of a core.
func (r fleetRow) PerSecond() string   { return thousands(r.perSecond()) }
func (r fleetRow) AllowedPart() string { return percent(float64(r.Allowed) / float64(r.Decisions)) }
func (r fleetRow) PerMillion() string  { return trimmed(r.perMillion().Seconds()) + " s" }
func (r fleetRow) Core() string        { return percent(r.Redis.Seconds() / r.Lasted.Seconds()) }

// FleetSeconds returns the time for which limiter's fleets were measured.
func (p *page) FleetSeconds() int { return int(p.phases.measured.Seconds()) }

// duration formats nanoseconds with three digits: "87 ns", "1.23 µs", "45.6 ms".
func duration(nanos float64) string {
	for _, u := range []struct {
		name string
		in   float64
	}{{"ns", 1}, {"µs", 1e3}, {"ms", 1e6}} {
		if nanos < 1000*u.in {
			return trimmed(nanos/u.in) + " " + u.name
		}
	}
	return trimmed(nanos/1e9) + " s"
}

// trimmed formats a number with three digits, or all before the point.
func trimmed(v float64) string {
	if v >= 100 {
		return thousands(v)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func percent(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) }

// thousands formats a whole number with a comma before each group of three.
func thousands(v float64) string {
	text := strconv.Itoa(int(math.Round(v)))
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
