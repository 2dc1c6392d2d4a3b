package fleetsim

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
)

// drive runs a driver that makes the requests, with the load's events.
func (f *Fleet) drive(lim limiter.Limit, ld Load, requests func(*Fleet, *Tally)) *Tally {
	y := newTally(f, lim, ld)
	y.bucket = rate.NewLimiter(lim.Rate, lim.Burst)
	y.begin = time.Now().Truncate(time.Microsecond).Add(time.Microsecond)
	time.Sleep(time.Until(y.begin))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, e := range ld.At {
			y.sleepUntil(e.At)
			e.Do()
		}
	}()
	requests(f, y)
	<-ended
	y.sleepUntil(ld.Dur)
	return y.closed(f)
}

func (y *Tally) now() time.Duration { return time.Since(y.begin) }

func (y *Tally) sleepUntil(at time.Duration) { time.Sleep(at - y.now()) }

// request makes n requests of cost 1 now, of a process and of the central bucket.
func (y *Tally) request(who, n int) {
	at := y.now()
	for range n {
		y.add(at, who, 1, y.bucket.AllowN(time.Now(), 1), y.fleet.Members[who].Allow(key))
	}
}

// ticks returns a driver in which every process makes k requests at the same instant of
// every period. They are a microsecond apart, so that a run is repeatable.
func ticks(k int, every time.Duration) func(*Fleet, *Tally) {
	return func(f *Fleet, y *Tally) {
		for tick := time.Duration(0); tick < y.dur; tick += every {
			for i := range f.Members {
				y.sleepUntil(tick + time.Duration(i+1)*time.Microsecond)
				y.request(i, k)
			}
		}
	}
}

// pool is the workers of one process, which call Wait and work in turn.
type pool struct {
	process, workers int
	work             time.Duration
	patience         time.Duration // mean time after which a waiter gives up; 0: never
	reserves         bool          // true if workers call Reserve and sleep instead of Wait
}

// pools returns a pool with equal numbers of workers for each process.
func pools(processes, workers int) (list []pool) {
	for i := range processes {
		list = append(list, pool{process: i, workers: workers, work: 10 * time.Millisecond})
	}
	return list
}

// loops returns a driver in which pools of workers wait in closed loops until the run
// ends. Beside them a process may make Allow requests at a rate. Because a worker is
// always ready, one central bucket would admit all its refill.
func loops(list []pool, asking int, perSecond float64) func(*Fleet, *Tally) {
	return func(f *Fleet, y *Tally) {
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		for _, p := range list {
			y.workers = append(y.workers, p.workers)
			for worker := range p.workers {
				running.Go(func() { y.work(ctx, p, worker) })
			}
		}
		rng := rand.New(rand.NewPCG(1, 1))
		next := y.dur
		if perSecond > 0 {
			next = 0
		}
		for at := time.Duration(0); at < y.dur; at += bin {
			for next < at+bin && next < y.dur {
				y.sleepUntil(next)
				ok := f.Members[asking].Allow(key)
				y.add(y.now(), asking, 1, false, ok)
				next += time.Duration(rng.ExpFloat64() / perSecond * 1e9).Truncate(time.Microsecond)
			}
			y.sleepUntil(at + bin)
			y.refilled(at)
		}
		cancel()
		running.Wait()
	}
}

// refilled counts the admissions in a bin of one central bucket with a waiter at all
// times.
func (y *Tally) refilled(at time.Duration) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if i := int(at / bin); i < len(y.central) {
		y.central[i] = float64(y.bucket.Limit()) * bin.Seconds()
		if i == 0 {
			y.central[0] += float64(y.bucket.Burst())
		}
	}
}

// work runs one worker.
func (y *Tally) work(ctx context.Context, p pool, worker int) {
	m := y.fleet.Members[p.process]
	rng := rand.New(rand.NewPCG(uint64(p.process), uint64(worker)))
	m.Sleep(0)
	for ctx.Err() == nil {
		call, giveUp := context.WithCancel(ctx)
		begin, patience := time.Now(), 100*y.dur
		if p.patience > 0 {
			patience = time.Duration(rng.ExpFloat64() * float64(p.patience))
		}
		timer := time.AfterFunc(patience, giveUp)
		err := p.wait(call, m)
		gaveUp := call.Err() != nil
		timer.Stop()
		giveUp()
		if err == nil {
			y.served(p.process, time.Since(begin))
		} else if !gaveUp {
			y.fleet.t.Errorf("Wait: %v", err)
			return
		}
		m.Sleep(p.work)
	}
}

// wait waits for a token, or until a reservation acts.
func (p *pool) wait(ctx context.Context, m *Member) error {
	if !p.reserves {
		return m.Wait(ctx, key)
	}
	r := m.Reserve(key)
	select {
	case <-time.After(r.Delay()):
		return nil
	case <-ctx.Done():
		r.Cancel()
		return ctx.Err()
	}
}

// served counts a worker whose wait has ended now.
func (y *Tally) served(who int, waited time.Duration) {
	at := y.now()
	y.add(at, who, 1, false, true)
	y.mu.Lock()
	defer y.mu.Unlock()
	if at >= y.warm {
		for len(y.waits) <= who {
			y.waits = append(y.waits, nil)
		}
		y.waits[who] = append(y.waits[who], waited.Seconds())
	}
}
