// Package worker is one process of the lab's fleet: a limiter and its traffic. It
// runs as a goroutine ([Run]) or as an operating-system process of its own
// ([Spawn], [Serve]), with the same reports.
package worker

import (
	"context"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/store"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
)

// Config describes a worker's limiter and the length of its work.
type Config struct {
	Process   int // from 0
	Processes int // size of the fleet
	Limit     limiter.Limit
	Redis     store.Endpoint
	Prefix    string // of everything in Redis
	Seed      uint64
	For       time.Duration // since Order.Epoch
}

// Order sets a worker's traffic: calls of Allow at a rate, or a pool of workers
// that Wait. The first order starts it.
type Order struct {
	Epoch   time.Time     // start of the run; the same in all orders
	From    time.Duration // start of the rate, since Epoch
	Rate    float64       // calls per second
	Workers int           // size of its pool of waiting workers
	Stop    bool          // true if the worker must end, an operating-system process by SIGTERM
}

// Post puts an order into a worker's channel, which has room for one, in place of
// an order not yet taken. Only one goroutine may post.
func Post(orders chan Order, o Order) {
	select {
	case <-orders:
	default:
	}
	orders <- o
}

// Report is a worker's account since its last report: one when it is ready to
// start, without requests, then about one every reportEvery, and one at its end.
type Report struct {
	Process  int
	Through  time.Duration
	Requests []trace.Request // up to Through, each in one report
	Workers  int             // size of the pool since the last report
	Status   Status
	Notes    []Note
	Ended    bool // true in the last report: the limiter is closed
}

// Status is a limiter's state at the time of a report.
type Status struct {
	State     string
	Age       time.Duration // since the last exchange; negative before the first
	Remaining int           // whole tokens it could admit, as in limiter.Result
	Waiting   int           // callers in Wait
}

// Note is a line logged by a limiter.
type Note struct {
	Time   time.Time
	Text   string
	Change bool   // true if it reports the limiter's state: synced, or not for Cause
	Cause  string // a few words: "connection refused"; empty if synced
}

// Runner does a worker's work: it reports that it is ready, starts with its
// first order, and reports until the run or ctx ends. It returns an error only if
// it could not work.
type Runner func(ctx context.Context, cfg Config, orders <-chan Order, report func(Report)) error
