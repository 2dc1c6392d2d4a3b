package model

import (
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/traffic"
)

// Outcome is the number of tokens that one policy admitted in a run.
type Outcome struct {
	Name     string
	PerPhase []int // admitted in each phase
	PerBin   []int // admitted in each bin of Result.Bin
}

// Total returns the tokens admitted in the whole run.
func (o Outcome) Total() int {
	sum := 0
	for _, n := range o.PerPhase {
		sum += n
	}
	return sum
}

// Result compares a run with other policies on the same requests.
type Result struct {
	Limit  limiter.Limit
	End    time.Duration // end of the run
	Phases []trace.Phase
	Bin    time.Duration // width of a bin

	Asked      Outcome
	Measured   Outcome
	Central    Outcome
	FailOpen   Outcome
	FailClosed Outcome
	Private    Outcome

	Waiting *Waiting // nil for traffic by Allow
}

// Waiting is the mean number of callers that wait.
type Waiting struct {
	PerPhase []float64
	Whole    float64 // over the whole run
	Workers  int     // of all processes: the largest possible number
}

// Compare replays sorted requests under every policy. The outages are in order
// and do not overlap.
func Compare(l limiter.Limit, requests []trace.Request, outages []trace.Span, end, bin time.Duration) Result {
	r := Result{Limit: l, End: end, Phases: trace.Phases(outages, end), Bin: bin}
	r.Asked = r.replay("requested", requests, everything)
	r.Central = r.replay("one central bucket", requests, Central(l))
	r.Measured = r.replay("this limiter", requests, Measured())
	r.replayFallbacks(requests)
	return r
}

// everything is the policy without a limit.
func everything(trace.Request, bool) bool { return true }

// replayFallbacks replays requests under the ways of limiting that differ in an
// outage alone.
func (r *Result) replayFallbacks(requests []trace.Request) {
	r.FailOpen = r.replay("fail open", requests, FailOpen(r.Limit))
	r.FailClosed = r.replay("fail closed", requests, FailClosed(r.Limit))
	r.Private = r.replay("private full limit", requests, Private(r.Limit))
}

// Seen is the record of a run with workers that wait.
type Seen struct {
	Grants []trace.Request // sorted
	Pools  []Pool
	Levels []trace.Level
}

// CompareWaiting compares a run in which workers wait. A worker's requests depend
// on its admissions, so that the other policies can't get the very same requests:
// they get the same workers. Those of the central bucket queue. The fallbacks have
// no Wait, and their workers make traffic.Tries.
func CompareWaiting(l limiter.Limit, seen Seen, outages []trace.Span, end, bin time.Duration) Result {
	r := Result{Limit: l, End: end, Phases: trace.Phases(outages, end), Bin: bin, Waiting: &Waiting{}}
	var tries []trace.Request
	for _, p := range seen.Pools {
		tries = append(tries, traffic.Tries(p.Process, p.Workers, trace.Span{To: p.To})...)
		r.Waiting.Workers += p.Workers
	}
	trace.Sort(tries)
	r.Asked = r.replay("without a limit", tries, everything)
	r.Central = r.replay("one central bucket", queue(l, seen.Pools), Measured())
	r.Measured = r.replay("this limiter", seen.Grants, Measured())
	r.replayFallbacks(tries)
	for _, p := range r.Phases {
		r.Waiting.PerPhase = append(r.Waiting.PerPhase, trace.Mean(seen.Levels, p.Span))
	}
	r.Waiting.Whole = trace.Mean(seen.Levels, trace.Span{To: end})
	return r
}

// replay applies one policy to every request.
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
