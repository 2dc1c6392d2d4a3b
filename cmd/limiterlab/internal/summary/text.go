package summary

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/replay"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/report"
)

// Text prints the summary for a terminal.
func Text(w io.Writer, s Summary) {
	fmt.Fprintf(w, "%v for each %s, over %s\n\n", s.Limit, s.Key, s.source())
	for _, f := range s.facts() {
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%-12s %13s   %s", f.Name, f.Value, f.Note), " "))
	}
	if s.Denied > 0 {
		s.textTop(w)
		s.textOver(w)
	}
	s.textFleet(w)
	s.textOutage(w)
	if s.Suggestion != nil {
		title(w, suggestionTitle(s.Suggestion))
		for _, line := range suggestion(s.Suggestion) {
			fmt.Fprintln(w, line)
		}
	}
	s.textNotes(w)
}

func title(w io.Writer, text string) { fmt.Fprintf(w, "\n%s\n\n", text) }

func (s Summary) textTop(w io.Writer) {
	title(w, s.topTitle())
	fmt.Fprintf(w, "%13s   %-19s   %-19s   %s\n", "denied", "first", "last", s.Key)
	for _, k := range s.Top {
		fmt.Fprintf(w, "%13s   %s   %s   %s\n", report.Thousands(k.Denied), k.First.Format(dateAndTime), k.Last.Format(dateAndTime), printable(k.Name))
	}
}

const barWidth = 40

func (s Summary) textOver(w io.Writer) {
	title(w, fmt.Sprintf("Denied over time, each %v", s.Coarse.Width))
	fmt.Fprintf(w, "%-19s %13s %13s\n", "from", "requests", "denied")
	most := 0
	for _, b := range s.Coarse.Bins {
		most = max(most, b.Denied)
	}
	for _, b := range s.Coarse.Bins {
		bar := strings.Repeat("█", (b.Denied*barWidth+most-1)/most)
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%-19s %13s %13s %9s  %s", b.From.Format(dateAndTime),
			report.Thousands(b.Asked), report.Thousands(b.Denied), percent(b.Denied, b.Asked), bar), " "))
	}
}

func (s Summary) textFleet(w io.Writer) {
	f := s.Fleet
	if f == nil {
		return
	}
	title(w, s.fleetTitle())
	fmt.Fprintf(w, "%-36s %13s %12s %12s\n", "", "admitted", "of requests", "of central")
	for _, o := range f.Outcomes {
		fmt.Fprintf(w, "%-36s %13s %12s %12s\n", o.Name, report.Thousands(o.Allowed),
			percent(o.Allowed, s.Requests), report.Ratio(o.Allowed, s.Allowed()))
	}
}

func (s Summary) fleetTitle() string {
	return "Without anything shared, over " + way(s.Fleet.Processes, s.Fleet.ByKey)
}

func (s Summary) textOutage(w io.Writer) {
	o := s.Outage
	if o == nil {
		return
	}
	title(w, s.outageTitle())
	fmt.Fprintf(w, "%20s%20s%20s%20s%20s\n", "", "before", "outage", "after", "whole log")
	central := o.Policies[1]
	for _, p := range o.Policies {
		fmt.Fprintf(w, "%-20s", p.Name)
		for i, n := range p.PerPhase {
			fmt.Fprintf(w, "%13s %6s", report.Thousands(n), report.Ratio(n, central.PerPhase[i]))
		}
		fmt.Fprintf(w, "%13s %6s\n", report.Thousands(p.Total()), report.Ratio(p.Total(), central.Total()))
	}
}

func (s Summary) outageTitle() string {
	o := s.Outage
	return fmt.Sprintf("Without Redis from %s to %s, over %s", o.From.Format(dateAndTime), endText(o), way(o.Processes, s.byKey()))
}

func endText(o *replay.Outage) string {
	if o.From.Format(time.DateOnly) == o.To.Format(time.DateOnly) {
		return o.To.Format(timeOfDay)
	}
	return o.To.Format(dateAndTime)
}

func (s Summary) byKey() bool { return s.Fleet != nil && s.Fleet.ByKey }

func (s Summary) textNotes(w io.Writer) {
	notes := s.notes()
	if len(notes) == 0 {
		return
	}
	fmt.Fprintln(w)
	for _, n := range notes {
		fmt.Fprintln(w, n)
	}
}
