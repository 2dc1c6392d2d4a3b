// Package news keeps the news of a fleet: announcements of keys whose buckets run
// low. An [Outbox] has those that this process has to announce, a [Table] those that
// it has received of keys not in memory. Instants are nanoseconds of its user's
// clock; the package reads no clock (docs/design.md §8).
package news

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

// Item is news of one key.
type Item struct {
	Field  string         // of the key in Redis
	Limit  exchange.Limit // limit by which TAT was computed
	TAT    int64          // instant
	Demand int64          // the fleet's decayed count of attempts, thousandths of a token
	Reset  bool           // true if earlier news of the key no longer holds
	Own    bool           // true for a debt of a key that this process has evicted, which was not received
	Level  float64        // level of the fleet's bucket, in parts of the burst
	// HeldUntil is the instant before which nothing of the key is admitted; 0: it is not
	// held.
	HeldUntil int64
}

const (
	// outboxSize is the largest number of items in an Outbox. A full one drops an
	// eighth at once, so that an item costs O(log n) on the mean.
	outboxSize = exchange.NewsKept
	outboxKeep = outboxSize / 8 * 7
)

// Outbox is a bounded queue of the news that this process has to announce, the lowest
// buckets first. One goroutine uses it.
type Outbox struct {
	waiting map[string]*Item // by field
	order   []*Item          // the items of waiting, and dropped ones; the lowest first unless untidy
	untidy  bool
	full    bool     // true if items were cut, and the queue has not been shorter since
	inCall  []Item   // items in a call that has not ended
	cut     []string // fields of the items that were cut
}

// Put adds an item, in place of an older one of the same key. It returns false if the
// queue is full of lower ones.
func (o *Outbox) Put(it Item) bool {
	if o.waiting == nil {
		o.waiting = map[string]*Item{}
	}
	if old := o.waiting[it.Field]; old != nil {
		it.keepHold(old)
		*old, o.untidy = it, true
		return true
	}
	o.full = o.full && len(o.order) >= outboxKeep
	if o.full && compare(o.order[outboxKeep-1], &it) < 0 {
		return false
	}
	o.waiting[it.Field] = &it
	o.order, o.untidy = append(o.order, &it), true
	if len(o.order) > outboxSize {
		o.trim()
	}
	return o.waiting[it.Field] != nil
}

// keepHold takes over the hold of an older item of the key, unless a longer one or a
// reset came since.
func (it *Item) keepHold(older *Item) {
	if !it.Reset {
		it.HeldUntil = max(it.HeldUntil, older.HeldUntil)
	}
}

// compare returns a number below 0 if a is announced before b. Resets come first, then
// holds.
func compare(a, b *Item) int {
	switch {
	case a.Reset && !b.Reset:
		return -1
	case b.Reset && !a.Reset:
		return 1
	}
	return cmp.Or(-cmp.Compare(a.HeldUntil, b.HeldUntil), cmp.Compare(a.Level, b.Level), cmp.Compare(a.Field, b.Field))
}

// tidy removes the dropped items, and sorts the others.
func (o *Outbox) tidy() {
	if o.untidy {
		o.order = slices.DeleteFunc(o.order, func(it *Item) bool { return o.waiting[it.Field] != it })
		slices.SortFunc(o.order, compare)
		o.untidy = false
	}
}

// trim cuts the highest items of a full queue.
func (o *Outbox) trim() {
	o.tidy()
	for _, it := range o.order[min(outboxKeep, len(o.order)):] {
		delete(o.waiting, it.Field)
		o.cut = append(o.cut, it.Field)
		o.full = true
	}
	o.order = slices.Delete(o.order, len(o.waiting), len(o.order))
}

// Cut returns the fields of the items that were cut since the last Cut.
func (o *Outbox) Cut() []string {
	cut := o.cut
	o.cut = nil
	return cut
}

// Drop removes the item of a key, which no longer holds.
func (o *Outbox) Drop(field string) {
	delete(o.waiting, field)
	o.untidy = true
	o.inCall = slices.DeleteFunc(o.inCall, func(it Item) bool { return it.Field == field })
}

// Empty reports whether there is nothing to announce.
func (o *Outbox) Empty() bool { return len(o.waiting) == 0 }

