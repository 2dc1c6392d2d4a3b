package main

import (
	"context"
	"errors"
	"sync"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/worker"
)

// fleet is the workers of a run, goroutines or processes.
type fleet struct {
	reports chan worker.Report // closed when all have ended
	orders  []chan worker.Order

	mu   sync.Mutex
	errs []error
}

// startFleet starts the workers, which wait for begin. They end after the run,
// with ctx, or when one of them fails.
func startFleet(ctx context.Context, run worker.Runner, workers []worker.Config) *fleet {
	ctx, cancel := context.WithCancel(ctx)
	f := &fleet{reports: make(chan worker.Report, len(workers))}
	var wg sync.WaitGroup
	for _, cfg := range workers {
		orders := make(chan worker.Order, 1)
		f.orders = append(f.orders, orders)
		wg.Go(func() {
			if err := run(ctx, cfg, orders, func(r worker.Report) { f.reports <- r }); err != nil {
				f.fail(err)
				cancel()
			}
		})
	}
	go func() {
		wg.Wait()
		cancel()
		close(f.reports)
	}()
	return f
}

// awaitReady returns every worker's first report, sent when it is ready. It
// returns fewer if the fleet ends instead.
func (f *fleet) awaitReady() []worker.Report {
	var first []worker.Report
	for range f.orders {
		r, ok := <-f.reports
		if !ok {
			break
		}
		first = append(first, r)
	}
	return first
}

// drain waits for the end of a fleet and drops its reports.
func (f *fleet) drain() {
	for range f.reports {
	}
}

// begin gives every worker its first order.
func (f *fleet) begin(first []worker.Order) {
	for k, orders := range f.orders {
		orders <- first[k]
	}
}

// stop ends a worker, an operating-system process by SIGTERM. Only one goroutine
// may call it, after begin.
func (f *fleet) stop(k int) { worker.Post(f.orders[k], worker.Order{Stop: true}) }

func (f *fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

// err returns the errors for which workers could not work.
func (f *fleet) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.errs...)
}
