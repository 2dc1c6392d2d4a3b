package waitqueue

import "github.com/seed-e56e777b/limiter/internal/mono"

// Group is a waiter for several buckets at once. It has a place in the queue of each
// bucket that was short of tokens. All its places are ordered by its own arrival, so
// that the longest wait comes first in every queue, and no waiter starves.
type Group struct {
	ready chan struct{}
	order uint64
}

// NewGroup returns a waiter without places.
func NewGroup() *Group {
	return &Group{ready: make(chan struct{}, 1), order: arrivals.Add(1)}
}

// Ready returns the channel that receives when a try may succeed.
func (g *Group) Ready() <-chan struct{} { return g.ready }

// Place is a place of a group in one queue. The zero Place is none.
type Place struct {
	q *Queues
	w *Waiter
}

// Join gives the group a place for n tokens in the queue of id.
func (g *Group) Join(q *Queues, id, key string, n int64) Place {
	w := &Waiter{ready: g.ready, cost: n, order: g.order, grouped: true}
	q.insert(id, key, w)
	return Place{q, w}
}

// Admits reports whether b admits the place's cost now, after all waiters before it.
func (p Place) Admits(b Bucket, now mono.Time) bool {
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	w := p.w
	switch {
	case w.queue == nil:
		return false
	case w == w.queue.firstUncalled():
		return b.Turn(now, w.cost, w.credit()-w.queue.calledTokens) <= now
	case !w.called: // behind one that is not admitted
		return false
	case b.Turn(now, w.cost, w.credit()-w.ahead) <= now:
		return true
	}
	// Waiters before it may have left since it was called.
	ahead := int64(0)
	for before := w.prev; before != nil; before = before.prev {
		ahead += before.cost
	}
	return b.Turn(now, w.cost, w.credit()-ahead) <= now
}

// CallAgain makes Serve call the group again at the place's turn, because a try has
// found the bucket short of tokens.
func (p Place) CallAgain() {
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	w := p.w
	if w.called && w.queue != nil && w.queue.lastCalled != nil && w.order <= w.queue.lastCalled.order {
		w.queue.setLastCalled(w.prev)
	}
	w.called = false
}

// Queued reports whether the place is still in its queue. It is not once its cost
// has exceeded the burst.
func (p Place) Queued() bool {
	if p.w == nil {
		return false
	}
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	return p.w.queue != nil
}

// Leave removes the place from its queue, if it is in one.
func (p Place) Leave() {
	if p.w != nil {
		p.q.Leave(p.w)
	}
}
