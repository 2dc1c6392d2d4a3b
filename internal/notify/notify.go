// Package notify calls a function with one value after another, so that who
// has news never waits for who hears them.
package notify

import "sync"

// Queue calls Call with each value added, in order, on a goroutine that lives
// while there are any. Its zero value, without Call, does nothing.
type Queue[T any] struct {
	Call func(T)

	mu   sync.Mutex
	list []T
	busy bool
}

// Add queues a value, and returns at once.
func (q *Queue[T]) Add(v T) {
	if q.Call == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list = append(q.list, v)
	if !q.busy {
		q.busy = true
		go q.work()
	}
}

func (q *Queue[T]) work() {
	for {
		q.mu.Lock()
		if len(q.list) == 0 {
			q.busy = false
			q.mu.Unlock()
			return
		}
		v := q.list[0]
		q.list = q.list[1:]
		q.mu.Unlock()
		q.Call(v)
	}
}
