package table

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

// Limit is a token bucket's: Rate tokens per second, Burst tokens.
type Limit struct{ Rate, Burst float64 }

// Limits numbers limits, so that a slot has room for its own. A limit is kept for as
// long as it is in use. The zero Limits is ready for use, by any goroutines.
type Limits struct {
	first atomic.Pointer[Limit]      // by number
	uses  atomic.Pointer[[]*counted] // by number
	last  atomic.Pointer[counted]    // the one that was taken last

	mu      sync.Mutex
	values  []Limit // at first
	numbers map[Limit]uint32
	free    []uint32
}

// counted is a limit with the number of its uses.
type counted struct {
	Limit
	number uint32
	uses   atomic.Int64
}

// At is the limit of a number in use.
func (l *Limits) At(number uint32) *Limit {
	return (*Limit)(unsafe.Add(unsafe.Pointer(l.first.Load()), uintptr(number)*unsafe.Sizeof(Limit{})))
}

// Take returns the number of a limit, in use until Release.
func (l *Limits) Take(lim Limit) uint32 {
	if c := l.last.Load(); c != nil && c.Limit == lim && c.again() {
		return c.number
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n, ok := l.numbers[lim]
	if !ok {
		n = l.add(lim)
	}
	c := (*l.uses.Load())[n]
	c.uses.Add(1)
	l.last.Store(c)
	return n
}

// again counts another use, if there is one.
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

// add gives a limit a number.
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
	l.values[n], uses[n] = lim, &counted{Limit: lim, number: n} // nobody reads them yet
	l.first.Store(&l.values[0])
	l.uses.Store(&uses)
	if l.numbers == nil {
		l.numbers = map[Limit]uint32{}
	}
	l.numbers[lim] = n
	return n
}

// Release ends a use of a number.
func (l *Limits) Release(number uint32) {
	c := (*l.uses.Load())[number]
	if c.uses.Add(-1) != 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if uses := *l.uses.Load(); c.uses.Load() == 0 && uses[number] == c {
		uses[number] = nil
		delete(l.numbers, c.Limit)
		l.free = append(l.free, number)
	}
}

// Len is the number of limits in use.
func (l *Limits) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.numbers)
}
