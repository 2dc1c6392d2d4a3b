// Package live is a run of the lab without an end, steered by commands: a fleet
// that grows and shrinks, whose load moves, in front of a Redis that comes and
// goes. It keeps the last five minutes.
package live

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/store"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/traffic"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/worker"
)

// MaxProcesses is the largest fleet.
const MaxProcesses = 200

// MaxWorkers is the largest number of waiting workers in all processes.
const MaxWorkers = 1000

// pressure is the demand of waiting workers, in times the limit, if Config does
// not set their number.
const pressure = 3

const (
	history  = 5 * time.Minute // length of the part of a run that is kept
	recently = 3 * time.Second // over which a process's part is measured
	patience = 2 * time.Second // for which a silent process delays the accounts
	forever  = 100 * 365 * 24 * time.Hour
)

// Config describes a run at its start.
type Config struct {
	Limit     limiter.Limit
	Processes int
	Demand    float64 // in times the limit
	Waiters   int     // waiting workers of each process at the start; 0 for traffic by Allow
	Seed      uint64
	Run       worker.Runner
	Redis     *store.Rig // not closed by the run
	Prefix    string     // of all keys in Redis
}

// Lab is a run. Its methods may be called from any goroutine.
type Lab struct {
	cfg   Config
	name  string
	ctx   context.Context // of the run
	epoch time.Time
	wg    sync.WaitGroup

	commands sync.Mutex // one at a time; taken before mu

	mu      sync.Mutex
	fleet   []*process // by their numbers
	started int        // processes, ever
	demand  float64    // times the limit
	load    Load
	heavy   int // number of the process with all the load, if load is One
	calls   Calls
	workers int // of each process on average, if calls is Wait
	account *account
	mode    store.Mode // of Redis
	since   time.Duration
	news    news
}

// Start begins a run, which ends with ctx.
func Start(ctx context.Context, cfg Config) *Lab {
	l := &Lab{
		cfg:     cfg,
		name:    rand.Text(),
		ctx:     ctx,
		epoch:   time.Now(),
		demand:  cfg.Demand,
		load:    Skewed,
		calls:   Allow,
		workers: pool(cfg),
		account: newAccount(cfg.Limit),
		mode:    cfg.Redis.Mode(),
	}
	if cfg.Waiters > 0 {
		l.load, l.calls, l.workers = Even, Wait, cfg.Waiters
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for range cfg.Processes {
		l.startLocked(cfg.Processes)
	}
	return l
}

// pool returns the number of workers of a process if Config does not set it. It
// is at least two, so that one can wait behind another.
func pool(cfg Config) int {
	all := pressure * float64(cfg.Limit.Rate) / traffic.Demand(1)
	return max(2, int(math.Ceil(all/float64(cfg.Processes))))
}

// Wait returns when the run and all its processes have ended.
func (l *Lab) Wait() { l.wg.Wait() }

// startLocked starts a process that assumes a fleet of n until its first exchange.
func (l *Lab) startLocked(n int) *process {
	ctx, cancel := context.WithCancel(l.ctx)
	p := &process{number: l.started, orders: make(chan worker.Order, 1), cancel: cancel}
	l.started++
	l.fleet = append(l.fleet, p)
	cfg := worker.Config{
		Process:   p.number,
		Processes: n,
		Limit:     l.cfg.Limit,
		Redis:     l.cfg.Redis.Endpoint(),
		Prefix:    l.cfg.Prefix,
		Seed:      l.cfg.Seed,
		For:       forever,
	}
	l.wg.Go(func() {
		defer cancel()
		l.ended(p, l.cfg.Run(ctx, cfg, p.orders, func(r worker.Report) { l.take(p, r) }))
	})
	return p
}

// take takes one report.
func (l *Lab) take(p *process, r worker.Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	p.status = r.Status
	for _, n := range r.Notes {
		l.news.note(n.Time.Sub(l.epoch), p, n)
	}
	if r.Ended {
		if !p.stopping { // SIGTERM from elsewhere
			p.stopping = true
			l.spreadLocked()
		}
		return
	}
	if !p.ready { // its next report follows its first order
		p.ready, p.through = true, now
		l.spreadLocked()
		return
	}
	span := trace.Span{From: p.through, To: r.Through}
	p.through = r.Through
	l.account.add(r.Requests)
	l.account.add(traffic.Tries(p.number, r.Workers, span))
	l.account.wait(trace.Level{Span: span, Callers: r.Status.Waiting})
	l.advanceLocked(now)
}

// ended notes the end of a process, with its error if no command asked for it.
func (l *Lab) ended(p *process, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(p)
	switch {
	case l.ctx.Err() != nil:
	case p.stopping:
		l.news.say(l.now(), fmt.Sprintf("%v has left the fleet", p))
	default:
		l.news.say(l.now(), fmt.Sprintf("%v has ended by itself: %s", p, strings.TrimPrefix(fmt.Sprint(err), p.String()+": ")))
		l.spreadLocked()
	}
}

// advanceLocked counts the time that every process has reported in full. It waits
// for a silent one no longer than patience.
func (l *Lab) advanceLocked(now time.Duration) {
	through := now
	for _, p := range l.fleet {
		if p.ready && !p.stopping {
			through = min(through, p.through)
		}
	}
	l.account.advance(max(through, now-patience))
}

func (l *Lab) now() time.Duration { return time.Since(l.epoch) }
