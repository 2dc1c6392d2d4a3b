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
// goroutines may call Find; the others need a lock among themselves. A Find
// that runs beside a Remove may miss a node that is there, never return one
// that has another key: who must know asks again under the lock of the writers.
// The zero Table is empty.
type Table struct {
	slots atomic.Pointer[[]slot] // a power of two of them, never all taken
	used  int
}

type slot = atomic.Pointer[Node]

const least = 8 // slots

// Find returns the node of a key, or nil.
func (t *Table) Find(hash uint32, key string) *Node {
	p := t.slots.Load()
	if p == nil {
		return nil
	}
	slots := *p
	for i := hash; ; i++ {
		n := slots[int(i)&(len(slots)-1)].Load()
		if n == nil || n.Hash == hash && n.Key() == key {
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
	put(*p, n)
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
			if n := (*old)[i].Load(); n != nil {
				put(slots, n)
			}
		}
	}
	t.slots.Store(&slots)
	return &slots
}

func put(slots []slot, n *Node) {
	i := int(n.Hash)
	for slots[i&(len(slots)-1)].Load() != nil {
		i++
	}
	slots[i&(len(slots)-1)].Store(n)
}

// Remove takes a node out that is in the table, and closes the gap: what
// probing has put behind it moves up.
func (t *Table) Remove(n *Node) {
	slots := *t.slots.Load()
	mask := len(slots) - 1
	gap := int(n.Hash) & mask
	for slots[gap].Load() != n {
		gap = (gap + 1) & mask
	}
	for i := (gap + 1) & mask; ; i = (i + 1) & mask {
		next := slots[i].Load()
		if next == nil {
			break
		}
		if home := int(next.Hash) & mask; (i-home)&mask >= (i-gap)&mask {
			slots[gap].Store(next)
			gap = i
		}
	}
	slots[gap].Store(nil)
	t.used--
}
