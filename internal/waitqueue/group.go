package waitqueue

// Group is a waiter for several buckets at once. It holds a place in each
// queue in which it was found short, all of them as of its arrival, so that
// the one that has waited longest comes first wherever it waits, and nobody
// starves.
type Group struct {
	ready chan struct{}
	order uint64
}

// NewGroup returns a waiter without places.
func NewGroup() *Group {
	return &Group{ready: make(chan struct{}, 1), order: arrivals.Add(1)}
}

// Ready receives when a try may succeed.
func (g *Group) Ready() <-chan struct{} { return g.ready }

// Place is one of the group's places. The zero Place is none.
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

// Admits reports whether b admits the place's cost now, after all waiters before
// it.
func (p Place) Admits(b Bucket, now int64) bool {
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

// Recall has the group called again when the place's turn has come: a try has
// found it short.
func (p Place) CallAgain() {
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	w := p.w
	if w.called && w.queue != nil && w.queue.lastCalled != nil && w.order <= w.queue.lastCalled.order {
		w.queue.setLastCalled(w.prev)
	}
	w.called = false
}

// Held reports whether the group still has the place: it has lost it if its cost
// has exceeded the burst.
func (p Place) Queued() bool {
	if p.w == nil {
		return false
	}
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	return p.w.queue != nil
}

// Leave gives the place up, if there is one.
func (p Place) Leave() {
	if p.w != nil {
		p.q.Leave(p.w)
	}
}
