// Package index finds entries by key without a lock, so that those who read
// never wait for those who write (docs/design.md §9).
package index

import (
	"sync/atomic"
	"unsafe"
)

// Node is what the index knows of an entry that it is the first field of. It
// does not change while it is in a table. The key's text is a part of the entry
// too, so that there is no pointer to it for the garbage collector to follow.
type Node struct {
	Hash uint32 // of the key
	At   uint16 // where the key begins, in bytes from the node
	Len  uint8  // of the key, in bytes
}

// Key is the key, good for as long as it is not moved.
func (n *Node) Key() string {
	return unsafe.String((*byte)(unsafe.Add(unsafe.Pointer(n), n.At)), n.Len)
}

// Table holds nodes by open addressing with linear probing. Any number of
// goroutines may call Find; the others need a lock among themselves.
// The zero Table is empty.
type Table struct {
	slots atomic.Pointer[[]slot] // a power of two of them, never all taken
	used  int
}

// slot holds a node, and its hash again: nodes that a probe passes need not be
// looked at, which with many keys would be a cache miss each.
type slot struct {
	hash atomic.Uint32
	node atomic.Pointer[Node] // nil: empty
}

func (s *slot) set(hash uint32, n *Node) {
	s.hash.Store(hash)
	s.node.Store(n)
}

const least = 8 // slots

// Find returns a node of the given hash, or nil, and looks at no node to tell:
// its memory may be about to hold another. Two keys of one hash are so rare, and
// a node that is missed beside a Remove too, that whoever does not find what it
// looks for asks again by Lookup.
func (t *Table) Find(hash uint32) *Node {
	p := t.slots.Load()
	if p == nil {
		return nil
	}
	slots := *p
	for i := hash; ; i++ {
		s := &slots[int(i)&(len(slots)-1)]
		n := s.node.Load()
		if n == nil || s.hash.Load() == hash {
			return n
		}
	}
}

// Lookup returns the node of a key, or nil.
func (t *Table) Lookup(hash uint32, key string) *Node {
	p := t.slots.Load()
	if p == nil {
		return nil
	}
	slots := *p
	for i := hash; ; i++ {
		s := &slots[int(i)&(len(slots)-1)]
		n := s.node.Load()
		if n == nil || s.hash.Load() == hash && n.Key() == key {
			return n
		}
	}
}

// Insert adds a node whose key is not in the table.
func (t *Table) Insert(n *Node) {
	p := t.slots.Load()
	if p == nil || 4*(t.used+1) > 3*len(*p) {
		p = t.grow(p)
	}
	put(*p, n.Hash, n)
	t.used++
}

func (t *Table) grow(old *[]slot) *[]slot {
	size := least
	if old != nil {
		size = 2 * len(*old)
	}
	slots := make([]slot, size)
	if old != nil {
		for i := range *old {
			if s := &(*old)[i]; s.node.Load() != nil {
				put(slots, s.hash.Load(), s.node.Load())
			}
		}
	}
	t.slots.Store(&slots)
	return &slots
}

func put(slots []slot, hash uint32, n *Node) {
	i := int(hash)
	for slots[i&(len(slots)-1)].node.Load() != nil {
		i++
	}
	slots[i&(len(slots)-1)].set(hash, n)
}

// Remove takes a node out that is in the table, and closes the gap: what
// probing has put behind it moves up.
func (t *Table) Remove(n *Node) {
	slots := *t.slots.Load()
	mask := len(slots) - 1
	gap := int(n.Hash) & mask
	for slots[gap].node.Load() != n {
		gap = (gap + 1) & mask
	}
	for i := (gap + 1) & mask; ; i = (i + 1) & mask {
		next, hash := slots[i].node.Load(), slots[i].hash.Load()
		if next == nil {
			break
		}
		if home := int(hash) & mask; (i-home)&mask >= (i-gap)&mask {
			slots[gap].set(hash, next)
			gap = i
		}
	}
	slots[gap].node.Store(nil)
	t.used--
}
