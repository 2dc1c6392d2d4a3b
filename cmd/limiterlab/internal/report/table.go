package report

import (
	"fmt"
	"io"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/model"
)

// Table prints what each policy admitted in each phase, and what that is of
// one central bucket's.
func Table(w io.Writer, r model.Result) {
	fmt.Fprintf(w, "\nAdmitted under %s, and as a ratio to one central bucket fed the same requests:\n\n", LimitText(r.Limit))
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
	fmt.Fprintln(w)
}

// tableHead has a line of names and one of times.
func tableHead(w io.Writer, r model.Result) {
	names, times := "", ""
	for _, p := range r.Phases {
		names += fmt.Sprintf("%20s", p.Name)
		times += fmt.Sprintf("%20s", fmt.Sprintf("%.1f – %.1f s", p.From.Seconds(), p.To.Seconds()))
	}
	fmt.Fprintf(w, "%20s%s%20s\n%20s%s\n", "", names, "whole run", "", times)
}

// cell is 20 columns.
func cell(w io.Writer, n, central int) {
	fmt.Fprintf(w, "%13s %6s", Thousands(n), Ratio(n, central))
}
