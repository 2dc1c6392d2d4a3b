package fleetsim

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

const accuracyIntro = `# How accurate it is

Written by ` + "`make accuracy`" + `, which runs real limiters (not a model of them) under virtual time against a shared state in memory that merges by
the same rules as the script in Redis, and beside each fleet one central token bucket fed the very same requests. Demand, delays, losses and
thresholds come from a seed, so that every figure is the same again on any amd64 machine (others round otherwise), waiting workers aside.

Unless said otherwise: 1000 tokens/s, burst b = 100, T = 100 ms, round trip 2 ms, Poisson arrivals, cost 1, N processes; what comes before
warm-up (5 s) does not count. **admitted, against central** is the fleet's admission over the central bucket's. **worst window** is the largest
admission beyond r·t + b in any window of any length, in bursts. **denied beyond central** is in points of all requests. **spread of chances**
is how much a request's chance of admission differs between processes, the 90th less the 10th percentile, over the mean; for the central bucket
it is chance alone. A figure with a target has it in brackets where it was missed, in **bold**.

`

// writeAccuracy writes the page and its charts.
func writeAccuracy(t *testing.T, folder string, list []Group) {
	var b strings.Builder
	b.WriteString(accuracyIntro)
	missed, wanted := 0, 0
	for _, g := range list {
		m, w := g.targets()
		missed, wanted = missed+m, wanted+w
	}
	fmt.Fprintf(&b, "%d of %d targets are met. %s, seeds as in internal/fleetsim/scenarios.go.\n", wanted-missed, wanted, runtime.Version())
	for _, g := range list {
		g.writeTo(&b)
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, "accuracy.md"), []byte(b.String()), 0o600))
	for _, g := range list {
		for i := range g.Scenarios {
			if sc := &g.Scenarios[i]; sc.Chart != "" {
				require.NoError(t, sc.draw(filepath.Join(folder, sc.Chart)))
			}
		}
	}
}

func (g Group) targets() (missed, wanted int) {
	for i := range g.Scenarios {
		for _, r := range g.Scenarios[i].Results {
			if r.Bounds() != "" {
				wanted++
			}
			if !r.Met() {
				missed++
			}
		}
	}
	return missed, wanted
}

// writeTo writes a table for each set of figures that rows of the group have.
func (g Group) writeTo(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n", g.Title, g.Intro)
	header := ""
	for i := range g.Scenarios {
		sc := &g.Scenarios[i]
		if sc.Chart != "" {
			fmt.Fprintf(b, "\n![%s](%s)\n", sc.Name, sc.Chart)
			header = ""
		}
		if h := sc.header(); h != header {
			header = h
			fmt.Fprintf(b, "\n%s\n|%s\n", h, strings.Repeat(" --- |", len(sc.Results)+1))
		}
		fmt.Fprintf(b, "| %s |", sc.Name)
		for _, r := range sc.Results {
			if r.Met() {
				fmt.Fprintf(b, " %v |", r)
			} else {
				fmt.Fprintf(b, " **%v** (%s) |", r, r.Bounds())
			}
		}
		b.WriteByte('\n')
	}
}

// header has the targets that all rows below it share, except those of a single row.
func (sc *Scenario) header() string {
	var h strings.Builder
	h.WriteString("| |")
	for _, r := range sc.Results {
		h.WriteString(" " + r.Name)
		if w := r.Bounds(); w != "" && !r.Own {
			h.WriteString(" (" + w + ")")
		}
		h.WriteString(" |")
	}
	return h.String()
}

// draw draws the admission over time, beside the central bucket's.
func (sc *Scenario) draw(path string) error {
	p := plot.New()
	p.BackgroundColor = color.White
	p.Title.Text = sc.Name
	p.X.Label.Text = "seconds"
	p.Y.Label.Text = "tokens per second"
	p.Y.Min = 0
	for _, line := range []struct {
		name  string
		bins  []float64
		color color.Color
		width vg.Length
	}{
		{"asked for", sc.Tally.attempts, color.Gray{170}, 1},
		{"one central bucket", sc.Tally.central, color.RGBA{0xd5, 0x5e, 0, 255}, 1},
		{"the fleet", sc.Tally.admitted, color.RGBA{0, 0x72, 0xb2, 255}, 2},
	} {
		l, err := plotter.NewLine(halfSeconds(line.bins))
		if err != nil {
			return err
		}
		l.Color, l.Width = line.color, line.width
		p.Add(l)
		p.Legend.Add(line.name, l)
	}
	p.Legend.Top, p.Legend.Left, p.Legend.XOffs = true, true, vg.Centimeter/2
	p.Y.Max *= 1.25 // room for the legend
	return p.Save(18*vg.Centimeter, 7*vg.Centimeter, path)
}

// halfSeconds makes points of half-second means.
func halfSeconds(bins []float64) (points plotter.XYs) {
	const width = 5
	for i, chunk := range slices.Collect(slices.Chunk(bins, width)) {
		at := time.Duration(i) * width * bin
		points = append(points, plotter.XY{X: at.Seconds(), Y: sum(chunk) / (width * bin).Seconds()})
	}
	return points
}
