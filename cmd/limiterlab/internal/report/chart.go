package report

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/model"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
)

// Chart draws each policy's admitted tokens per second over time, as an SVG. Its
// background is dark where the page that shows it is.
func Chart(r model.Result) ([]byte, error) {
	all := seriesOf(r)
	p := newPlot(r)
	p.Y.Max = top(all)
	for _, ph := range r.Phases {
		if ph.Down {
			if err := addOutage(p, ph.Span); err != nil {
				return nil, err
			}
		}
	}
	p.Add(grid())
	legend := newLegend(p.X.Tick.Label)
	for _, s := range slices.Backward(all) { // the first is drawn last and so on top
		if err := s.addTo(p); err != nil {
			return nil, err
		}
	}
	for _, s := range all {
		legend.Add(s.name, &plotter.Line{LineStyle: s.style})
	}
	return render(p, legend)
}

// BinWidth returns the resolution of the chart of a run that takes d: about sixty
// steps, except where a step's height would be mostly chance.
func BinWidth(d time.Duration) time.Duration {
	for _, w := range []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second} {
		if d <= 80*w {
			return w
		}
	}
	return max(time.Minute, (d / 60).Round(time.Minute))
}

// series is one line of the chart.
type series struct {
	name   string
	points plotter.XYs
	style  draw.LineStyle
}

// seriesOf returns the lines, the most important first.
func seriesOf(r model.Result) []series {
	of := func(o model.Outcome, style draw.LineStyle) series {
		return series{o.Name, steps(o, r), style}
	}
	limit := float64(r.Limit.Rate)
	return []series{
		of(r.Central, draw.LineStyle{Color: ink, Width: 1.2, Dashes: []vg.Length{4, 2}}),
		of(r.Measured, draw.LineStyle{Color: blue, Width: 4}),
		of(r.FailOpen, draw.LineStyle{Color: vermillion, Width: 1.5}),
		of(r.FailClosed, draw.LineStyle{Color: purple, Width: 1.5}),
		of(r.Private, draw.LineStyle{Color: green, Width: 1.5}),
		{
			name:   fmt.Sprintf("the limit, %g/s", limit),
			points: plotter.XYs{{X: 0, Y: limit}, {X: r.End.Seconds(), Y: limit}},
			style:  draw.LineStyle{Color: limitGray, Width: 1, Dashes: []vg.Length{1, 3}},
		},
	}
}

// steps returns the two ends of a step for each bin, in tokens per second. A last
// bin that the run left mostly empty is omitted.
func steps(o model.Outcome, r model.Result) plotter.XYs {
	var pts plotter.XYs
	for i, n := range o.PerBin {
		from := time.Duration(i) * r.Bin
		to := min(from+r.Bin, r.End)
		if to-from < r.Bin/2 {
			break
		}
		y := float64(n) / (to - from).Seconds()
		pts = append(pts, plotter.XY{X: from.Seconds(), Y: y}, plotter.XY{X: to.Seconds(), Y: y})
	}
	return pts
}

// addTo adds the line, unless it is empty because the run was cut short.
func (s series) addTo(p *plot.Plot) error {
	if len(s.points) == 0 {
		return nil
	}
	line, err := plotter.NewLine(s.points)
	if err != nil {
		return err
	}
	line.LineStyle = s.style
	p.Add(line)
	return nil
}

// top returns the upper end of the axis, with room for the outage's label.
func top(all []series) float64 {
	highest := 0.0
	for _, s := range all {
		for _, pt := range s.points {
			highest = max(highest, pt.Y)
		}
	}
	return 1.12 * highest
}

// addOutage shades the time in which Redis was away.
func addOutage(p *plot.Plot, o trace.Span) error {
	from, to := o.From.Seconds(), o.To.Seconds()
	box, err := plotter.NewPolygon(plotter.XYs{{X: from}, {X: to}, {X: to, Y: p.Y.Max}, {X: from, Y: p.Y.Max}})
	if err != nil {
		return err
	}
	box.Color, box.LineStyle.Width = shade, 0
	label, err := plotter.NewLabels(plotter.XYLabels{
		XYs:    plotter.XYs{{X: (from + to) / 2, Y: p.Y.Max}},
		Labels: []string{"Redis is away"},
	})
	if err != nil {
		return err
	}
	label.TextStyle[0] = p.X.Tick.Label
	label.TextStyle[0].XAlign, label.TextStyle[0].YAlign = text.XCenter, text.YTop
	label.Offset.Y = -3
	p.Add(box, label)
	return nil
}

// newPlot returns a plot with a title and axes, without data and p.Y.Max.
func newPlot(r model.Result) *plot.Plot {
	p := plot.New()
	p.Title.Text = fmt.Sprintf("Admitted under %s", LimitText(r.Limit))
	p.Title.Padding = 8
	p.X.Label.Text = "seconds"
	p.X.Max = max(r.End, r.Bin).Seconds()
	p.Y.Label.Text = "admitted per second"
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Min, axis.Padding = 0, 0
		plainText(&axis.Label.TextStyle, 11)
		plainText(&axis.Tick.Label, 11)
	}
	plainText(&p.Title.TextStyle, 14)
	return p
}

func plainText(s *text.Style, size vg.Length) {
	s.Font = font.Font{Typeface: plot.DefaultFont.Typeface, Variant: "Sans", Size: size}
	s.Color = ink
}

// grid returns a grid of horizontal lines.
func grid() *plotter.Grid {
	g := plotter.NewGrid()
	g.Horizontal.Color, g.Vertical.Color = gridGray, nil
	return g
}

func newLegend(style text.Style) plot.Legend {
	legend := plot.NewLegend()
	legend.Top, legend.Left = true, true
	legend.TextStyle = style
	legend.TextStyle.XAlign, legend.TextStyle.YAlign = text.XLeft, text.YBottom
	legend.Padding, legend.ThumbnailWidth = 7, 26
	return legend
}

// Sizes of the chart, in points.
const (
	chartWidth  = 860
	chartHeight = 400
	legendWidth = 170 // at the right, where no line can run through it
	titleHeight = 30
	margin      = 12
)

// render draws the legend beside the plot.
func render(p *plot.Plot, legend plot.Legend) ([]byte, error) {
	svg := vgsvg.New(chartWidth, chartHeight)
	page := draw.New(svg)
	page.SetColor(white)
	page.Fill(page.Rectangle.Path())
	p.Draw(draw.Crop(page, margin, -legendWidth-margin, margin, -margin))
	legend.Draw(draw.Crop(page, chartWidth-legendWidth, 0, 0, -titleHeight-margin))

	var b bytes.Buffer
	if _, err := svg.WriteTo(&b); err != nil {
		return nil, err
	}
	return withStyle(anySansSerif(b.Bytes()), darkStyle()), nil
}

// withStyle puts a style sheet before the first element of an SVG.
func withStyle(svg []byte, style string) []byte {
	return bytes.Replace(svg, []byte("<g "), []byte(style+"<g "), 1)
}

// anySansSerif adds a fallback without serifs, for a reader without the font of
// the chart.
func anySansSerif(svg []byte) []byte {
	const font = "font-family:Liberation Sans"
	return bytes.ReplaceAll(svg, []byte(font+";"), []byte(font+",Arial,Helvetica,sans-serif;"))
}
