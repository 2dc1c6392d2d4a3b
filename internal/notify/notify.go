// Package notify passes values to functions that may block, such as a callback or a
// logger, on another goroutine. The caller never waits for them.
package notify

import (
	"sync"
	"time"
)

// most is the largest number of values that wait for a call. A state that changes as
// fast as Redis can come and go fills it in seconds, log lines in minutes.
const most = 64

// Queue calls Call with each value added, in order, on a goroutine that ends when
// none is left. If more than 64 wait, the oldest is dropped. So a Call that blocks
// costs bounded memory, and the newest value always arrives. Without Call, a Queue
// does nothing.
type Queue[T any] struct {
	// Call receives a value and the number of values dropped since the call
	// before.
	Call func(v T, dropped int)

	mu      sync.Mutex
	list    []T
	dropped int           // since the last call
	idle    chan struct{} // closed when the goroutine ends; nil: none runs
}

// Add queues a value. It does not block.
func (q *Queue[T]) Add(v T) {
	if q.Call == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) == most {
		q.list = q.list[1:]
		q.dropped++
	}
	q.list = append(q.list, v)
	if q.idle == nil {
		q.idle = make(chan struct{})
		go q.work()
	}
}

// Wait returns true when no value waits and no call is under way, or false after d.
func (q *Queue[T]) Wait(d time.Duration) bool {
	q.mu.Lock()
	idle := q.idle
	q.mu.Unlock()
	if idle == nil {
		return true
	}
	end := time.NewTimer(d)
	defer end.Stop()
	select {
	case <-idle:
		return true
	case <-end.C:
		return false
	}
}

func (q *Queue[T]) work() {
	for v, dropped, ok := q.next(); ok; v, dropped, ok = q.next() {
		q.Call(v, dropped)
	}
}

// next removes the oldest value. If there is none, ok is false and the goroutine ends.
func (q *Queue[T]) next() (v T, dropped int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) == 0 {
		close(q.idle)
		q.idle, q.list = nil, nil
		return v, 0, false
	}
	v, dropped = q.list[0], q.dropped
	q.list, q.dropped = q.list[1:], 0
	return v, dropped, true
}
