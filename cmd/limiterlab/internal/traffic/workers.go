package traffic

import (
	"time"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
)

// Work is the time that a worker needs for one token. A worker waits for a
// token, works, and waits again, so that it uses at most 1/Work tokens per second.
const Work = 10 * time.Millisecond

// Demand returns the highest rate of n workers, in tokens per second.
func Demand(n int) float64 { return float64(n) / Work.Seconds() }

// Tries returns the calls of n workers of one process in a span, for a limiter that
// has no Wait: a worker calls Allow, works or, after a denial, pauses
// for as long, and calls again. Its calls are Work apart either way. The
// workers take turns at equal distances.
func Tries(process, n int, s trace.Span) []trace.Request {
	if n <= 0 {
		return nil
	}
	gap := Work / time.Duration(n)
	var tries []trace.Request
	for at := (s.From + gap - 1) / gap * gap; at < s.To; at += gap {
		tries = append(tries, trace.Request{At: at, Process: int32(process), Cost: 1, Kind: trace.Try})
	}
	return tries
}
