package model

import (
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
)

// Outcome is what one policy made of a run, in tokens.
type Outcome struct {
	Name     string
	PerPhase []int // admitted in each phase
	PerBin   []int // admitted in each bin of Result.Bin
}

// Total is what was admitted in the whole run.
func (o Outcome) Total() int {
	sum := 0
	for _, n := range o.PerPhase {
		sum += n
	}
	return sum
}

// Result is a run beside what other policies would have made of it.
type Result struct {
	Limit  limiter.Limit
	End    time.Duration // when the run ended
	Phases []trace.Phase
	Bin    time.Duration // width of a bin

	Asked      Outcome
	Measured   Outcome
	Central    Outcome
	FailOpen   Outcome
	FailClosed Outcome
	Private    Outcome
}

// Compare replays sorted requests under every policy. The outages are in order
// and do not overlap.
func Compare(l limiter.Limit, requests []trace.Request, outages []trace.Span, end, bin time.Duration) Result {
	r := Result{Limit: l, End: end, Phases: trace.Phases(outages, end), Bin: bin}
	replay := func(name string, p Policy) Outcome {
		return r.replay(name, requests, p)
	}
	r.Asked = replay("asked for", func(trace.Request, bool) bool { return true })
	r.Central = replay("one central bucket", Central(l))
	r.Measured = replay("this limiter", Measured())
	r.FailOpen = replay("fail open", FailOpen(l))
	r.FailClosed = replay("fail closed", FailClosed(l))
	r.Private = replay("private full limit", Private(l))
	return r
}

// replay asks one policy about every request.
func (r *Result) replay(name string, requests []trace.Request, p Policy) Outcome {
	o := Outcome{
		Name:     name,
		PerPhase: make([]int, len(r.Phases)),
		PerBin:   make([]int, int(r.End/r.Bin)+1),
	}
	phase := 0
	for _, q := range requests {
		for phase < len(r.Phases)-1 && q.At >= r.Phases[phase].To {
			phase++
		}
		if p(q, r.Phases[phase].Down) {
			o.PerPhase[phase] += int(q.Cost)
			o.PerBin[min(int(q.At/r.Bin), len(o.PerBin)-1)] += int(q.Cost)
		}
	}
	return o
}
