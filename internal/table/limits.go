package table

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

// Limit is the limit of a token bucket: Rate tokens per second, Burst tokens.
type Limit struct{ Rate, Burst float64 }

// Limits gives limits handles that are small enough for a slot. It keeps a limit for
// as long as it is in use. The zero Limits is ready for use by any number of
// goroutines.
type Limits struct {
	first atomic.Pointer[Limit]      // the first of values
	uses  atomic.Pointer[[]*counted] // by handle
	last  atomic.Pointer[counted]    // the last result of Take

	mu      sync.Mutex
	values  []Limit // by handle
	handles map[Limit]uint32
	free    []uint32
}

// counted is a limit with the number of its uses.
type counted struct {
	Limit
	handle uint32
	uses   atomic.Int64
}

// At returns the limit of a handle in use.
func (l *Limits) At(handle uint32) *Limit {
	return (*Limit)(unsafe.Add(unsafe.Pointer(l.first.Load()), uintptr(handle)*unsafe.Sizeof(Limit{})))
}

// Take returns the handle of a limit, in use until Release.
func (l *Limits) Take(lim Limit) uint32 {
	if c := l.last.Load(); c != nil && c.Limit == lim && c.again() {
		return c.handle
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n, ok := l.handles[lim]
	if !ok {
		n = l.add(lim)
	}
	c := (*l.uses.Load())[n]
	c.uses.Add(1)
	l.last.Store(c)
	return n
}

// again counts another use if the limit is in use.
func (c *counted) again() bool {
	for {
		n := c.uses.Load()
		if n == 0 {
			return false
		}
		if c.uses.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// add gives a limit a handle.
func (l *Limits) add(lim Limit) uint32 {
	n, uses := uint32(len(l.values)), []*counted(nil)
	if p := l.uses.Load(); p != nil {
		uses = *p
	}
	if last := len(l.free) - 1; last >= 0 {
		n, l.free = l.free[last], l.free[:last]
	} else {
		l.values, uses = append(l.values, Limit{}), append(uses, nil)
	}
	l.values[n], uses[n] = lim, &counted{Limit: lim, handle: n} // no goroutine reads them yet
	l.first.Store(&l.values[0])
	l.uses.Store(&uses)
	if l.handles == nil {
		l.handles = map[Limit]uint32{}
	}
	l.handles[lim] = n
	return n
}

// Release ends a use of a handle.
func (l *Limits) Release(handle uint32) {
	c := (*l.uses.Load())[handle]
	if c.uses.Add(-1) != 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if uses := *l.uses.Load(); c.uses.Load() == 0 && uses[handle] == c {
		uses[handle] = nil
		delete(l.handles, c.Limit)
		l.free = append(l.free, handle)
	}
}

// Len returns the number of limits in use.
func (l *Limits) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.handles)
}
