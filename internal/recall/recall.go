// Package recall remembers until when the buckets of evicted keys are not full:
// a key that comes back should not find a fresh burst. The room for it is fixed
// (docs/design.md §9). Instants are nanoseconds of its user's clock; nothing here reads one.
package recall

import (
	"sync"
	"sync/atomic"
)

const (
	setCells    = 8 // one cache line
	kept        = 4 // of them, for the latest
	cellsPerKey = 2 // of the keys that may be resident

	// A cell is an instant in ticks above a tag. 40 bits of ticks are 36 years.
	// With 24 bits of tag, one in two million of the keys that never were here is
	// taken for one that was.
	tagBits   = 24
	tagMask   = 1<<tagBits - 1
	tickBits  = 20 // of nanoseconds: about a millisecond
	mostTicks = 1<<(64-tagBits) - 1
)

// BytesPerKey is what a Table takes for each key that may be resident.
const BytesPerKey = 8 * cellsPerKey

// set is the cells in which a key may be.
type set [setCells]atomic.Uint64

// Table holds the TATs of keys that are not resident. It is safe for concurrent
// use, without a lock; where two meet in one cell, one of them may be forgotten.
// It takes no memory before the first Put.
type Table struct {
	size int // sets
	once sync.Once
	sets atomic.Pointer[[]set]
}

// New returns an empty table for an owner of so many resident keys.
func New(keys int) *Table {
	return &Table{size: keys/(setCells/cellsPerKey) + 1}
}

// Put remembers the TAT of a key in the place of an older one. Half of a set
// keeps the TATs that are the latest; what these displace, or is earlier itself, is
// written over what chance picks in the other half: however late others may be,
// nobody is locked out.
func (t *Table) Put(hash uint64, tat, now int64) {
	t.once.Do(t.allocate)
	s, mine := t.set(hash), cell(hash, tat)
	if c, old := s.find(hash); c != nil {
		c.CompareAndSwap(old, mine)
		return
	}
	if tat <= now {
		return
	}
	if c, old := s.earliest(); old < mine && c.CompareAndSwap(old, mine) {
		mine = old
	}
	if until(mine) > now {
		s[kept+mine&tagMask%(setCells-kept)].Store(mine)
	}
}

// Get returns the TAT of a key, at most a tick later than it was; 0: none is
// remembered.
func (t *Table) Get(hash uint64) int64 {
	if t.sets.Load() == nil {
		return 0
	}
	_, c := t.set(hash).find(hash)
	return until(c)
}

// Forget is what makes a key a fresh one.
func (t *Table) Forget(hash uint64) {
	if t.sets.Load() != nil {
		if c, old := t.set(hash).find(hash); c != nil {
			c.CompareAndSwap(old, 0)
		}
	}
}

// PutOff makes the TATs later for which later gives a later one.
func (t *Table) PutOff(later func(tat int64) int64, now int64) {
	if t.sets.Load() == nil {
		return
	}
	for i := range *t.sets.Load() {
		s := &(*t.sets.Load())[i]
		for j := range s {
			old := s[j].Load()
			if tat := until(old); tat > now {
				s[j].CompareAndSwap(old, cell(old, max(tat, later(tat)))) // else it is another's by now
			}
		}
	}
}

func (t *Table) allocate() {
	sets := make([]set, t.size)
	t.sets.Store(&sets)
}

// set is chosen by the upper half of the hash, the tag is of the lower.
func (t *Table) set(hash uint64) *set {
	sets := *t.sets.Load()
	return &sets[(hash>>32)*uint64(len(sets))>>32]
}

func cell(hash uint64, tat int64) uint64 {
	ticks := (uint64(max(0, tat)) + 1<<tickBits - 1) >> tickBits
	return min(ticks, mostTicks)<<tagBits | hash&tagMask
}

func until(cell uint64) int64 { return int64(cell>>tagBits) << tickBits }

// find returns the cell that a key has, and what is in it.
func (s *set) find(hash uint64) (*atomic.Uint64, uint64) {
	for i := range s {
		if c := s[i].Load(); c&tagMask == hash&tagMask && c != 0 {
			return &s[i], c
		}
	}
	return nil, 0
}

// earliest returns the cell of the kept ones that would be full first.
func (s *set) earliest() (*atomic.Uint64, uint64) {
	first, least := &s[0], s[0].Load()
	for i := 1; i < kept; i++ {
		if c := s[i].Load(); c < least {
			first, least = &s[i], c
		}
	}
	return first, least
}
