// Package news keeps what the processes of a fleet tell each other of keys that
// run low: what this one has to tell, and what it has heard of keys that it has
// not met. Instants are nanoseconds of its user's clock; nothing here reads one
// (docs/design.md §8).
package news

import (
	"slices"
	"sync"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

// Item is news of one key.
type Item struct {
	Field  string // of the key in Redis
	TAT    int64  // instant
	Demand int64  // thousandths of a token: the fleet's decayed count of attempts
	Reset  bool   // what was known of the key no longer holds
	Level  float64
}

// Outbox holds what there is to tell. Where more keys run low than fit into a
// call, the lowest matter most. One goroutine uses it.
type Outbox struct{ items []Item }

// Put adds an item, in the place of an older one of the same key.
func (o *Outbox) Put(it Item) {
	o.Drop(it.Field)
	i, _ := slices.BinarySearchFunc(o.items, it, func(a, b Item) int {
		switch {
		case a.Reset != b.Reset && a.Reset, a.Reset == b.Reset && a.Level < b.Level:
			return -1
		}
		return 1
	})
	o.items = slices.Insert(o.items, i, it)
	o.items = o.items[:min(len(o.items), exchange.MaxTold)]
}

// Drop removes the item of a key that is no longer true.
func (o *Outbox) Drop(field string) {
	o.items = slices.DeleteFunc(o.items, func(it Item) bool { return it.Field == field })
}

// Empty reports whether there is nothing to tell.
func (o *Outbox) Empty() bool { return len(o.items) == 0 }

// Take empties the outbox into the form in which news travels.
func (o *Outbox) Take(now int64) []exchange.News {
	var list []exchange.News
	for _, it := range o.items {
		list = append(list, exchange.News{
			Field: it.Field, Reset: it.Reset, Demand: it.Demand,
			ToGo: max(0, it.TAT-now) / int64(time.Microsecond),
		})
	}
	o.items = o.items[:0]
	return list
}

// tableSize is how many keys a Table remembers: 16 times what the fleet keeps.
const tableSize = 4096

// Table is what was heard of keys that are not resident. It is safe for
// concurrent use; only a first contact asks it.
type Table struct {
	mu    sync.Mutex
	items map[string]Item
	order [tableSize]string // fields, the oldest at next
	next  int
}

// NewTable returns an empty table.
func NewTable() *Table { return &Table{items: map[string]Item{}} }

// Put remembers an item, and forgets the oldest where there is no room.
func (t *Table) Put(it Item) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if it.Reset {
		delete(t.items, it.Field)
		return
	}
	if _, known := t.items[it.Field]; !known {
		delete(t.items, t.order[t.next])
		t.order[t.next] = it.Field
		t.next = (t.next + 1) % tableSize
	}
	t.items[it.Field] = it
}

// Get returns what was heard of a key, if it still holds.
func (t *Table) Get(field string, now int64) (Item, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	it, ok := t.items[field]
	return it, ok && it.TAT > now
}
