// Package news keeps the news of a fleet: announcements of keys whose buckets run
// low. An [Outbox] has those that this process has to announce, a [Table] those that
// it has received of keys not in memory. It reads no clock (docs/design.md §8).
package news

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

// Item is news of one key.
type Item struct {
	Field  string         // of the key in Redis
	Limit  exchange.Limit // limit by which TAT was computed
	TAT    mono.Time      // instant
	Demand int64          // the fleet's decayed count of attempts, thousandths of a token
	Reset  bool           // true if earlier news of the key no longer holds
	Own    bool           // true for a debt of a key that this process has evicted, which was not received
	Level  float64        // level of the fleet's bucket, in parts of the burst
	// HeldUntil is the instant before which nothing of the key is admitted; 0: it is not
	// held.
	HeldUntil mono.Time
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
// reset came since. It takes over a reset, too, which is announced before the rest.
func (it *Item) keepHold(older *Item) {
	if !it.Reset {
		it.HeldUntil = max(it.HeldUntil, older.HeldUntil)
	}
	it.Reset = it.Reset || older.Reset && it.HeldUntil != 0
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

// HeldUntil returns the end of a hold that waits to be announced; 0: none does.
func (o *Outbox) HeldUntil(field string) mono.Time {
	if it := o.waiting[field]; it != nil {
		return it.HeldUntil
	}
	return 0
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
func (o *Outbox) Take(most int, now mono.Time) []exchange.News {
	var list []exchange.News
	if o.Empty() {
		return nil
	}
	o.tidy()
	n := 0
	for ; n < len(o.order) && len(list) < min(most, exchange.MaxAnnounced); n++ {
		it := o.order[n]
		until, held := it.TAT, it.HeldUntil > now
		if held && it.Reset && len(list)+1 == exchange.MaxAnnounced {
			break // there is no room for both
		}
		delete(o.waiting, it.Field)
		if held {
			until = it.HeldUntil
		} else if it.TAT <= now && !it.Reset {
			continue // the bucket is full again
		}
		o.inCall = append(o.inCall, *it)
		if held && it.Reset {
			list = append(list, exchange.News{Field: it.Field, Reset: true})
		}
		list = append(list, exchange.News{
			Field: it.Field, Reset: it.Reset && !held, Held: held, Demand: it.Demand, Limit: it.Limit,
			ToGo: max(0, until.Sub(now)).Microseconds(),
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
		if newer := o.waiting[it.Field]; newer != nil {
			newer.keepHold(&it)
			o.untidy = true
		} else if !o.Put(it) {
			o.cut = append(o.cut, it.Field)
		}
	}
	o.Announced()
}

// holdsKept is the number of holds in Holds: the latest.
const holdsKept = 1 << 16

// holdsKeptFor is the time for which a hold that has ended is kept: a key that was not
// in memory begins with an empty bucket at its end.
const holdsKeptFor = 10 * time.Minute

// HoldsEvery is the time after which a process announces its holds again: for processes
// that have started since, if the fleet no longer keeps that news, and in case that it
// was lost.
const HoldsEvery = 10 * time.Second

// Holds are the holds that a process knows of, its own and received ones, by field. The
// zero Holds is ready for use, by any number of goroutines.
type Holds struct {
	used        atomic.Bool
	mu          sync.Mutex
	items       *simplelru.LRU[string, hold]
	pending     map[string]struct{} // fields of items to announce
	announcedAt mono.Time           // instant of the last search for own holds
}

type hold struct {
	until mono.Time // instant before which nothing is admitted
	own   bool      // true if this process made it, and so announces it
}

// Put adds a hold, unless a longer one of its key is there.
func (h *Holds) Put(field string, until mono.Time, own bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.items == nil {
		h.pending = map[string]struct{}{}
		h.items, _ = simplelru.NewLRU(holdsKept, func(field string, _ hold) { delete(h.pending, field) })
	}
	old, _ := h.items.Get(field)
	if old.until >= until {
		return
	}
	h.items.Add(field, hold{until, own || old.own})
	if own {
		h.pending[field] = struct{}{}
	}
	h.used.Store(true)
}

// Drop removes the hold of a key.
func (h *Holds) Drop(field string) {
	if !h.Empty() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.items.Remove(field)
	}
}

// Empty reports whether there is no hold.
func (h *Holds) Empty() bool { return !h.used.Load() }

// Until returns the instant before which nothing of a key is admitted, which may have
// passed; 0: there is none.
func (h *Holds) Until(field string) mono.Time {
	if h.Empty() {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	it, _ := h.items.Get(field)
	return it.until
}

// Pending returns the end of a hold that the next Announce puts; 0: none.
func (h *Holds) Pending(field string) mono.Time {
	if h.Empty() {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.pending[field]; !ok {
		return 0
	}
	it, _ := h.items.Peek(field)
	return it.until
}

// Announce puts holds into an outbox, as far as that has room: new ones of this process,
// and every [HoldsEvery] all of them.
func (h *Holds) Announce(o *Outbox, now mono.Time) {
	if h.Empty() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.announcedAt) >= HoldsEvery {
		h.announcedAt = now
		for _, field := range h.items.Keys() {
			switch it, _ := h.items.Peek(field); {
			case now.Sub(it.until) >= holdsKeptFor:
				h.items.Remove(field)
			case it.own:
				h.pending[field] = struct{}{}
			}
		}
		h.used.Store(h.items.Len() > 0)
	}
	for field := range h.pending {
		if len(o.waiting) >= outboxKeep {
			return
		}
		delete(h.pending, field)
		if it, _ := h.items.Peek(field); it.until > now {
			o.Put(Item{Field: field, HeldUntil: it.until})
		}
	}
}

// AnnounceAll has the next Announce put all holds, also received ones, because the fleet
// has lost its news.
func (h *Holds) AnnounceAll() {
	if !h.Empty() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, field := range h.items.Keys() {
			h.pending[field] = struct{}{}
		}
	}
}

const (
	receivedPerSecond = 300_000 // pieces of news that all processes receive together: at 0.3 µs of Redis each, a tenth of a core
	paceDebt          = 10      // longest pause after too much news, in seconds
)

// Pace bounds the news of a whole fleet to heardPerSecond/N pieces a second, because each
// is read by all N processes. Every process counts all pieces, by the running number of
// the latest. The zero Pace is ready for use.
type Pace struct {
	room   float64   // pieces that may be announced now; negative after too many
	at     mono.Time // instant of room
	latest int64     // number of the latest news
}

// Room returns the number of pieces that a process may announce now.
func (p *Pace) Room(members float64, now mono.Time) int {
	perSecond := receivedPerSecond / members
	p.room += perSecond * now.Sub(p.at).Seconds()
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
	t.items.Add(it.Field, it)
	t.used.Store(true)
}

// Empty reports whether no news was ever stored.
func (t *Table) Empty() bool { return !t.used.Load() }

// All returns the news that still holds, by field.
func (t *Table) All(now mono.Time) (list []Item) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, it := range t.items.Values() {
		if it.TAT > now {
			list = append(list, it)
		}
	}
	slices.SortFunc(list, func(a, b Item) int { return cmp.Compare(a.Field, b.Field) })
	return list
}

// Get returns the news of a key, if it still holds.
func (t *Table) Get(field string, now mono.Time) (Item, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	it, ok := t.items.Get(field)
	return it, ok && it.TAT > now
}
