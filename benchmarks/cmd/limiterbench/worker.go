package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/benchmarks/internal/keys"
)

// workerArg is the argument with which this program runs as a process of a fleet.
const workerArg = "worker"

// workerJob is the job of one process of a fleet.
type workerJob struct {
	Redis string // address
	By    string // limiter or redis_rate
	Order string
	Keys  int
	Rate  int // decisions per second; redis_rate makes as many as it can
	Seed  uint64
}

// workerCount is a worker's answer to each line of its input.
type workerCount struct{ Decisions, Allowed int64 }

// work decides until its input ends.
func work(ctx context.Context, spec string, in io.Reader, out io.Writer) error {
	var job workerJob
	if err := json.Unmarshal([]byte(spec), &job); err != nil {
		return fmt.Errorf("limiterbench: worker: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	count := &counter{}
	done := make(chan error, 1)
	go func() { done <- job.run(ctx, count) }()
	err := answer(in, out, count)
	cancel()
	return errors.Join(err, <-done)
}

// answer writes the count for every line that comes in.
func answer(in io.Reader, out io.Writer, count *counter) error {
	lines := bufio.NewScanner(in)
	reply := json.NewEncoder(out)
	for lines.Scan() {
		if err := reply.Encode(count.read()); err != nil {
			return fmt.Errorf("limiterbench: worker: %w", err)
		}
	}
	return lines.Err()
}

type counter struct{ decisions, allowed atomic.Int64 }

func (c *counter) read() workerCount {
	allowed := c.allowed.Load() // first, so that it is never above decided
	return workerCount{c.decisions.Load(), allowed}
}

func (c *counter) add(allowed bool) {
	c.decisions.Add(1)
	if allowed {
		c.allowed.Add(1)
	}
}

func (j workerJob) run(ctx context.Context, count *counter) error {
	switch j.By {
	case ours:
		return j.runLimiter(ctx, count)
	case redisRate:
		return j.runRedisRate(ctx, count)
	}
	return fmt.Errorf("limiterbench: worker: no limiter %q", j.By)
}

// runLimiter decides at the job's rate, in batches of about a millisecond.
func (j workerJob) runLimiter(ctx context.Context, count *counter) error {
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{j.Redis}}))
	defer client.Close()
	l, err := limiter.New(limiter.Config{
		Limit: limiter.Per(fleetLimit, time.Minute), Redis: client, Processes: processes,
		MaxKeys: 2 * j.Keys, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer l.Close()
	next := j.nextKey()
	start, made := time.Now(), 0
	for ctx.Err() == nil {
		due := int(time.Since(start).Seconds() * float64(j.Rate))
		for ; made < due; made++ {
			count.add(l.Allow(next()))
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// callers is the number of callers of redis_rate in each process.
const callers = 16

// runRedisRate decides as fast as Redis replies.
func (j workerJob) runRedisRate(ctx context.Context, count *counter) error {
	client := redis.NewClient(&redis.Options{Addr: j.Redis, PoolSize: callers})
	defer client.Close()
	l := redis_rate.NewLimiter(client)
	errs := make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		j.Seed += processes
		next := j.nextKey()
		wg.Go(func() {
			for ctx.Err() == nil {
				r, err := l.Allow(ctx, next(), redis_rate.PerMinute(fleetLimit))
				if err != nil {
					errs[i] = err
					return
				}
				count.add(r.Allowed > 0)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// nextKey returns a function that returns the next key to request.
func (j workerJob) nextKey() func() string {
	list := make([]string, 1<<17)
	order := keys.Zipf(j.Keys, j.Seed)
	if j.Order == "each" {
		list = list[:j.Keys]
		order = each(j.Keys, j.Seed)
	}
	for i := range list {
		list[i] = keys.Name(order())
	}
	i := -1
	return func() string {
		i = (i + 1) % len(list)
		return list[i]
	}
}

// each makes a request of every key once, in random order.
func each(n int, seed uint64) keys.Order {
	perm := rand.New(rand.NewPCG(seed, 1)).Perm(n)
	i := -1
	return func() int { i++; return perm[i] }
}
