package worker

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/traffic"
)

// joinPatience is the time for which a worker waits for its first exchange before
// it is ready, so that a run begins with a connected fleet.
const joinPatience = 2 * time.Second

// Run is a [Runner] in this process.
func Run(ctx context.Context, cfg Config, orders <-chan Order, report func(Report)) error {
	notes := &journal{}
	client, l, err := connect(cfg, slog.New(newHandler(notes)))
	if err != nil {
		return err
	}
	defer client.Close()

	join(ctx, l)
	report(Report{Process: cfg.Process, Status: statusOf(l, time.Now()), Notes: notes.take()})
	through := time.Duration(0)
	select {
	case first := <-orders:
		epoch := onThisClock(first.Epoch)
		d := driver{
			cfg:      cfg,
			limiter:  l,
			arrivals: traffic.NewArrivals(0, cfg.Seed, cfg.Process),
			pool:     &pool{ctx: ctx, limiter: l, process: cfg.Process, epoch: epoch, latest: cfg.For},
			epoch:    epoch,
			orders:   orders,
			notes:    notes,
			report:   report,
		}
		d.obey(first)
		through = d.drive(ctx)
	case <-ctx.Done():
	}
	report(leave(l, cfg, through))
	return nil
}

// leave closes a limiter, and reports whether Redis has confirmed all its usage.
func leave(l *limiter.Limiter, cfg Config, through time.Duration) Report {
	pending, begin := l.Status().Pending, time.Now()
	_ = l.Close() // it has no error
	took, left := time.Since(begin), l.Status().Pending
	text := fmt.Sprintf("closed in %v", took.Round(10*time.Microsecond))
	switch {
	case pending == 0:
		text += ": nothing was left to report"
	case left == 0:
		text += ": all remaining usage is reported"
	default:
		text += ": the remaining usage is lost, since Redis did not confirm it"
	}
	return Report{
		Process: cfg.Process, Through: through, Status: Status{State: "closed"},
		Notes: []Note{{Time: begin, Text: text}}, Ended: true,
	}
}

// connect makes a limiter with a client of its own, as a program would.
func connect(cfg Config, logger *slog.Logger) (redis.UniversalClient, *limiter.Limiter, error) {
	options, err := cfg.Redis.Options()
	if err != nil {
		return nil, nil, err
	}
	client := redis.NewUniversalClient(limiter.Tune(options))
	l, err := limiter.New(limiter.Config{
		Limit:     cfg.Limit,
		Redis:     client,
		Prefix:    cfg.Prefix,
		Processes: cfg.Processes,
		Logger:    logger,
	})
	if err != nil {
		_ = client.Close()
		return nil, nil, fmt.Errorf("process %d: %w", cfg.Process+1, err)
	}
	return client, l, nil
}

// join waits for the first exchange. The reports show if there was none.
func join(ctx context.Context, l *limiter.Limiter) {
	ctx, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	_ = l.Sync(ctx)
}

func statusOf(l *limiter.Limiter, now time.Time) Status {
	s := l.Status()
	age := time.Duration(-1)
	if !s.LastSync.IsZero() {
		age = now.Sub(s.LastSync)
	}
	return Status{State: s.State.String(), Age: age, Remaining: l.Peek(key).Remaining, Waiting: l.Stats().Waiting}
}

// onThisClock returns an instant of another process with a reading of this one's
// monotonic clock, so that a step of the wall clock does not move it.
func onThisClock(t time.Time) time.Time {
	now := time.Now()
	return now.Add(t.Sub(now))
}
