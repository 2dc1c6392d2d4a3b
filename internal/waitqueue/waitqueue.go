// Package waitqueue keeps, for each key of a process, the queue of its waiters
// in order of arrival. A waiter holds a place, not tokens: the queue takes
// tokens from the key's bucket when the turn of the first waiter has come. The
// package knows nothing of buckets except [Bucket], and of time except the
// instants that it is given and one timer per queue. Instants are nanoseconds
// of a clock that never goes back.
package waitqueue

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// CatchUp is how far back a late call of [Queues.Serve] admits waiters as of
// the instant of their turn. A timer that is late by less loses nothing, and a
// pause of the process gives waiters a burst or the refill of this time.
const CatchUp = 250 * time.Millisecond

// Never is an instant that does not come.
const Never = int64(math.MaxInt64 / 2)

// Bucket is a locked token bucket, as a queue needs it.
type Bucket interface {
	// Exceeds reports whether a cost of n can never be admitted.
	Exceeds(n int64) bool
	// Turn is the first instant, at or after from, at which the bucket admits a
	// cost of n while extra more tokens are in it, or, where extra is negative,
	// fewer. Never, if its level does not get there.
	Turn(from, n, extra int64) int64
	// Take takes n tokens at an instant that Turn returned.
	Take(at, n int64)
	// Until is the instant from which Turn may return something else.
	Until() int64
}

// Queues are the queues of one process. The zero value can't be used: see New.
// A lock of the caller's that guards a Bucket is taken before the lock of
// Queues, which is held while methods of Bucket run.
type Queues struct {
	due     func(key string)
	waiting atomic.Int64

	mu    sync.Mutex
	byKey map[string]*queue
}

// New returns no queues yet. When the turn of a first waiter comes, due is
// called on a goroutine of its own with the key that the queue was opened
// with; it should call Serve.
func New(due func(key string)) *Queues {
	return &Queues{due: due, byKey: map[string]*queue{}}
}

// queue is the queue of one key.
type queue struct {
	key          string
	id           string // in byKey
	first, last  *Waiter
	tokens       int64   // sum of the waiters' costs
	lastCalled   *Waiter // the last of the called groups that the queue begins with; nil: it begins with none
	calledTokens int64   // sum of their costs
	reserved     int64   // sum of the reservations ever made behind waiters
	forgotten    int64   // reserved when the bucket forgot its debts
	timer        *time.Timer
	wake         int64 // when the timer fires
	calling      bool  // true while due runs
	again        bool  // true if the timer has fired meanwhile
}

// Waiter is one place in one queue.
type Waiter struct {
	queue      *queue // nil: in none
	prev, next *Waiter
	ready      chan struct{} // shared by the places of one Group
	cost       int64
	since      int64  // instant of arrival; not of a group's place
	order      uint64 // of arrival, among all queues
	reserved   int64  // queue.reserved at arrival, and since then of reservations cancelled
	ahead      int64  // sum of the costs before it when it was called
	grouped    bool   // true if Serve only calls the waiter, which then decides by itself
	called     bool   // true if Serve has done so
	refused    bool   // true if the cost exceeds the burst by now
}

// credit is the number of tokens that were reserved behind the waiter.
func (w *Waiter) credit() int64 {
	return max(0, w.queue.reserved-max(w.reserved, w.queue.forgotten))
}

// arrivals numbers waiters, so that those of several queues have one order.
var arrivals atomic.Uint64

// Join puts a cost of n tokens at the end of the queue of id, and returns its
// place. The key is that for due.
func (q *Queues) Join(id, key string, n, now int64) *Waiter {
	w := &Waiter{ready: make(chan struct{}, 1), cost: n, since: now, order: arrivals.Add(1)}
	q.insert(id, key, w)
	return w
}

// Ready receives once the waiter has left the queue through Serve.
func (w *Waiter) Ready() <-chan struct{} { return w.ready }

// Refused reports whether the waiter has left the queue without tokens,
// because the bucket can no longer hold so many. It may be called once Ready
// has received or Leave has returned false.
func (w *Waiter) Refused() bool { return w.refused }

// insert puts a waiter behind those that arrived before it.
func (q *Queues) insert(id, key string, w *Waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	line := q.byKey[id]
	if line == nil {
		line = &queue{key: key, id: id, wake: Never}
		q.byKey[id] = line
	}
	after := line.last
	for after != nil && after.order > w.order {
		after = after.prev
	}
	line.link(w, after)
	w.queue, w.reserved = line, line.reserved
	if line.lastCalled != nil && w.order < line.lastCalled.order {
		line.setLastCalled(w.prev)
	}
	line.tokens += w.cost
	q.waiting.Add(1)
}

// link puts w after another waiter; nil: first.
func (line *queue) link(w, after *Waiter) {
	w.prev = after
	if after == nil {
		w.next, line.first = line.first, w
	} else {
		w.next, after.next = after.next, w
	}
	if w.next == nil {
		line.last = w
	} else {
		w.next.prev = w
	}
}

// pass makes w, one of the called groups that the queue begins with, the last of
// them; nil: there are none.
func (line *queue) setLastCalled(w *Waiter) {
	line.lastCalled, line.calledTokens = w, 0
	for ; w != nil; w = w.prev {
		line.calledTokens += w.cost
	}
}

