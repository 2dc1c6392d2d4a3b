package live

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/traffic"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/worker"
)

// process is one of the fleet.
type process struct {
	number   int // from 0, never given again
	orders   chan worker.Order
	cancel   context.CancelFunc
	ready    bool // it has reported, and was given an order
	stopping bool
	through  time.Duration // up to when its reports reach
	status   worker.Status
}

// String is what a reader calls it.
func (p *process) String() string { return fmt.Sprintf("process %d", p.number+1) }

// Load is how the traffic is spread over the fleet.
type Load string

// The ways to spread it.
const (
	Skewed Load = "skewed" // the k-th gets 1/k of what the first gets
	Even   Load = "even"
	One    Load = "one" // one process gets all
)

// Calls is the way in which a fleet is asked.
type Calls string

// The ways to ask.
const (
	Allow Calls = "allow" // traffic, which is admitted or denied
	Wait  Calls = "wait"  // workers: each waits for a token, works, and waits again
)

// runningLocked are the processes that get traffic.
func (l *Lab) runningLocked() []*process {
	var running []*process
	for _, p := range l.fleet {
		if !p.stopping {
			running = append(running, p)
		}
	}
	return running
}

// spreadLocked tells every process what it is asked for from now on.
func (l *Lab) spreadLocked() {
	running := l.runningLocked()
	now, rate := l.now(), float64(l.cfg.Limit.Rate)*l.demand
	pools := l.poolsLocked(running)
	for k, share := range l.sharesLocked(running) {
		if p := running[k]; p.ready {
			o := worker.Order{Epoch: l.epoch, From: now, Rate: rate * share}
			if l.calls == Wait {
				o.Rate, o.Workers = 0, pools[k]
			}
			worker.Post(p.orders, o)
		}
	}
}

// poolsLocked are the numbers of workers of the processes that run, where they
// wait: so many on average, spread as the load is.
func (l *Lab) poolsLocked(running []*process) []int {
	pools := make([]int, len(running))
	for k, share := range l.sharesLocked(running) {
		pools[k] = int(math.Round(share * float64(l.workers*len(running))))
	}
	return pools
}

// sharesLocked are the parts of the load that go to those who run.
func (l *Lab) sharesLocked(running []*process) []float64 {
	switch l.load {
	case Even:
		return traffic.Even(len(running))
	case One:
		shares := make([]float64, len(running))
		if len(running) > 0 {
			shares[l.heavyLocked(running)] = 1
		}
		return shares
	}
	return traffic.Shares(len(running))
}

// heavyLocked is which of those who run has all the load: the one that was
// chosen or, where that has gone, the next.
func (l *Lab) heavyLocked(running []*process) int {
	k := slices.IndexFunc(running, func(p *process) bool { return p.number >= l.heavy })
	return max(k, 0)
}

// findLocked finds a process that runs by its number from 1.
func (l *Lab) findLocked(number int) (*process, error) {
	for _, p := range l.runningLocked() {
		if p.number == number-1 {
			return p, nil
		}
	}
	return nil, fmt.Errorf("there is no process %d that runs", number)
}

func (l *Lab) removeLocked(p *process) {
	l.fleet = slices.DeleteFunc(l.fleet, func(other *process) bool { return other == p })
}
