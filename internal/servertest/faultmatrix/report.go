package faultmatrix

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// WriteSummary writes the extremes of the table, over all faults.
func WriteSummary(w io.Writer, all []*Measured) {
	if len(all) == 0 {
		return
	}
	faults, asRequired := map[string]bool{}, 0
	var least, most [2]float64
	for i := range least {
		least[i], most[i] = math.Inf(1), math.Inf(-1)
	}
	slowest, bare, back := time.Duration(0), time.Duration(0), map[Kind]time.Duration{}
	for _, m := range all {
		faults[m.Fault.Name] = true
		if len(m.Failed()) == 0 {
			asRequired++
		}
		d := m.Phases[during]
		for i, ratio := range []float64{d.Ratio, m.Phases[after].Ratio} {
			least[i], most[i] = min(least[i], ratio), max(most[i], ratio)
		}
		slowest, bare = max(slowest, d.Allow.P9999()), max(bare, d.Bare.P9999())
		back[m.Kind] = max(back[m.Kind], m.Back)
	}
	fmt.Fprintf(w, "- %d of %d rows are as required: %d faults, with either kind of client.\n", asRequired, len(all), len(faults))
	fmt.Fprintf(w, "- A fleet admits %.3f to %.3f of its limit during the fault, and %.3f to %.3f in the\n  seconds after the return.\n", least[0], most[0], least[1], most[1])
	fmt.Fprintf(w, "- The longest p99.99 of a decision during a fault is %s, beside %s of a bare\n  `rate.Limiter` in the same loop.\n", short(slowest), short(bare))
	fmt.Fprintf(w, "- The slowest return takes %s with clients of `limiter.Tune`, and %s with\n  go-redis's defaults.\n", short(back[Tuned]), short(back[Default]))
}

// WriteTable writes the results, a row for each fault and kind of client.
func WriteTable(w io.Writer, all []*Measured) {
	fmt.Fprintln(w, "| fault | client | admitted: before, during, after | p99.99 of Allow: fault-free, during (bare) | slowest (bare) | Synced again | lost / doubled | log lines / changes / go-redis | not as required |")
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, m := range all {
		fmt.Fprintln(w, m.row())
	}
}

func (m *Measured) row() string {
	d := m.Phases[during]
	return "| " + strings.Join([]string{
		m.Fault.Name, string(m.Kind), m.ratios(),
		fmt.Sprintf("%s, %s (%s)", short(m.FaultFree().Allow.P9999()), short(d.Allow.P9999()), short(d.Bare.P9999())),
		fmt.Sprintf("%s (%s)", short(d.Allow.Slowest()), short(d.Bare.Slowest())),
		m.returned(), m.off(),
		fmt.Sprintf("%d / %d / %d", m.Lines, m.Changes, m.Foreign),
		failures(m.Failed()),
	}, " | ") + " |"
}

func (m *Measured) ratios() string {
	texts := []string{"–", fmt.Sprintf("%.3f", m.Phases[during].Ratio), fmt.Sprintf("%.3f", m.Phases[after].Ratio)}
	if !m.Fault.Start {
		texts[0] = fmt.Sprintf("%.3f", m.Phases[before].Ratio)
	}
	return strings.Join(texts, ", ")
}

func (m *Measured) returned() string {
	if m.Back < 0 {
		return "never"
	}
	return short(m.Back)
}

func (m *Measured) off() string {
	if !m.Drained {
		return "unknown"
	}
	return fmt.Sprintf("%.0f / %.0f of %d", max(0, -m.Off()), max(0, m.Off()), m.Admitted)
}

func failures(failed []Mark) string {
	var notes []string
	for _, f := range failed {
		notes = append(notes, "**"+f.What+"**: "+strings.ReplaceAll(f.Note, "|", "¦"))
	}
	if notes == nil {
		return "–"
	}
	return strings.Join(notes, "; ")
}

// short formats a duration with about three digits.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// Story returns the events of one process of the fleet, with their instants.
func (m *Measured) Story() string {
	var b strings.Builder
	for _, e := range m.Events {
		at := fmt.Sprintf("%+.2f s", e.At.Sub(m.Began).Seconds())
		switch {
		case e.State != "":
			fmt.Fprintln(&b, at, "OnChange:", e.State, e.Err)
		case e.Log != "":
			_, line, _ := strings.Cut(e.Log, " ") // without the time
			fmt.Fprintln(&b, at, "log:", line)
		}
	}
	return b.String()
}

// WriteSituations writes a table of situations, a row for each and kind of
// client.
func WriteSituations(w io.Writer, all []*Observed) {
	fmt.Fprintln(w, "| situation | client | admitted: before, during, after | least and most second: during, after | not as required |")
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- |")
	for _, o := range all {
		fmt.Fprintln(w, o.row())
	}
}

func (o *Observed) row() string {
	var admitted, extremes []string
	for i, w := range o.Situation.Windows {
		admitted = append(admitted, fmt.Sprintf("%.3f", o.ratio(w.From, w.To)))
		if i > 0 {
			seconds := o.secondsOf(w.From, w.To)
			extremes = append(extremes, fmt.Sprintf("%.2f–%.2f", slices.Min(seconds), slices.Max(seconds)))
		}
	}
	return "| " + strings.Join([]string{
		o.Situation.Name, string(o.Kind), strings.Join(admitted, ", "), strings.Join(extremes, ", "), failures(o.Failed()),
	}, " | ") + " |"
}
