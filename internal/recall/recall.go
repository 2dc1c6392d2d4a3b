// Package recall keeps the TATs of evicted keys, so that a key that comes back finds
// no fresh burst. Its memory is fixed (docs/design.md §9). It reads no clock.
package recall

import (
	"sync"
	"sync/atomic"

	"github.com/seed-e56e777b/limiter/internal/mono"
)

const (
	setCells    = 8 // one cache line
	kept        = 4 // cells of a set for the latest TATs
	cellsPerKey = 2 // cells per key in memory

	// A cell is an instant in ticks above a tag. 40 bits of ticks are 36 years.
	// Because a tag has 24 bits, one in two million fresh keys is mistaken for an
	// evicted one.
	tagBits   = 24
	tagMask   = 1<<tagBits - 1
	tickBits  = 20 // a tick is 2^20 ns, about a millisecond
	mostTicks = 1<<(64-tagBits) - 1
)

// BytesPerKey is the memory of a Table for each key that its owner has room for.
const BytesPerKey = 8 * cellsPerKey

// set is the cells in which a key may be.
type set [setCells]atomic.Uint64

// Table holds the TATs of evicted keys. It is safe for concurrent use, without a
// lock: of two writes to one cell, one may be lost. It takes no memory before the
// first Put.
type Table struct {
	size int // sets
	once sync.Once
	sets atomic.Pointer[[]set]
}

// New returns an empty table for an owner with room for so many keys.
func New(keys int) *Table {
	return &Table{size: keys/(setCells/cellsPerKey) + 1}
}

// Put stores the TAT of a key in place of an older one. Half of a set holds its latest
// TATs. A TAT that they displace, or that is earlier itself, overwrites a cell of the
// other half, by its tag. So late TATs never lock others out.
func (t *Table) Put(hash uint64, tat, now mono.Time) {
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

// Get returns the TAT of a key, rounded up to a tick; 0: none is stored.
func (t *Table) Get(hash uint64) mono.Time {
	if t.sets.Load() == nil {
		return 0
	}
	_, c := t.set(hash).find(hash)
	return until(c)
}

// Forget removes a key.
func (t *Table) Forget(hash uint64) {
	if t.sets.Load() != nil {
		if c, old := t.set(hash).find(hash); c != nil {
			c.CompareAndSwap(old, 0)
		}
	}
}

// PutOff replaces each TAT by that which later returns for it, if it is later.
func (t *Table) PutOff(later func(tat mono.Time) mono.Time, now mono.Time) {
	if t.sets.Load() == nil {
		return
	}
	for i := range *t.sets.Load() {
		s := &(*t.sets.Load())[i]
		for j := range s {
			old := s[j].Load()
			if tat := until(old); tat > now {
				s[j].CompareAndSwap(old, cell(old, max(tat, later(tat)))) // unless the cell has changed meanwhile
			}
		}
	}
}

func (t *Table) allocate() {
	sets := make([]set, t.size)
	t.sets.Store(&sets)
}

// set returns the set of a hash, by its upper half; the tag is in the lower half.
func (t *Table) set(hash uint64) *set {
	sets := *t.sets.Load()
	return &sets[(hash>>32)*uint64(len(sets))>>32]
}

func cell(hash uint64, tat mono.Time) uint64 {
	ticks := (uint64(max(0, tat)) + 1<<tickBits - 1) >> tickBits
	return min(ticks, mostTicks)<<tagBits | hash&tagMask
}

func until(cell uint64) mono.Time { return mono.Time(cell>>tagBits) << tickBits }

// find returns the cell of a key, and its content; nil: there is none.
func (s *set) find(hash uint64) (*atomic.Uint64, uint64) {
	for i := range s {
		if c := s[i].Load(); c&tagMask == hash&tagMask && c != 0 {
			return &s[i], c
		}
	}
	return nil, 0
}

// earliest returns the kept cell with the earliest TAT, and its content.
func (s *set) earliest() (*atomic.Uint64, uint64) {
	first, least := &s[0], s[0].Load()
	for i := 1; i < kept; i++ {
		if c := s[i].Load(); c < least {
			first, least = &s[i], c
		}
	}
	return first, least
}
