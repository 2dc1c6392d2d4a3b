package model

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
)

// TestQueue: a central bucket grants its burst and its rate, or as much as the
// workers can use.
func TestQueue(t *testing.T) {
	for _, tt := range []struct {
		name    string
		limit   limiter.Limit
		workers int
		want    int // in ten seconds
	}{
		{"far too many workers", limiter.Limit{Rate: 1000, Burst: 100}, 500, 10_100},
		{"a burst that workers need time for", limiter.Limit{Rate: 1000, Burst: 100}, 20, 10_100},
		{"a burst of one", limiter.Limit{Rate: 1000, Burst: 1}, 25, 10_000},
		{"too few workers", limiter.Limit{Rate: 1000, Burst: 100}, 5, 5000},
		{"one worker, few tokens", limiter.Limit{Rate: 10, Burst: 1}, 1, 100},
	} {
		grants := queue(tt.limit, []Pool{{Workers: tt.workers, To: 10 * time.Second}})
		if got := len(grants); got < tt.want-1 || got > tt.want+1 {
			t.Errorf("%s: %d grants, want %d", tt.name, got, tt.want)
		}
		for i, g := range grants {
			require.True(t, g.Admitted)
			require.Less(t, g.At, 10*time.Second)
			if i > 0 {
				require.GreaterOrEqual(t, g.At, grants[i-1].At)
			}
		}
	}
}

// TestQueueIsFair: processes get as much as they have workers, and the tokens of
// one that has ended go to the others.
func TestQueueIsFair(t *testing.T) {
	got := map[int32]map[int]int{0: {}, 1: {}}
	for _, g := range queue(limiter.Limit{Rate: 100, Burst: 1}, []Pool{
		{Process: 0, Workers: 30, To: 4 * time.Second},
		{Process: 1, Workers: 10, To: 2 * time.Second},
	}) {
		got[g.Process][int(g.At/(2*time.Second))]++
	}
	require.InDelta(t, 150, got[0][0], 15, "a round of 40 workers may be under way")
	require.InDelta(t, 50, got[1][0], 15)
	require.InDelta(t, 200, got[0][1], 1)
	require.Zero(t, got[1][1])
}

// TestCompareWaiting has two processes of ten workers under 100/s burst 10, with
// Redis away in the second of three spans of two seconds.
func TestCompareWaiting(t *testing.T) {
	at := func(s int) time.Duration { return time.Duration(s) * time.Second }
	var grants []trace.Request
	for i := range 600 {
		grants = append(grants, trace.Request{At: time.Duration(i) * 10 * time.Millisecond, Cost: 1, Admitted: true, Kind: trace.Grant})
	}
	r := CompareWaiting(limiter.Limit{Rate: 100, Burst: 10}, Seen{
		Grants: grants,
		Pools:  []Pool{{Process: 0, Workers: 10, To: at(6)}, {Process: 1, Workers: 10, To: at(6)}},
		Levels: []trace.Level{{Span: trace.Span{To: at(6)}, Callers: 9}, {Span: trace.Span{From: at(2), To: at(4)}, Callers: 6}},
	}, []trace.Span{{From: at(2), To: at(4)}}, at(6), time.Second)
	for _, tt := range []struct {
		o    Outcome
		want []int
	}{
		{r.Asked, []int{4000, 4000, 4000}},
		{r.Central, []int{210, 200, 200}},
		{r.Measured, []int{200, 200, 200}},
		{r.FailOpen, []int{210, 4000, 210}},
		{r.FailClosed, []int{210, 0, 210}},
		{r.Private, []int{210, 420, 210}},
	} {
		require.Len(t, tt.o.PerPhase, 3)
		for i, got := range tt.o.PerPhase {
			if got < tt.want[i]-2 || got > tt.want[i]+2 { // where a token falls on the edge of a phase
				t.Errorf("%s: %v, want %v", tt.o.Name, tt.o.PerPhase, tt.want)
			}
		}
	}
	require.Equal(t, &Waiting{PerPhase: []float64{9, 15, 9}, Whole: 11, Workers: 20}, r.Waiting)
}
