package faultmatrix

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Mark is the result of one requirement.
type Mark struct {
	What string
	OK   bool
	Note string // reason of a failure
}

const (
	leastRatio = 0.95
	mostRatio  = 1.10
	leastP9999 = time.Millisecond

	leastAfter = 0.90
	mostAfter  = 1.10

	// A loss of data may include a round of each process that no other has seen. Usage
	// between the loss and its discovery counts at most twice.
	unseenRounds = 3
)

// Failed returns the requirements that were not met.
func (m *Measured) Failed() []Mark {
	var failed []Mark
	for _, mark := range m.Marks() {
		if !mark.OK {
			failed = append(failed, mark)
		}
	}
	return failed
}

// Marks returns the results of all requirements.
func (m *Measured) Marks() []Mark {
	marks := append(m.Sound(), m.p9999(), m.back(), m.afterwards(), m.logged())
	if m.Fault.Want.Outage {
		marks = append(marks, m.total())
	}
	if m.Fault.Want.Says != "" {
		marks = append(marks, m.says())
	}
	return marks
}

// Sound returns the results of the requirements that do not depend on the machine's
// speed.
func (m *Measured) Sound() []Mark {
	marks := []Mark{
		{"all is exchanged in the end", m.Drained, fmt.Sprintf("not within %v", drainPatience)},
		{"Synced again", m.Back >= 0, "not at the end of the run"},
	}
	if m.Drained {
		within := 0.5 + float64(m.Fault.Want.Loses)*unseenRounds*syncEvery.Seconds()*m.Rate
		marks = append(
			marks,
			Mark{"nothing lost", m.Off() >= -within, fmt.Sprintf("%.1f tokens lost", -m.Off())},
			Mark{"nothing doubled", m.Off() <= within, fmt.Sprintf("%.1f tokens doubled", m.Off())},
		)
	}
	if m.Fault.Want.Outage && m.Fault.Lasts > 0 {
		marks = append(marks, Mark{"the outage was seen", m.Degraded, "a process stayed Synced"})
	}
	return marks
}

// Off returns the excess of the exact key's tokens in Redis over those admitted.
func (m *Measured) Off() float64 { return math.Round(10*(m.Charged-float64(m.Admitted))) / 10 }

// FaultFree returns the phase without the fault.
func (m *Measured) FaultFree() FleetPhase {
	if m.Fault.Start {
		return m.Phases[after]
	}
	return m.Phases[before]
}

func (m *Measured) p9999() Mark {
	bound := max(2*m.FaultFree().Allow.P9999(), leastP9999)
	p := m.Phases[during]
	got, bare := p.Allow.P9999(), p.Bare.P9999()
	note := fmt.Sprintf("p99.99 of Allow %v, bound %v", got, bound)
	if bare > bound {
		note += fmt.Sprintf(", which the bare limiter broke too (%v): the machine", bare)
	}
	return Mark{"Allow as fast as ever", got <= bound, note}
}

func (m *Measured) back() Mark {
	if m.Kind != Tuned { // as measured
		return Mark{What: "Synced again in time", OK: true}
	}
	got := m.Back
	return Mark{"Synced again in time", got >= 0 && got <= m.Fault.Want.Back, fmt.Sprintf("after %v, bound %v", got.Round(time.Millisecond), m.Fault.Want.Back)}
}

func (m *Measured) logged() Mark {
	most := m.Changes + int(m.Lasted/time.Minute)
	if m.Fault.Start {
		most++ // for the state in which a process starts
	}
	return Mark{"a line for each change, one a minute", m.Lines <= most, fmt.Sprintf("%d lines for %d changes", m.Lines, m.Changes)}
}

func (m *Measured) total() Mark {
	r := m.Phases[during].Ratio
	return Mark{"the limit is kept", r >= leastRatio && r <= mostRatio, fmt.Sprintf("%.3f of it", r)}
}

// afterwards finds a burst or a pause in the seconds after the return.
func (m *Measured) afterwards() Mark {
	r := m.Phases[after].Ratio
	return Mark{"neither a burst nor a pause after it", r >= leastAfter && r <= mostAfter, fmt.Sprintf("%.3f of the limit", r)}
}

func (m *Measured) says() Mark {
	for _, e := range m.Events {
		if strings.Contains(e.Log, m.Fault.Want.Says) {
			return Mark{What: "the log says what to do", OK: true}
		}
	}
	return Mark{"the log says what to do", false, fmt.Sprintf("no %q in %q", m.Fault.Want.Says, m.lastLog())}
}

func (m *Measured) lastLog() string {
	last := ""
	for _, e := range m.Events {
		if e.Log != "" && !strings.Contains(e.Log, "in step") {
			last = e.Log
		}
	}
	return last
}
