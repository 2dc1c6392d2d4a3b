package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/model"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/report"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/store"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/traffic"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/worker"
)

// lab is one run: a Redis, a fleet in front of it, and a report on them.
type lab struct {
	options
	prefix string // of all keys in Redis
	out    io.Writer
}

func newLab(o options, out io.Writer) *lab {
	return &lab{options: o, prefix: "limiterlab-" + rand.Text()[:10], out: out}
}

// run returns the exit code. With an error the lab could not do its work.
func (l *lab) run(ctx context.Context) (int, error) {
	st, err := l.openStore(ctx)
	if err != nil {
		return exitFailed, err
	}
	defer st.Close()
	if !l.quiet {
		report.Intro(l.out, l.intro(st))
	}
	c, outages, err := l.play(ctx, st)
	switch {
	case err != nil:
		return exitFailed, err
	case c == nil:
		return exitInterrupted, errors.New("interrupted before the run began")
	}
	end := c.end()
	trace.Sort(c.requests)
	return l.conclude(ctx, l.compare(c, outages, end))
}

// compare compares the run with the other ways of limiting.
func (l *lab) compare(c *collector, outages []trace.Span, end time.Duration) model.Result {
	bin := report.BinWidth(l.duration)
	if l.waiters == 0 {
		return model.Compare(l.limit, c.requests, outages, end, bin)
	}
	seen := model.Seen{Grants: c.requests, Levels: c.levels}
	for k, through := range c.through {
		seen.Pools = append(seen.Pools, model.Pool{Process: k, Workers: l.waiters, To: through})
	}
	return model.CompareWaiting(l.limit, seen, outages, end, bin)
}

// openStore starts, or finds, the Redis of the run.
func (l *lab) openStore(ctx context.Context) (store.Store, error) {
	switch {
	case l.redis != "":
		return store.NewRemote(ctx, l.redis, l.prefix)
	case l.server != "":
		return store.NewServer()
	}
	return store.NewEmbedded()
}

// play runs the fleet and the script to their end and returns the record of the
// run, which is empty if ctx ended before it began.
func (l *lab) play(ctx context.Context, st store.Store) (*collector, []trace.Span, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := startFleet(ctx, l.runner(), l.workers(st.Endpoint()))
	first := f.awaitReady()
	if len(first) < l.n || ctx.Err() != nil {
		cancel()
		f.drain()
		return nil, nil, f.err()
	}
	epoch := time.Now()
	f.begin(l.orders(epoch))
	if l.stop > 0 {
		alarm := time.AfterFunc(l.stop, func() { f.stop(l.n - 1) })
		defer alarm.Stop()
	}
	c := newCollector(l.n, epoch, l.observer())
	s := startScript(ctx, st, epoch, middleThird(l.duration), cancel)
	for _, r := range first {
		c.add(r)
	}
	c.gather(f.reports, s.notes, cancel)
	return c, s.outages, errors.Join(f.err(), s.err)
}

func (l *lab) runner() worker.Runner {
	if l.processes {
		return worker.Spawn
	}
	return worker.Run
}

// orders returns the first orders of all workers.
func (l *lab) orders(epoch time.Time) []worker.Order {
	orders := make([]worker.Order, l.n)
	for k, rate := range l.rates() {
		orders[k] = worker.Order{Epoch: epoch, Rate: rate}
		if l.waiters > 0 {
			orders[k] = worker.Order{Epoch: epoch, Workers: l.waiters}
		}
	}
	return orders
}

// rates divides the traffic over the fleet, in calls per second.
func (l *lab) rates() []float64 {
	rates := traffic.Shares(l.n)
	for k := range rates {
		rates[k] *= l.rate()
	}
	return rates
}

func (l *lab) workers(redis store.Endpoint) []worker.Config {
	var workers []worker.Config
	for k := range l.n {
		workers = append(workers, worker.Config{
			Process:   k,
			Processes: l.n,
			Limit:     l.limit,
			Redis:     redis,
			Prefix:    l.prefix,
			Seed:      l.seed,
			For:       l.duration,
		})
	}
	return workers
}

func (l *lab) observer() observer {
	if l.quiet {
		return report.Silent{}
	}
	return report.NewPrinter(l.out, l.n, l.waiters > 0)
}

// conclude prints and draws the result, and judges it unless ctx cut it short.
func (l *lab) conclude(ctx context.Context, r model.Result) (int, error) {
	report.Table(l.out, r)
	if err := l.draw(r); err != nil {
		return exitFailed, err
	}
	if ctx.Err() != nil {
		fmt.Fprintf(l.out, "Interrupted after %.1f s of %v.\n", r.End.Seconds(), l.duration)
		return exitInterrupted, nil
	}
	if !report.Verdict(l.out, r) {
		return exitFailed, nil
	}
	return exitOK, nil
}

// draw writes the chart, if the flags ask for one.
func (l *lab) draw(r model.Result) error {
	if l.svg == "" {
		return nil
	}
	svg, err := report.Chart(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.svg, svg, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(l.out, "Chart: %s\n", l.svg)
	return nil
}

// intro returns the facts of the run for a reader, before it begins.
func (l *lab) intro(st store.Store) report.Facts {
	f := report.Facts{
		Limit:    l.limit,
		Separate: l.processes,
		For:      l.duration,
		Store:    st.String(),
		Prefix:   l.prefix,
		Outage:   middleThird(l.duration)[0],
		Rates:    l.rates(),
		Workers:  l.waiters,
	}
	f.Dies, f.Returns = st.Fate()
	return f
}
