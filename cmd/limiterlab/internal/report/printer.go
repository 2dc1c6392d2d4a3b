package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Second is the record of one second of a run.
type Second struct {
	End      time.Duration // of the second
	Asked    int           // by all processes
	Waiting  int           // callers of all processes, about the end of the second
	Admitted []int         // by each process
	States   []string      // of each process, about the end of the second
	Ages     []time.Duration
}

// Note is a line about an event at an instant of a run. An instant below 0 is
// before the run.
type Note struct {
	At   time.Duration
	Text string
}

// shownAlone is the number of processes with a column of their own; the rest share
// one.
const shownAlone = 8

// Printer prints a run while it goes on: a line a second, notes among them.
type Printer struct {
	w         io.Writer
	processes int
	waiting   bool // true if callers wait: their number is printed in place of Asked
	begun     bool
}

// NewPrinter returns a printer for a fleet of that many processes, whose callers
// wait or are denied.
func NewPrinter(w io.Writer, processes int, waiting bool) *Printer {
	return &Printer{w: w, processes: processes, waiting: waiting}
}

// lineFormat has time, requested or waiting, admitted, by process, oldest exchange,
// state.
const lineFormat = "%7s %9s %9s  %s  %13s  %s\n"

// Second prints a line.
func (p *Printer) Second(s Second) {
	if !p.begun {
		p.begun = true
		p.header()
	}
	total := 0
	for _, n := range s.Admitted {
		total += n
	}
	callers := s.Asked
	if p.waiting {
		callers = s.Waiting
	}
	fmt.Fprintf(p.w, lineFormat, fmt.Sprintf("%.0f s", s.End.Seconds()), Thousands(callers), Thousands(total),
		byProcess(s.Admitted), oldest(s.Ages), states(s.States))
}

func (p *Printer) header() {
	cells := byProcess(make([]int, p.processes))
	callers := "requests"
	if p.waiting {
		callers = "waiting"
	}
	fmt.Fprintf(p.w, lineFormat, "time", callers, "admitted", fmt.Sprintf("%-*s", len(cells), "by process"), "last exchange", "state")
}

// Note prints a note.
func (p *Printer) Note(n Note) {
	at := "start"
	if n.At >= 0 {
		at = fmt.Sprintf("%.2f s", n.At.Seconds())
	}
	fmt.Fprintf(p.w, "%7s   %s\n", at, n.Text)
}

func byProcess(admitted []int) string {
	var cells []string
	for _, n := range admitted[:min(len(admitted), shownAlone)] {
		cells = append(cells, fmt.Sprintf("%5d", n))
	}
	if rest := admitted[len(cells):]; len(rest) > 0 {
		sum := 0
		for _, n := range rest {
			sum += n
		}
		cells = append(cells, fmt.Sprintf("%5d by %d more", sum, len(rest)))
	}
	return strings.Join(cells, " ")
}

// oldest writes the age of the oldest exchange.
func oldest(ages []time.Duration) string {
	if len(ages) == 0 || slices.Min(ages) < 0 {
		return ago(-1)
	}
	return ago(slices.Max(ages))
}

// states writes the state of all processes, or the number in each state.
func states(all []string) string {
	count := make(map[string]int)
	for _, s := range all {
		count[s]++
	}
	var parts []string
	for s, n := range count {
		if n == len(all) {
			return s
		}
		parts = append(parts, fmt.Sprintf("%d %s", n, s))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// Silent prints nothing.
type Silent struct{}

// Second does nothing.
func (Silent) Second(Second) {}

// Note does nothing.
func (Silent) Note(Note) {}