// unlink takes w out of its queue.
func (q *Queues) unlink(w *Waiter) {
	line := w.queue
	if line.lastCalled != nil && w.order <= line.lastCalled.order {
		line.calledTokens -= w.cost
		if line.lastCalled == w {
			line.lastCalled = w.prev
		}
	}
	if w.prev == nil {
		line.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		line.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	line.tokens -= w.cost
	w.queue, w.prev, w.next = nil, nil, nil
	q.waiting.Add(-1)
}

// Leave gives a place up. It returns false if Serve has ended the wait before.
func (q *Queues) Leave(w *Waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	line := w.queue
	if line == nil {
		return false
	}
	awaited := w.prev == line.lastCalled || w.called
	q.unlink(w)
	if awaited {
		q.wakeAt(line, 0, 0) // the next turn may have come, and an empty queue is to be closed
	}
	return true
}

// Wake has due called for id at once, if there is a queue: something that Serve
// goes by may have changed.
func (q *Queues) Wake(id string) {
	if q.Waiting() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if line := q.byKey[id]; line != nil {
		q.wakeAt(line, 0, 0)
	}
}

// WakeAll has due called for every queue.
func (q *Queues) WakeAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, line := range q.byKey {
		q.wakeAt(line, 0, 0)
	}
}

// Refuse ends the waits of id whose cost exceeds the burst by now. Serve sees
// only those whose turn would come.
func (q *Queues) Refuse(id string, b Bucket) {
	q.mu.Lock()
	defer q.mu.Unlock()
	line := q.byKey[id]
	if line == nil {
		return
	}
	for w := line.first; w != nil; {
		next := w.next
		if b.Exceeds(w.cost) {
			q.end(w, true)
		}
		w = next
	}
	q.wakeAt(line, 0, 0)
}

// Serve admits waiters of id in order, each as of the instant of its turn, as
// far as that has come by now, sets the timer for the next one, and reports
// whether waiters are left.
func (q *Queues) Serve(id string, b Bucket, now int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	line := q.byKey[id]
	if line == nil {
		return false
	}
	from := now - int64(CatchUp)
	for w := line.firstUncalled(); w != nil; w = line.firstUncalled() {
		if b.Exceeds(w.cost) {
			q.end(w, true)
			continue
		}
		begin := max(from, w.since)
		if w.grouped {
			begin = now // it tries by itself, from now on
		}
		switch at := b.Turn(begin, w.cost, w.credit()-line.calledTokens); {
		case at > now:
			q.wakeAt(line, max(now+1, min(at, b.Until())), now)
			return true
		case w.grouped:
			w.call(line.calledTokens)
			line.lastCalled, line.calledTokens = w, line.calledTokens+w.cost
		default:
			b.Take(at, w.cost)
			from = max(from, at)
			q.end(w, false)
		}
	}
	if line.first != nil { // groups, which have been called
		q.wakeAt(line, max(now+1, b.Until()), now)
		return true
	}
	if line.timer != nil {
		line.timer.Stop()
	}
	delete(q.byKey, id)
	return false
}

// unpassed is the first waiter after the called groups that the queue begins
// with.
func (line *queue) firstUncalled() *Waiter {
	if line.lastCalled == nil {
		return line.first
	}
	return line.lastCalled.next
}

// call tells a group to try.
func (w *Waiter) call(ahead int64) {
	w.ahead = ahead
	if !w.called {
		w.called = true
		w.signal()
	}
}

func (w *Waiter) signal() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// end ends a wait.
func (q *Queues) end(w *Waiter, refused bool) {
	q.unlink(w)
	w.refused = refused
	w.signal()
}

// wakeAt has the timer fire at an instant.
func (q *Queues) wakeAt(line *queue, at, now int64) {
	if line.wake == at {
		return
	}
	line.wake = at
	d := time.Duration(max(0, at-now))
	if line.timer == nil {
		line.timer = time.AfterFunc(d, func() { q.fire(line) })
	} else {
		line.timer.Reset(d)
	}
}

// fire calls due, on the timer's goroutine. Due may block, in a callback of
// the limiter's user: then the timer, whenever it fires again, adds no further
// goroutine that blocks.
func (q *Queues) fire(line *queue) {
	for q.begins(line) && q.call(line) {
		continue
	}
}

// begins reports whether due is to be called, and notes that it is.
func (q *Queues) begins(line *queue) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	line.wake = Never
	if line.calling {
		line.again = true
		return false
	}
	line.calling = q.byKey[line.id] == line
	return line.calling
}

// call calls due, and reports whether it is to be called again.
func (q *Queues) call(line *queue) (again bool) {
	defer func() { // due may end the goroutine
		q.mu.Lock()
		defer q.mu.Unlock()
		again = line.again
		line.calling, line.again = false, false
	}()
	q.due(line.key)
	return again
}

// Has reports whether there is a queue of id.
func (q *Queues) Has(id string) bool {
	if q.waiting.Load() == 0 {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.byKey[id] != nil
}

// Waiting is the number of waiters in all queues.
func (q *Queues) Waiting() int { return int(q.waiting.Load()) }

// Tokens is the sum of the costs that wait in the queue of id.
func (q *Queues) Tokens(id string) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if line := q.byKey[id]; line != nil {
		return line.tokens
	}
	return 0
}

// Reserve notes that n tokens were taken from the bucket for a reservation,
// which acts behind all present waiters: they may still use them. It returns the
// reservation's place in the order of arrival, and the tokens that wait before it.
func (q *Queues) Reserve(id string, n int64) (order uint64, ahead int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	line := q.byKey[id]
	if line == nil {
		return 0, 0
	}
	line.reserved += n
	return arrivals.Load(), line.tokens
}

// Unreserve takes n tokens of a reservation back, which are in the bucket again.
func (q *Queues) Unreserve(id string, order uint64, n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	line := q.byKey[id]
	if line == nil {
		return
	}
	for w := line.first; w != nil && w.order <= order; w = w.next {
		w.reserved += n
	}
}

// Forget notes that the bucket of id has forgotten its debts, those of
// reservations among them.
func (q *Queues) Forget(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if line := q.byKey[id]; line != nil {
		line.forgotten = line.reserved
	}
}
