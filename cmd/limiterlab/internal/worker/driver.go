package worker

import (
	"context"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/traffic"
)

const (
	key         = "demo" // the one key of the fleet's traffic
	cost        = 1
	reportEvery = 100 * time.Millisecond
)

// driver calls a limiter at the instants of its arrivals, and keeps a pool of
// workers that wait. An instant is absolute, so that a delayed driver catches up
// and does not drift. It records the actual time of each call.
type driver struct {
	cfg      Config
	limiter  *limiter.Limiter
	arrivals *traffic.Arrivals
	pool     *pool
	next     time.Duration // arrival
	epoch    time.Time     // the start of the run
	orders   <-chan Order
	notes    *journal
	report   func(Report)

	asked   []trace.Request // since the last report
	workers int             // size of the pool since then
}

// drive makes calls until the run or ctx ends, and returns the end of its reports.
func (d *driver) drive(ctx context.Context) time.Duration {
	flush := time.Since(d.epoch) + reportEvery
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for {
		now := time.Since(d.epoch)
		switch {
		case now >= d.cfg.For:
			return d.end(d.cfg.For)
		case now >= flush:
			if ctx.Err() != nil {
				return d.end(now)
			}
			d.flush(now)
			flush = time.Since(d.epoch) + reportEvery // after the report: a slow receiver must leave time for calls
			d.listen()
		case now >= d.next:
			d.ask(now)
			d.next = d.arrivals.Next()
		default:
			alarm.Reset(min(d.next, flush, d.cfg.For) - now)
			select {
			case <-alarm.C:
			case <-ctx.Done():
				return d.end(now)
			}
		}
	}
}

// end ends the pool, sends the last report and returns its end.
func (d *driver) end(now time.Duration) time.Duration {
	d.pool.end()
	return d.flush(now)
}

// listen takes an order, if there is one.
func (d *driver) listen() {
	select {
	case o := <-d.orders:
		d.obey(o)
	default:
	}
}

func (d *driver) obey(o Order) {
	d.arrivals.Change(o.Rate, o.From)
	d.next = d.arrivals.Next()
	d.pool.resize(o.Workers)
	d.workers = o.Workers
}

func (d *driver) ask(now time.Duration) {
	d.asked = append(d.asked, trace.Request{
		At:       now,
		Process:  int32(d.cfg.Process),
		Cost:     cost,
		Admitted: d.limiter.AllowN(key, cost),
	})
}

// flush reports all requests up to an instant, and the grants since then. It
// returns the end of the report.
func (d *driver) flush(through time.Duration) time.Duration {
	requests := d.asked
	if grants := d.pool.take(); len(grants) > 0 {
		through = max(through, grants[len(grants)-1].At)
		requests = append(requests, grants...)
		trace.Sort(requests)
	}
	d.report(Report{
		Process:  d.cfg.Process,
		Through:  through,
		Requests: requests,
		Workers:  d.workers,
		Status:   statusOf(d.limiter, time.Now()),
		Notes:    d.notes.take(),
	})
	d.asked = nil // the receiver has it now
	return through
}
