package trace

import (
	"fmt"
	"time"
)

// Phases divides a run that ended at end into the phases before, in, between and
// after its outages, which are in order and do not overlap. There is at least one
// phase. The last one also holds requests at end or later.
func Phases(outages []Span, end time.Duration) []Phase {
	var phases []Phase
	var at time.Duration
	add := func(to time.Duration, name string, down bool) {
		if to = min(to, end); to > at {
			phases = append(phases, Phase{Span: Span{From: at, To: to}, Name: name, Down: down})
			at = to
		}
	}
	for i, o := range outages {
		add(o.From, upName(i), false)
		add(o.To, downName(i, len(outages)), true)
	}
	add(end, upName(len(outages)), false)
	if len(phases) == 0 {
		phases = []Phase{{Name: upName(0)}}
	}
	return phases
}

func upName(outagesBefore int) string {
	switch outagesBefore {
	case 0:
		return "before"
	case 1:
		return "after"
	}
	return fmt.Sprintf("after %d", outagesBefore)
}

func downName(i, outages int) string {
	if outages == 1 {
		return "outage"
	}
	return fmt.Sprintf("outage %d", i+1)
}
