package summary

import (
	"fmt"
	"strings"
	"time"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/replay"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/report"
)

// chart is drawn in a square of 1000 by 1000 that the page stretches: its words
// stand beside it, so that they stay readable on a phone.
type chart struct {
	Label  string
	Top    string // text of the upper edge
	Step   time.Duration
	Boxes  []box
	Lines  []line
	Axis   []string // times, evenly apart
	Legend []entry
}

type box struct {
	Class      string
	X, Y, W, H float64
}

type line struct{ Class, Points string }

type entry struct{ Class, Name string }

const side = 1000

// overChart has a bar for each bin: the allowed requests, and the denied ones
// above them.
func (s Summary) overChart() chart {
	bins := s.Over.Bins
	most := 1
	for _, b := range bins {
		most = max(most, b.Asked)
	}
	c := chart{
		Label: "Requests allowed and denied over time", Step: s.Over.Width,
		Top:    report.Thousands(most) + " requests",
		Axis:   s.axis(bins[0].From, bins[len(bins)-1].From.Add(s.Over.Width)),
		Legend: []entry{{"allowed", "allowed"}, {"denied", "denied"}},
	}
	width := side / float64(len(bins))
	for i, b := range bins {
		bar := func(class string, from, to int) {
			if from < to {
				c.Boxes = append(c.Boxes, box{class, round(float64(i) * width), up(to, most), round(0.9 * width), round(up(from, most) - up(to, most))})
			}
		}
		bar("allowed", 0, b.Asked-b.Denied)
		bar("denied", b.Asked-b.Denied, b.Asked)
	}
	return c
}

// up returns a number's distance from the upper edge.
func up(n, most int) float64 { return round(side - side*float64(n)/float64(most)) }

// round rounds to a hundredth of a thousandth of the chart.
func round(x float64) float64 { return float64(int(x*100+0.5)) / 100 }

// axis returns three times.
func (s Summary) axis(from, to time.Time) []string {
	middle := from.Add(to.Sub(from) / 2)
	return []string{s.short(from), s.short(middle), s.short(to)}
}

// outageClasses are in the order of an outage's policies.
var outageClasses = []string{"asked", "central", "limiter", "open", "closed", "private"}

// outageChart has a line for each policy, and a shade where Redis was away.
func (s Summary) outageChart() chart {
	o := s.Outage
	most, bins := 1, s.shownBins()
	for _, n := range o.Policies[0].PerBin[:bins] { // no policy admits more than requested
		most = max(most, n)
	}
	end := o.Window.Add(time.Duration(bins) * o.Width)
	c := chart{
		Label: "Requests admitted around the outage, by policy",
		Top:   fmt.Sprintf("%s requests in %v", report.Thousands(most), o.Width),
		Axis:  s.axis(o.Window, end),
		Boxes: []box{shade(o, end)},
	}
	for _, i := range []int{0, 3, 4, 5, 2, 1} { // the most important is drawn last, on top
		c.Lines = append(c.Lines, line{outageClasses[i], steps(o.Policies[i].PerBin[:bins], most)})
	}
	for i, p := range o.Policies {
		c.Legend = append(c.Legend, entry{outageClasses[i], p.Name})
	}
	c.Legend = append(c.Legend, entry{"away", "Redis is away"})
	return c
}

// shownBins leaves out the bins that the log does not fill.
func (s Summary) shownBins() int {
	o := s.Outage
	whole := int(s.To.Sub(o.Window) / o.Width)
	return max(1, min(whole, len(o.Policies[0].PerBin)))
}

func shade(o *replay.Outage, end time.Time) box {
	whole := float64(end.Sub(o.Window))
	from := side * max(0, float64(o.From.Sub(o.Window))) / whole
	to := side * min(1, float64(o.To.Sub(o.Window))/whole)
	return box{"away", round(from), 0, round(max(0, to-from)), side}
}

// steps returns the two ends of a step for each bin.
func steps(bins []int, most int) string {
	var b strings.Builder
	width := side / float64(len(bins))
	for i, n := range bins {
		fmt.Fprintf(&b, "%g,%g %g,%g ", round(float64(i)*width), up(n, most), round(float64(i+1)*width), up(n, most))
	}
	return strings.TrimSpace(b.String())
}
