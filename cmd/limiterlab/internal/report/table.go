package report

import (
	"fmt"
	"io"
	"slices"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/model"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/traffic"
)

// Table prints each policy's admitted tokens in each phase, and their ratio to one
// central bucket's.
func Table(w io.Writer, r model.Result) {
	fed := "fed the same requests"
	if r.Waiting != nil {
		fed = "with as many workers"
	}
	fmt.Fprintf(w, "\nAdmitted under %s, and as a ratio to one central bucket %s:\n\n", LimitText(r.Limit), fed)
	rows := []model.Outcome{r.Asked, r.Central, r.Measured, r.FailOpen, r.FailClosed, r.Private}
	tableHead(w, r)
	for _, o := range rows {
		fmt.Fprintf(w, "%-20s", o.Name)
		for i, n := range o.PerPhase {
			cell(w, n, r.Central.PerPhase[i])
		}
		cell(w, o.Total(), r.Central.Total())
		fmt.Fprintln(w)
	}
	if r.Waiting != nil {
		waitingRow(w, *r.Waiting)
	}
	fmt.Fprintln(w)
}

// waitingRow prints the callers that waited for this limiter, and the way in which
// the others were compared.
func waitingRow(w io.Writer, waiting model.Waiting) {
	fmt.Fprintf(w, "%-15s", "callers waiting")
	gap := 18 // aligns a mean with a number of tokens
	for _, mean := range append(slices.Clone(waiting.PerPhase), waiting.Whole) {
		fmt.Fprintf(w, "%*.1f", gap, mean)
		gap = 20
	}
	fmt.Fprintf(w, `

Callers waiting: for this limiter, the mean of the phase. Each of %d workers waits
for a token, works for %v, and waits again. Those of one central bucket queue too.
The last three ways have no Wait: their workers call Allow, and pause for %v where
they are denied.
`, waiting.Workers, traffic.Work, traffic.Work)
}

// tableHead prints a line of names and one of times.
func tableHead(w io.Writer, r model.Result) {
	names, times := "", ""
	for _, p := range r.Phases {
		names += fmt.Sprintf("%20s", p.Name)
		times += fmt.Sprintf("%20s", fmt.Sprintf("%.1f – %.1f s", p.From.Seconds(), p.To.Seconds()))
	}
	fmt.Fprintf(w, "%20s%s%20s\n%20s%s\n", "", names, "whole run", "", times)
}

// cell returns 20 columns.
func cell(w io.Writer, n, central int) {
	fmt.Fprintf(w, "%13s %6s", Thousands(n), Ratio(n, central))
}
