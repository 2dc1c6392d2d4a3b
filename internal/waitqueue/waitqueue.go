// Package waitqueue keeps a queue of waiters for each key of a process, in order of
// arrival. A waiter has a place, not tokens: the queue takes tokens from the key's
// [Bucket] at the turn of its first waiter. Each queue has one timer.
package waitqueue

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-e56e777b/limiter/internal/mono"
)

// CatchUp is the longest delay of [Queues.Serve] after which waiters are still
// admitted as of the instant of their turn. A timer that is late by less loses
// nothing. After a pause of the process, waiters get a burst, or the refill of this
// time.
const CatchUp = 250 * time.Millisecond

// Bucket is the interface of a locked token bucket.
type Bucket interface {
	// Exceeds reports whether a cost of n can never be admitted.
	Exceeds(n int64) bool
	// Turn returns the first instant, not before from, at which the bucket admits a
	// cost of n with extra more tokens in it, or fewer if extra is negative. It
	// returns [mono.Never] if its level does not get there.
	Turn(from mono.Time, n, extra int64) mono.Time
	// Take takes n tokens at an instant that Turn returned.
	Take(at mono.Time, n int64)
	// Until returns the instant from which the results of Turn may change.
	Until() mono.Time
}

// Queues is the queues of one process. New makes it. The caller's lock of a Bucket is
// taken before the lock of Queues, which is locked while methods of Bucket run.
type Queues struct {
	due     func(key string)
	waiting atomic.Int64

	mu    sync.Mutex
	byKey map[string]*queue
}

// New returns an empty Queues. At the turn of a queue's first waiter, due is called
// on its own goroutine, with the key of the first Join. It should call Serve.
func New(due func(key string)) *Queues {
	return &Queues{due: due, byKey: map[string]*queue{}}
}

// queue is the queue of one key.
type queue struct {
	key          string
	id           string // in byKey
	first, last  *Waiter
	tokens       int64   // sum of the waiters' costs
	lastCalled   *Waiter // last of the called groups at the front of the queue; nil: there are none
	calledTokens int64   // sum of the costs of those groups
	reserved     int64   // sum of the reservations ever made behind waiters
	forgotten    int64   // value of reserved when the bucket dropped its debts
	timer        *time.Timer
	wake         mono.Time // instant at which the timer fires
	calling      bool      // true while due runs
	again        bool      // true if the timer has fired meanwhile
}

// Waiter is one place in one queue.
type Waiter struct {
	queue      *queue // nil: in none
	prev, next *Waiter
	ready      chan struct{} // shared by the places of one Group
	cost       int64
	since      mono.Time // instant of arrival; unused for a group's place
	order      uint64    // order of arrival, among all queues
	reserved   int64     // queue.reserved at arrival, plus reservations cancelled since then
	ahead      int64     // sum of the costs before it when it was called
	grouped    bool      // true for a group's place: Serve only calls the group, which then tries
	called     bool      // true if Serve has called the group
	refused    bool      // true if the wait ended because the cost exceeds the burst
}

// credit returns the number of tokens that were reserved behind the waiter.
func (w *Waiter) credit() int64 {
	return max(0, w.queue.reserved-max(w.reserved, w.queue.forgotten))
}

// arrivals is the number of waiters so far, which orders those of all queues.
var arrivals atomic.Uint64

// Join adds a waiter for n tokens to the end of the queue of id. A new queue keeps
// the key, for due.
func (q *Queues) Join(id, key string, n int64, now mono.Time) *Waiter {
	w := &Waiter{ready: make(chan struct{}, 1), cost: n, since: now, order: arrivals.Add(1)}
	q.insert(id, key, w)
	return w
}

// Ready returns the channel that receives when the wait has ended.
func (w *Waiter) Ready() <-chan struct{} { return w.ready }

// Refused reports whether the wait ended without tokens, because its cost exceeds
// the burst. It may be called after Ready has received, or Leave has returned false.
func (w *Waiter) Refused() bool { return w.refused }

// insert puts a waiter behind those that arrived earlier.
func (q *Queues) insert(id, key string, w *Waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	line := q.byKey[id]
	if line == nil {
		line = &queue{key: key, id: id, wake: mono.Never}
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

// link puts w behind after, or first if that is nil.
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

// setLastCalled makes w the last of the called groups at the front of the queue; nil:
// there are none.
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

// Leave removes a waiter from its queue. It returns false if the wait has ended
// before.
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

// Wake has due called for id at once, if there is a queue, because the bucket may have
// changed.
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

// Refuse ends the waits of id whose cost exceeds the burst. Serve ends only those at
// the front.
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

// Serve admits waiters of id in order, each as of the instant of its turn, up to now.
// It sets the timer for the next one, and reports whether waiters are left.
func (q *Queues) Serve(id string, b Bucket, now mono.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	line := q.byKey[id]
	if line == nil {
		return false
	}
	from := now.Add(-CatchUp)
	for w := line.firstUncalled(); w != nil; w = line.firstUncalled() {
		if b.Exceeds(w.cost) {
			q.end(w, true)
			continue
		}
		begin := max(from, w.since)
		if w.grouped {
			begin = now // the group takes its tokens itself, at now or later
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

// firstUncalled returns the first waiter behind the called groups at the front of the
// queue.
func (line *queue) firstUncalled() *Waiter {
	if line.lastCalled == nil {
		return line.first
	}
	return line.lastCalled.next
}

// call signals a group to try.
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

// wakeAt sets the timer to an instant.
func (q *Queues) wakeAt(line *queue, at, now mono.Time) {
	if line.wake == at {
		return
	}
	line.wake = at
	d := max(0, at.Sub(now))
	if line.timer == nil {
		line.timer = time.AfterFunc(d, func() { q.fire(line) })
	} else {
		line.timer.Reset(d)
	}
}

// fire calls due, on the timer's goroutine. Because due may block in a callback of the
// limiter's user, a queue has at most one goroutine in due.
func (q *Queues) fire(line *queue) {
	for q.begins(line) && q.call(line) {
		continue
	}
}

// begins reports whether due is to be called now. If due is running, it will be called
// again.
func (q *Queues) begins(line *queue) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	line.wake = mono.Never
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

// Waiting returns the number of waiters in all queues.
func (q *Queues) Waiting() int { return int(q.waiting.Load()) }

// Tokens returns the sum of the costs in the queue of id.
func (q *Queues) Tokens(id string) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if line := q.byKey[id]; line != nil {
		return line.tokens
	}
	return 0
}

// Reserve records that n tokens were taken from the bucket for a reservation. Because
// it acts behind all present waiters, these may still use the tokens. Reserve returns
// the reservation's order of arrival, and the sum of the costs before it.
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

// Unreserve records that n tokens of a reservation are in the bucket again.
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

// Forget records that the bucket of id has dropped its debts, with those of
// reservations.
func (q *Queues) Forget(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if line := q.byKey[id]; line != nil {
		line.forgotten = line.reserved
	}
}
