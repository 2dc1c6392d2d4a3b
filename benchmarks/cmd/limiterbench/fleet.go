package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter/benchmarks/internal/rediscpu"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// processes is the number of processes of a fleet, each an operating-system one.
const processes = 5

// scenario is the demand of a fleet.
type scenario struct {
	name  string
	order string // see orders
	keys  int
	rate  int // decisions a second of the whole fleet
}

var scenarios = []scenario{
	{name: "10,000 keys, Zipf 1.1", order: "zipf", keys: 10_000, rate: 200_000},
	{name: "100,000 keys, each once a second", order: "each", keys: 100_000, rate: 100_000},
}

// fleetLimit is the limit of every key: 1,000 a minute.
const fleetLimit = 1000

// phases is the phases of a fleet's run. Because limiter reports a key far from its
// limit every 15 s, it is measured over two such periods, after one.
type phases struct{ warmUp, measured time.Duration }

// usage is the cost of a fleet's decisions in Redis.
type usage struct {
	Decisions, Allowed int64
	Redis              time.Duration // CPU
	Lasted             time.Duration
}

// perMillion returns the server's CPU for a million decisions.
func (u usage) perMillion() time.Duration {
	return time.Duration(float64(u.Redis) * 1e6 / float64(u.Decisions))
}

// perSecond returns the fleet's decisions per second.
func (u usage) perSecond() float64 { return float64(u.Decisions) / u.Lasted.Seconds() }

// runFleet runs five processes on a new server.
func runFleet(ctx context.Context, by string, sc scenario, ph phases) (u usage, err error) {
	server, err := redisserver.Start(redisserver.Options{})
	if err != nil {
		return usage{}, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	client := server.Client()
	defer client.Close()
	f := &fleet{}
	defer func() { err = errors.Join(err, f.stop()) }()
	for i := range processes {
		job := workerJob{Redis: server.Addr(), By: by, Order: sc.order, Keys: sc.keys, Rate: sc.rate / processes, Seed: uint64(i)}
		if err := f.start(ctx, job); err != nil {
			return usage{}, err
		}
	}
	return f.measure(ctx, client, ph)
}

// fleet is the running worker processes.
type fleet struct{ workers []*worker }

type worker struct {
	cmd     *exec.Cmd
	ask     io.WriteCloser
	answers *bufio.Scanner
}

// start starts one more process, this program again.
func (f *fleet) start(ctx context.Context, job workerJob) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("limiterbench: %w", err)
	}
	spec, err := json.Marshal(job)
	if err != nil {
		return fmt.Errorf("limiterbench: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, workerArg, string(spec))
	cmd.Stderr = os.Stderr
	ask, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("limiterbench: %w", err)
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("limiterbench: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("limiterbench: %w", err)
	}
	f.workers = append(f.workers, &worker{cmd, ask, bufio.NewScanner(answers)})
	return nil
}

// stop ends the processes, by the end of their input.
func (f *fleet) stop() error {
	var errs []error
	for _, w := range f.workers {
		errs = append(errs, w.ask.Close(), w.cmd.Wait())
	}
	return errors.Join(errs...)
}

func (f *fleet) measure(ctx context.Context, client redis.UniversalClient, ph phases) (usage, error) {
	time.Sleep(ph.warmUp)
	before, err := f.reading(ctx, client)
	if err != nil {
		return usage{}, err
	}
	start := time.Now()
	time.Sleep(ph.measured)
	after, err := f.reading(ctx, client)
	return usage{
		Decisions: after.Decisions - before.Decisions,
		Allowed:   after.Allowed - before.Allowed,
		Redis:     after.Redis - before.Redis,
		Lasted:    time.Since(start),
	}, err
}

// reading is the counts of all processes and Redis so far.
func (f *fleet) reading(ctx context.Context, client redis.UniversalClient) (u usage, err error) {
	for _, w := range f.workers {
		c, err := w.count()
		if err != nil {
			return usage{}, err
		}
		u.Decisions += c.Decisions
		u.Allowed += c.Allowed
	}
	u.Redis, err = rediscpu.Used(ctx, client)
	return u, err
}

func (w *worker) count() (c workerCount, err error) {
	if _, err := fmt.Fprintln(w.ask); err != nil {
		return c, fmt.Errorf("limiterbench: asking a worker: %w", err)
	}
	if !w.answers.Scan() {
		return c, fmt.Errorf("limiterbench: a worker does not answer: %w", errors.Join(w.answers.Err(), io.ErrUnexpectedEOF))
	}
	err = json.Unmarshal(w.answers.Bytes(), &c)
	return c, err
}

// compared is the usage of two fleets in one scenario.
type compared struct {
	scenario
	Ours, Theirs usage
}

// ratio returns limiter's usage per decision over redis_rate's.
func (c compared) ratio() float64 {
	return float64(c.Ours.perMillion()) / float64(c.Theirs.perMillion())
}

func runFleets(ctx context.Context, oursFor, theirsFor phases) ([]compared, error) {
	var list []compared
	for _, sc := range scenarios {
		us, err := runFleet(ctx, ours, sc, oursFor)
		if err != nil {
			return nil, err
		}
		them, err := runFleet(ctx, redisRate, sc, theirsFor)
		if err != nil {
			return nil, err
		}
		list = append(list, compared{sc, us, them})
	}
	return list, nil
}
