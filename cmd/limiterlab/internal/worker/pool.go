package worker

import (
	"context"
	"sync"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/traffic"
)

// pool is the waiting workers of a process: each waits for a token, works for
// traffic.Work, and waits again. Only one goroutine may change its size.
type pool struct {
	ctx     context.Context // ends all workers
	limiter *limiter.Limiter
	process int
	epoch   time.Time     // the start of the run
	latest  time.Duration // the end of the run: no grant is recorded as later

	leave   []context.CancelFunc // of each worker
	running sync.WaitGroup

	mu     sync.Mutex
	grants []trace.Request // since the last take, in order
}

// resize starts workers, or ends the newest ones, which leave their queue.
func (p *pool) resize(n int) {
	for len(p.leave) < n {
		ctx, cancel := context.WithCancel(p.ctx)
		p.leave = append(p.leave, cancel)
		p.running.Go(func() { p.work(ctx) })
	}
	for len(p.leave) > n {
		last := len(p.leave) - 1
		p.leave[last]()
		p.leave = p.leave[:last]
	}
}

// end ends all workers and returns when their last grants are recorded.
func (p *pool) end() {
	p.resize(0)
	p.running.Wait()
}

// work is one worker, until ctx ends.
func (p *pool) work(ctx context.Context) {
	for p.limiter.Wait(ctx, key) == nil {
		p.record()
		select {
		case <-time.After(traffic.Work):
		case <-ctx.Done():
			return
		}
	}
}

// record records a grant of this instant. The clock is read under the lock,
// which keeps grants in order.
func (p *pool) record() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.grants = append(p.grants, trace.Request{
		At:       min(time.Since(p.epoch), p.latest),
		Process:  int32(p.process),
		Cost:     cost,
		Admitted: true,
		Kind:     trace.Grant,
	})
}

// take returns the grants since the last take.
func (p *pool) take() []trace.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	grants := p.grants
	p.grants = nil
	return grants
}
