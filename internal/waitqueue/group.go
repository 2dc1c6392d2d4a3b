package waitqueue

// Group is a waiter for several buckets at once. It holds a place in each
// queue in which it was found short, all of them as of its arrival, so that
// the one that has waited longest comes first wherever it waits, and nobody
// starves.
type Group struct {
	ready chan struct{}
	order uint64
	since int64
}

// NewGroup returns a waiter without places.
func NewGroup(now int64) *Group {
	return &Group{ready: make(chan struct{}, 1), order: arrivals.Add(1), since: now}
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
	w := &Waiter{ready: g.ready, cost: n, since: g.since, order: g.order, grouped: true}
	q.insert(id, key, w)
	return Place{q, w}
}

// Ahead is the sum of the costs before the place, and what was reserved behind
// it, which it may use.
func (p Place) Ahead() (ahead, reserved int64) {
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	if p.w.queue == nil { // its cost exceeds the burst by now
		return 0, 0
	}
	for w := p.w.prev; w != nil; w = w.prev {
		ahead += w.cost
	}
	return ahead, p.w.queue.reserved - p.w.reserved
}

// Recall has the group called again when the place's turn has come: a try has
// found it short.
func (p Place) Recall() {
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	p.w.called = false
}

// Joined reports whether there is a place.
func (p Place) Joined() bool { return p.w != nil }

// Leave gives the place up, if there is one.
func (p Place) Leave() {
	if p.Joined() {
		p.q.Leave(p.w)
	}
}
