// Package index finds entries by key without a lock, so that those who read
// never wait for those who write (docs/design.md §3).
package index

import "sync/atomic"

// Node is what the index knows of an entry, which holds it. It does not change
// while it is in a table.
type Node[E any] struct {
	Key   string
	Entry *E
	Hash  uint32 // of the key
}

// Table holds nodes by open addressing with linear probing. Any number of
// goroutines may call Find; the others need a lock among themselves. A Find
// that runs beside a Remove may miss a node that is there, never return one
// that has another key: who must know asks again under the lock of the writers.
// The zero Table is empty.
type Table[E any] struct {
	slots atomic.Pointer[[]atomic.Pointer[Node[E]]] // a power of two of them, never all taken
	used  int
}

const least = 8 // slots

// Find returns the entry of a key, or nil.
func (t *Table[E]) Find(hash uint32, key string) *E {
	p := t.slots.Load()
	if p == nil {
		return nil
	}
	slots := *p
	for i := hash; ; i++ {
		n := slots[int(i)&(len(slots)-1)].Load()
		switch {
		case n == nil:
			return nil
		case n.Hash == hash && n.Key == key:
			return n.Entry
		}
	}
}

// Insert adds a node whose key is not in the table.
func (t *Table[E]) Insert(n *Node[E]) {
	p := t.slots.Load()
	if p == nil || 4*(t.used+1) > 3*len(*p) {
		p = t.grow(p)
	}
	put(*p, n)
	t.used++
}

func (t *Table[E]) grow(old *[]atomic.Pointer[Node[E]]) *[]atomic.Pointer[Node[E]] {
	if old == nil {
		slots := make([]atomic.Pointer[Node[E]], least)
		t.slots.Store(&slots)
		return &slots
	}
	slots := make([]atomic.Pointer[Node[E]], 2*len(*old))
	for i := range *old {
		if n := (*old)[i].Load(); n != nil {
			put(slots, n)
		}
	}
	t.slots.Store(&slots)
	return &slots
}

func put[E any](slots []atomic.Pointer[Node[E]], n *Node[E]) {
	i := int(n.Hash)
	for slots[i&(len(slots)-1)].Load() != nil {
		i++
	}
	slots[i&(len(slots)-1)].Store(n)
}

// Remove takes a node out that is in the table, and closes the gap: what
// probing has put behind it moves up.
func (t *Table[E]) Remove(n *Node[E]) {
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
