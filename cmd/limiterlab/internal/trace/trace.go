// Package trace is the record of a run of the lab: every request with the instant
// of its call, and the outages of Redis.
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
	Kind     Kind
}

// Kind is the side of a comparison on which a request counts.
type Kind uint8

// The kinds of requests.
const (
	Call  Kind = iota // an Allow: on both sides
	Grant             // the end of a Wait: for the limiter under test alone
	Try               // an Allow in place of a Wait: for the other ways of limiting alone
)

// Sort sorts requests by the instant of their call. Those of one process at one
// instant keep their order.
func Sort(requests []Request) {
	slices.SortStableFunc(requests, func(a, b Request) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Process, b.Process))
	})
}

// Span is the time from From up to, but not including, To.
type Span struct{ From, To time.Duration }

// Length returns the span's length.
func (s Span) Length() time.Duration { return s.To - s.From }

// Overlap returns the length of the part that two spans share.
func (s Span) Overlap(o Span) time.Duration {
	return max(0, min(s.To, o.To)-max(s.From, o.From))
}

// Level is the number of callers of one process that wait during a span.
type Level struct {
	Span
	Callers int
}

// Mean returns the mean number of callers that wait during a span, over all
// processes: the sum of Callers · overlap, divided by the span's length.
func Mean(levels []Level, s Span) float64 {
	if s.Length() <= 0 {
		return 0
	}
	sum := 0.0
	for _, l := range levels {
		sum += float64(l.Callers) * l.Overlap(s).Seconds()
	}
	return sum / s.Length().Seconds()
}

// Phase is a part of the run in which Redis was up, or was away, throughout.
type Phase struct {
	Span
	Name string
	Down bool
}
