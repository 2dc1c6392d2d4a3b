// Package trace is what a run of the lab leaves behind: every request with the
// instant of its call, and the spells in which Redis was away.
package trace

import (
	"cmp"
	"slices"
	"time"
)

// Request is one call of one process for a cost.
type Request struct {
	At       time.Duration // since the start of the run
	Process  int32         // from 0
	Cost     int32         // tokens
	Admitted bool          // by the limiter under test
}

// Sort orders requests by the instant of their call; those of one process at
// one instant stay as they came.
func Sort(requests []Request) {
	slices.SortStableFunc(requests, func(a, b Request) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Process, b.Process))
	})
}

// Span is the time from From up to, but not including, To.
type Span struct{ From, To time.Duration }

// Length is how long the span lasts.
func (s Span) Length() time.Duration { return s.To - s.From }

// Phase is a part of the run in which Redis was up, or was away, throughout.
type Phase struct {
	Span
	Name string
	Down bool
}
