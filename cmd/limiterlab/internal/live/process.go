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
	number   int // from 0, never reused
	orders   chan worker.Order
	cancel   context.CancelFunc
	ready    bool // true if it has reported and got an order
	stopping bool
	through  time.Duration // end of the time covered by its reports
	status   worker.Status
	told     string // state in the latest note about it
}

// String returns the process's name for a reader, counted from 1.
func (p *process) String() string { return fmt.Sprintf("process %d", p.number+1) }

// Load is the way in which traffic is spread over the fleet.
type Load string

// The ways to spread it.
const (
	Skewed Load = "skewed" // the k-th gets 1/k of the first one's part
	Even   Load = "even"
	One    Load = "one" // one process gets all
)

// Calls is the kind of the fleet's calls.
type Calls string

// The kinds of calls.
const (
	Allow Calls = "allow" // traffic, admitted or denied at once
	Wait  Calls = "wait"  // workers: each waits for a token, works, and waits again
)

// runningLocked returns the processes that get traffic.
func (l *Lab) runningLocked() []*process {
	var running []*process
	for _, p := range l.fleet {
		if !p.stopping {
			running = append(running, p)
		}
	}
	return running
}

// spreadLocked orders every process's traffic from now on.
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

// poolsLocked returns the number of waiting workers of each running process:
// l.workers on average, spread as the load.
func (l *Lab) poolsLocked(running []*process) []int {
	pools := make([]int, len(running))
	for k, share := range l.sharesLocked(running) {
		pools[k] = int(math.Round(share * float64(l.workers*len(running))))
	}
	return pools
}

// sharesLocked returns each running process's part of the load; the sum is 1.
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

// heavyLocked returns the index of the running process with all the load: the
// chosen one or, if that has left, the next.
func (l *Lab) heavyLocked(running []*process) int {
	k := slices.IndexFunc(running, func(p *process) bool { return p.number >= l.heavy })
	return max(k, 0)
}

// findLocked returns a running process by its number, counted from 1.
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
