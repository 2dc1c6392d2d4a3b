package worker

import (
	"context"
	"encoding/gob"
	"io"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/store"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
)

func TestMain(m *testing.M) {
	logging.Disable()
	m.Run()
}

const rate = 1000 // calls per second

func config(t *testing.T) Config {
	return Config{
		Process:   1,
		Processes: 2,
		Limit:     limiter.Limit{Rate: 100, Burst: 10},
		Redis:     store.Endpoint{URL: "redis://" + miniredis.RunT(t).Addr()},
		Prefix:    "limiterlab-test",
		Seed:      1,
		For:       time.Second, // a machine that is busy starts late
	}
}

// checkReports checks what is true of every worker's reports.
func checkReports(t *testing.T, cfg Config, reports []Report) []trace.Request {
	require.NotEmpty(t, reports)
	require.Equal(t, Report{Process: cfg.Process, Status: reports[0].Status, Notes: reports[0].Notes}, reports[0])
	var requests []trace.Request
	var last time.Duration
	for _, r := range reports[1:] {
		for _, q := range r.Requests {
			require.GreaterOrEqual(t, q.At, last)
			require.LessOrEqual(t, q.At, r.Through)
			last = q.At
		}
		requests = append(requests, r.Requests...)
	}
	return requests
}

func TestRun(t *testing.T) {
	cfg := config(t)
	orders := make(chan Order, 1)
	orders <- Order{Epoch: time.Now(), Rate: rate}
	var reports []Report
	require.NoError(t, Run(t.Context(), cfg, orders, func(r Report) { reports = append(reports, r) }))
	requests := checkReports(t, cfg, reports)
	require.NotEmpty(t, requests)
	require.True(t, requests[0].Admitted)
	last := reports[len(reports)-1]
	require.True(t, last.Ended)
	require.Equal(t, cfg.For, last.Through)
	require.Regexp(t, "^closed in .*: (nothing was left to report|all remaining usage is reported)", last.Notes[0].Text)
}

// TestRunSaysWhatItCouldNotTell has Redis go before a worker ends.
func TestRunSaysWhatItCouldNotTell(t *testing.T) {
	cfg := config(t)
	server := miniredis.RunT(t)
	cfg.Redis.URL, cfg.For = "redis://"+server.Addr(), time.Hour
	orders := make(chan Order, 1)
	orders <- Order{Epoch: time.Now(), Rate: rate}
	ctx, cancel := context.WithCancel(t.Context())
	var last Report
	require.NoError(t, Run(ctx, cfg, orders, func(r Report) {
		last = r
		switch {
		case r.Status.State == "synced":
			server.Close()
		case len(r.Requests) > 0:
			cancel()
		}
	}))
	require.Contains(t, last.Notes[0].Text, ": the remaining usage is lost, since Redis did not confirm it")
}

// TestRunCatchesUp has a worker that starts late: it makes the calls that it
// missed at once, and says when it really made them.
func TestRunCatchesUp(t *testing.T) {
	cfg := config(t)
	cfg.For = time.Minute
	const late = 10 * time.Second
	orders := make(chan Order, 1)
	orders <- Order{Epoch: time.Now().Add(-late), Rate: rate}
	ctx, cancel := context.WithCancel(t.Context())
	var reports []Report
	require.NoError(t, Run(ctx, cfg, orders, func(r Report) {
		reports = append(reports, r)
		if n := len(checkReports(t, cfg, reports)); float64(n) >= rate*late.Seconds() {
			cancel()
		}
	}))
	require.GreaterOrEqual(t, checkReports(t, cfg, reports)[0].At, late)
}

// TestRunGoesOnBesideASlowReceiver has every report take longer than the time
// between two.
func TestRunGoesOnBesideASlowReceiver(t *testing.T) {
	cfg := config(t)
	cfg.For = time.Hour
	orders := make(chan Order, 1)
	orders <- Order{Epoch: time.Now(), Rate: rate}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	busy := 0 // reports that have requests
	require.NoError(t, Run(ctx, cfg, orders, func(r Report) {
		if len(r.Requests) > 0 {
			if busy++; busy == 3 {
				cancel()
			}
		}
		time.Sleep(2 * reportEvery)
	}))
	require.Equal(t, context.Canceled, ctx.Err())
}

func TestRunEndsBeforeItsStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, Run(ctx, config(t), nil, func(Report) { cancel() }))
}

func TestRunRefusesNonsense(t *testing.T) {
	cfg := config(t)
	cfg.Limit = limiter.Limit{}
	require.ErrorContains(t, Run(t.Context(), cfg, nil, nil), "process 2")
	cfg.Redis.URL = "nonsense"
	require.Error(t, Run(t.Context(), cfg, nil, nil))
}

