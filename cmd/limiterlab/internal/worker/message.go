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
	Prefix    string // of everything in Redis
	Seed      uint64
	For       time.Duration // since Order.Epoch
}

// Order is what a worker is asked for: calls of Allow at a rate, or workers that
// Wait. The first starts it.
type Order struct {
	Epoch   time.Time     // when the run began; the same in all orders
	From    time.Duration // since then: when the rate begins
	Rate    float64       // calls per second
	Workers int           // size of its pool of waiting workers
	Stop    bool          // the worker is to end, an operating-system process by SIGTERM
}

// Post leaves an order where a worker takes its orders from, which has room for
// one, in place of one that was not taken. Only one goroutine may post.
func Post(orders chan Order, o Order) {
	select {
	case <-orders:
	default:
	}
	orders <- o
}

// Report is what a worker says: once when it is ready to start, with nothing
// asked yet, then about every reportEvery, and once when it has ended.
type Report struct {
	Process  int
	Through  time.Duration
	Requests []trace.Request // those up to Through which no earlier report had
	Workers  int             // size of the pool since the last report
	Status   Status
	Notes    []Note
	Ended    bool // the last one: the limiter is closed
}

// Status is a limiter's state at the time of a report.
type Status struct {
	State     string
	Age       time.Duration // since the last exchange; negative: there was none
	Remaining int           // whole tokens that it could admit, as limiter.Result has them
	Waiting   int           // callers in Wait
}

// Note is something that a limiter has logged.
type Note struct {
	Time time.Time
	Text string
}

// Runner does a worker's work: it reports that it is ready, starts with its
// first order, and reports until the run or ctx ends. Only what kept it from its
// work is an error.
type Runner func(ctx context.Context, cfg Config, orders <-chan Order, report func(Report)) error
