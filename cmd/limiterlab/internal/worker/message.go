// Package worker is one process of the lab's fleet: a limiter, and the traffic
// that asks it. It runs as a goroutine ([Run]) or as an operating-system
// process of its own ([Spawn], [Serve]); either way it says the same things.
package worker

import (
	"context"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/store"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
)

// Config is what a worker is to do.
type Config struct {
	Process   int // from 0
	Processes int // size of the fleet
	Limit     limiter.Limit
	Redis     store.Endpoint
	Prefix    string  // of everything in Redis
	Rate      float64 // calls per second
	Seed      uint64
	For       time.Duration
}

// Report is what a worker says: once when it is ready to start, with nothing
// asked yet, and then about every reportEvery.
type Report struct {
	Process  int
	Through  time.Duration
	Requests []trace.Request // those up to Through which no earlier report had
	Status   Status
	Notes    []Note
}

// Status is a limiter's state at the time of a report.
type Status struct {
	State string
	Age   time.Duration // since the last exchange; negative: there was none
}

// Note is something that a limiter has logged.
type Note struct {
	Time time.Time
	Text string
}

// Runner does a worker's work: it reports that it is ready, takes the instant
// at which the run starts, and reports until the run or ctx ends. Only what
// kept it from its work is an error.
type Runner func(ctx context.Context, cfg Config, start <-chan time.Time, report func(Report)) error
