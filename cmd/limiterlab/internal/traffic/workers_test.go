package traffic

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
)

// TestTriesDoNotDependOnTheSpans: the calls of a long span are those of its
// parts, and each worker's are Work apart.
func TestTriesDoNotDependOnTheSpans(t *testing.T) {
	const workers = 7
	whole := Tries(2, workers, trace.Span{To: time.Second})
	var parts []trace.Request
	for at := time.Duration(0); at < time.Second; at += 37 * time.Millisecond {
		parts = append(parts, Tries(2, workers, trace.Span{From: at, To: min(at+37*time.Millisecond, time.Second)})...)
	}
	require.Equal(t, whole, parts)
	require.InDelta(t, Demand(workers), len(whole), 1)
	for i, q := range whole[workers:] {
		require.InDelta(t, Work, q.At-whole[i].At, workers)
		require.Equal(t, trace.Request{At: q.At, Process: 2, Cost: 1, Kind: trace.Try}, q)
	}
	require.Empty(t, Tries(0, 0, trace.Span{To: time.Second}))
}
