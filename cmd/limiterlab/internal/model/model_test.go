package model

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
)

// at is a request of a process at an instant in milliseconds. The limiter under
// test admits those of process 0.
func at(ms int, process, cost int32) trace.Request {
	return trace.Request{At: time.Duration(ms) * time.Millisecond, Process: process, Cost: cost, Admitted: process == 0}
}

// The limit is 1 a second with a burst of 2; Redis is away from 2 s to 5 s.
var requests = []trace.Request{
	// Before: the bucket has 2 and gets 0.5 until the fourth, 1 until the fifth.
	at(0, 0, 1),    // 2 → 1
	at(0, 1, 1),    // 1 → 0
	at(0, 1, 1),    // denied
	at(500, 0, 1),  // 0.5: denied
	at(1000, 0, 1), // 1 → 0
	// Outage: central has 1 at 2 s, 2 at 4 s; the private buckets have 2 each.
	at(2000, 0, 1), // central 1 → 0; private 2 → 1
	at(2000, 1, 2), // central 0: denied; private 2 → 0
	at(2000, 0, 2), // central denied; private 1: denied
	at(4000, 1, 2), // central 2 → 0; private 2 → 0
	at(4999, 0, 3), // above the burst: denied by any bucket
	// After: central has 1 at 5 s; with a fallback nobody took anything, so 2.
	at(5000, 0, 1), // central 1 → 0; fallback 2 → 1
	at(5000, 1, 1), // central denied; fallback 1 → 0
	at(5000, 1, 1), // denied by both
}

var outage = []trace.Span{{From: 2 * time.Second, To: 5 * time.Second}}

func compare() Result {
	return Compare(limiter.Limit{Rate: 1, Burst: 2}, requests, outage, 6*time.Second, 2*time.Second)
}

func TestEveryPolicyByHand(t *testing.T) {
	r := compare()
	for _, tt := range []struct {
		outcome Outcome
		want    []int // before, outage, after
	}{
		{r.Asked, []int{5, 10, 3}},
		{r.Central, []int{3, 3, 1}},
		{r.Measured, []int{3, 6, 1}},
		{r.FailOpen, []int{3, 10, 2}},
		{r.FailClosed, []int{3, 0, 2}},
		{r.Private, []int{3, 5, 2}},
	} {
		if got := tt.outcome.PerPhase; !slices.Equal(got, tt.want) {
			t.Errorf("%s admitted %v, want %v", tt.outcome.Name, got, tt.want)
		}
	}
	require.Equal(t, 7, r.Central.Total())
}

func TestBins(t *testing.T) {
	r := compare()
	require.Equal(t, []int{5, 5, 8, 0}, r.Asked.PerBin)
	require.Equal(t, []int{3, 1, 3, 0}, r.Central.PerBin)
}

func TestWhatCameAtTheEndCounts(t *testing.T) {
	late := []trace.Request{at(3000, 0, 1)}
	r := Compare(limiter.Limit{Rate: 1, Burst: 2}, late, nil, 2*time.Second, time.Second)
	require.Equal(t, []int{1}, r.Asked.PerPhase)
	require.Equal(t, []int{0, 0, 1}, r.Asked.PerBin)
}

func TestNothingRan(t *testing.T) {
	r := Compare(limiter.Limit{Rate: 1, Burst: 2}, nil, nil, 0, time.Second)
	require.Equal(t, []int{0}, r.Measured.PerPhase)
}