// Take removes the lowest items, at most most of them, and returns them as they
// travel. The call that carries them ends with Announced or PutBack.
func (o *Outbox) Take(most int, now int64) []exchange.News {
	var list []exchange.News
	if o.Empty() {
		return nil
	}
	o.tidy()
	n := 0
	for ; n < len(o.order) && len(list) < min(most, exchange.MaxAnnounced); n++ {
		it := o.order[n]
		delete(o.waiting, it.Field)
		until, held := it.TAT, it.HeldUntil > now
		if held {
			until = it.HeldUntil
		} else if it.TAT <= now && !it.Reset {
			continue // the bucket is full again
		}
		o.inCall = append(o.inCall, *it)
		list = append(list, exchange.News{
			Field: it.Field, Reset: it.Reset, Held: held, Demand: it.Demand, Limit: it.Limit,
			ToGo: max(0, until-now) / int64(time.Microsecond),
		})
	}
	o.order = slices.Delete(o.order, 0, n)
	return list
}

// Announced ends a call that has succeeded: it forgets the items that were taken.
func (o *Outbox) Announced() {
	clear(o.inCall)
	o.inCall = o.inCall[:0]
}

// PutBack ends a call that has failed: it puts back the items that were taken, except
// those of keys with a newer one.
func (o *Outbox) PutBack() {
	for _, it := range o.inCall {
		if o.waiting[it.Field] == nil && !o.Put(it) {
			o.cut = append(o.cut, it.Field)
		}
	}
	o.Announced()
}

// holds reports whether the item says something of the key at an instant.
func (it *Item) holds(now int64) bool { return max(it.TAT, it.HeldUntil) > now }

// Queue passes news from any goroutine to that of the outbox: at most as much as an
// Outbox has room for, the latest of each key. The zero Queue is ready for use.
type Queue struct {
	used  atomic.Bool
	mu    sync.Mutex
	items map[string]Item // by field
}

// Put adds an item. A full queue drops it.
func (q *Queue) Put(it Item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.items == nil {
		q.items = map[string]Item{}
	}
	if older, ok := q.items[it.Field]; ok {
		it.keepHold(&older)
	} else if len(q.items) >= outboxSize {
		return
	}
	q.items[it.Field] = it
	q.used.Store(true)
}

// MoveTo moves all items to an outbox.
func (q *Queue) MoveTo(o *Outbox) {
	if !q.used.Load() {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used.Store(false)
	for _, it := range q.items {
		if !o.Put(it) {
			o.cut = append(o.cut, it.Field)
		}
	}
	clear(q.items)
}

const (
	receivedPerSecond = 300_000 // pieces of news that all processes receive together: at 0.3 µs of Redis each, a tenth of a core
	paceDebt          = 10      // longest pause after too much news, in seconds
)

// Pace bounds the news of a whole fleet to heardPerSecond/N pieces a second, because each
// is read by all N processes. Every process counts all pieces, by the running number of
// the latest. The zero Pace is ready for use.
type Pace struct {
	room   float64 // pieces that may be announced now; negative after too many
	at     int64   // instant of room
	latest int64   // number of the latest news
}

// Room returns the number of pieces that a process may announce now.
func (p *Pace) Room(members float64, now int64) int {
	perSecond := receivedPerSecond / members
	p.room += perSecond * time.Duration(now-p.at).Seconds()
	p.room, p.at = min(max(p.room, -paceDebt*perSecond), perSecond), now
	return int(max(0, p.room))
}

// Latest counts all pieces up to the number of the latest.
func (p *Pace) Latest(number int64) {
	if p.latest != 0 {
		p.room -= float64(max(0, number-p.latest))
	}
	p.latest = number
}

// tableSize is the number of keys in a Table: that of the news that the fleet keeps.
const tableSize = exchange.NewsKept

// Table is an LRU of received news: the latest tableSize keys. It is safe for
// concurrent use.
type Table struct {
	used  atomic.Bool
	mu    sync.Mutex
	items *simplelru.LRU[string, Item] // by field
}

// NewTable returns an empty table.
func NewTable() *Table {
	items, _ := simplelru.NewLRU[string, Item](tableSize, nil) // its one error is a size below 1
	return &Table{items: items}
}

// Put stores an item in place of an older one of its key. A Reset removes the key.
func (t *Table) Put(it Item) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if it.Reset {
		t.items.Remove(it.Field)
		return
	}
	if older, ok := t.items.Peek(it.Field); ok {
		it.keepHold(&older)
	}
	t.items.Add(it.Field, it)
	t.used.Store(true)
}

// Empty reports whether no news was ever stored.
func (t *Table) Empty() bool { return !t.used.Load() }

// All returns the news that still holds, by field.
func (t *Table) All(now int64) (list []Item) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, it := range t.items.Values() {
		if it.holds(now) {
			list = append(list, it)
		}
	}
	slices.SortFunc(list, func(a, b Item) int { return cmp.Compare(a.Field, b.Field) })
	return list
}

// Get returns the news of a key, if it still holds.
func (t *Table) Get(field string, now int64) (Item, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	it, ok := t.items.Get(field)
	return it, ok && it.holds(now)
}
