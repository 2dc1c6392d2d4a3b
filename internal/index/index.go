// Package index finds what has a number by the hash of a key, without a lock, so
// that those who read never wait for those who write (docs/design.md §9).
package index

import (
	"sync/atomic"
	"unsafe"
)

// Table holds numbers, each with a hash, by open addressing with linear probing.
// Any number of goroutines may call Find; the others need a lock among themselves.
// The zero Table is empty.
type Table struct {
	// Side by side, and not behind another pointer: a reader that reads the mask
	// first finds that many slots at least, since it is written last.
	mask  atomic.Uint32        // their number, a power of two, less 1
	slots atomic.Pointer[slot] // never all taken; nil: none yet
	used  int
}

// slot is a hash, and below it a number, so that nothing else need be looked at to
// pass it: with many keys that would be a cache miss each. 0: empty.
type slot struct{ atomic.Uint64 }

func (s *slot) set(hash, number uint32) { s.Store(uint64(hash)<<32 | uint64(number)) }

func (s *slot) get() (hash, number uint32) {
	x := s.Load()
	return uint32(x >> 32), uint32(x)
}

const (
	least    = 8 // slots
	slotSize = unsafe.Sizeof(slot{})
)

// Find returns the number of one that has the given hash, or 0. Two keys of one
// hash are so rare, and one that is missed beside a writer too, that whoever does
// not find what it looks for asks again by Lookup.
func (t *Table) Find(hash uint32) uint32 {
	mask := t.mask.Load()
	first := t.slots.Load()
	if first == nil {
		return 0
	}
	for i := range mask + 1 { // of a table that has grown meanwhile they may all be taken
		x := (*slot)(unsafe.Add(unsafe.Pointer(first), uintptr((hash+i)&mask)*slotSize)).Load()
		if x == 0 || x>>32 == uint64(hash) {
			return uint32(x)
		}
	}
	return 0
}

// all is the slots, for who has the lock.
func (t *Table) all() []slot {
	if first := t.slots.Load(); first != nil {
		return unsafe.Slice(first, int(t.mask.Load())+1)
	}
	return nil
}

// Lookup returns the number of the one of the given hash that is the right one, or 0.
func (t *Table) Lookup(hash uint32, right func(number uint32) bool) uint32 {
	slots := t.all()
	if slots == nil {
		return 0
	}
	for i := hash; ; i++ {
		h, n := slots[int(i)&(len(slots)-1)].get()
		if n == 0 || h == hash && right(n) {
			return n
		}
	}
}

// Insert adds a number, which is above 0 and not in the table.
func (t *Table) Insert(hash, number uint32) {
	slots := t.all()
	if 4*(t.used+1) > 3*len(slots) {
		slots = t.grow(slots)
	}
	put(slots, hash, number)
	t.used++
}

func (t *Table) grow(old []slot) []slot {
	slots := make([]slot, max(least, 2*len(old)))
	for i := range old {
		if hash, number := old[i].get(); number != 0 {
			put(slots, hash, number)
		}
	}
	t.slots.Store(&slots[0])
	t.mask.Store(uint32(len(slots) - 1))
	return slots
}

func put(slots []slot, hash, number uint32) {
	i := int(hash)
	for slots[i&(len(slots)-1)].Load() != 0 {
		i++
	}
	slots[i&(len(slots)-1)].set(hash, number)
}

// Remove takes a number out that is in the table, and closes the gap: what
// probing has put behind it moves up.
func (t *Table) Remove(hash, number uint32) {
	slots := t.all()
	mask := len(slots) - 1
	gap := int(hash) & mask
	for {
		if _, n := slots[gap].get(); n == number {
			break
		}
		gap = (gap + 1) & mask
	}
	for i := (gap + 1) & mask; ; i = (i + 1) & mask {
		h, next := slots[i].get()
		if next == 0 {
			break
		}
		if home := int(h) & mask; (i-home)&mask >= (i-gap)&mask {
			slots[gap].set(h, next)
			gap = i
		}
	}
	slots[gap].Store(0)
	t.used--
}