// TestServeEndsWithItsParent closes the worker's input as the kernel does for a
// parent that has died.
func TestServeEndsWithItsParent(t *testing.T) {
	cfg := config(t)
	cfg.For = time.Hour
	in, toWorker := io.Pipe()
	fromWorker, out := io.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- Serve(t.Context(), in, out)
		_ = out.Close()
	}()
	enc := gob.NewEncoder(toWorker)
	require.NoError(t, enc.Encode(cfg))
	require.NoError(t, enc.Encode(Order{Epoch: time.Now(), Rate: rate}))

	var reports []Report
	require.NoError(t, receive(fromWorker, func(r Report) {
		if reports = append(reports, r); len(reports) == 2 {
			_ = toWorker.Close()
		}
	}))
	require.NoError(t, <-served)
	require.NotEmpty(t, checkReports(t, cfg, reports))
}

func TestServeWithoutInstructions(t *testing.T) {
	in, toWorker := io.Pipe()
	_ = toWorker.Close()
	require.Error(t, Serve(t.Context(), in, io.Discard))
}

// TestRunFollowsOrders begins with an order to ask for nothing.
func TestRunFollowsOrders(t *testing.T) {
	cfg := config(t)
	cfg.For = time.Hour
	epoch := time.Now()
	orders := make(chan Order, 1)
	orders <- Order{Epoch: epoch}
	ctx, cancel := context.WithCancel(t.Context())
	var from time.Duration
	require.NoError(t, Run(ctx, cfg, orders, func(r Report) {
		switch {
		case r.Through == 0:
		case from == 0:
			require.Empty(t, r.Requests)
			from = time.Since(epoch)
			Post(orders, Order{Epoch: epoch, From: from, Rate: 1})
			Post(orders, Order{Epoch: epoch, From: from, Rate: rate}) // in its place
		case len(r.Requests) > 10:
			require.GreaterOrEqual(t, r.Requests[0].At, from)
			cancel()
		}
	}))
	require.Error(t, ctx.Err())
}

// TestRunWaits has workers that wait, a process that is asked by Allow in their
// place, and workers again at the end.
func TestRunWaits(t *testing.T) {
	cfg := config(t)
	cfg.For = time.Hour
	epoch := time.Now()
	orders := make(chan Order, 1)
	orders <- Order{Epoch: epoch, Workers: 20}
	ctx, cancel := context.WithCancel(t.Context())
	var reports []Report
	waited, asked := 0, 0 // reports in a row with these alone
	require.NoError(t, Run(ctx, cfg, orders, func(r Report) {
		reports = append(reports, r)
		switch {
		case r.Ended || r.Through == 0 || ctx.Err() != nil:
		case asked == 0 && r.Workers == 20 && r.Status.Waiting > 0 && len(r.Requests) > 0:
			if waited++; waited == 3 {
				Post(orders, Order{Epoch: epoch, From: time.Since(epoch), Rate: rate})
			}
		case r.Workers == 0 && r.Status.Waiting == 0 && len(r.Requests) > 0:
			if asked++; asked == 3 {
				Post(orders, Order{Epoch: epoch, From: time.Since(epoch), Workers: 3})
			}
		case asked >= 3 && r.Workers == 3 && r.Status.Waiting > 0:
			cancel()
		}
	}))
	require.Error(t, ctx.Err())
	kinds := map[trace.Kind]int{}
	for _, q := range checkReports(t, cfg, reports) {
		require.True(t, q.Admitted || q.Kind == trace.Call)
		kinds[q.Kind]++
	}
	require.Positive(t, kinds[trace.Grant])
	require.Positive(t, kinds[trace.Call])
	end := reports[len(reports)-1].Through
	require.LessOrEqual(t, float64(kinds[trace.Grant]), float64(cfg.Limit.Burst)+1+float64(cfg.Limit.Rate)*end.Seconds())
	last := reports[len(reports)-2]
	require.Zero(t, last.Status.Waiting, "all workers have left the queue")
	require.Equal(t, last.Through, end)
}

// TestRunWaitsToItsEnd: no grant is later than the run.
func TestRunWaitsToItsEnd(t *testing.T) {
	cfg := config(t)
	orders := make(chan Order, 1)
	orders <- Order{Epoch: time.Now(), Workers: 20}
	var reports []Report
	require.NoError(t, Run(t.Context(), cfg, orders, func(r Report) { reports = append(reports, r) }))
	require.NotEmpty(t, checkReports(t, cfg, reports))
	require.Equal(t, cfg.For, reports[len(reports)-1].Through)
}
