// Package table keeps a bounded number of keys in memory, each in a slot of one cache
// line, in groups of sixteen. A search takes no lock except that of the key's slot
// (docs/design.md §9).
package table

import (
	"hash/maphash"
	"math/bits"
	"runtime"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/seed-e56e777b/limiter/internal/topkeys"
)

const (
	group     = 16 // slots
	fullGroup = 14 // mean number of keys in a group before the table grows; with more, many searches pass full groups
	growth    = 4  // the table grows by 1/growth of its groups
)

// Table holds at most a fixed number of keys. It is ready for use after Init. Any
// number of goroutines may call Find, At, Each and EachMarked; calls of the other
// methods need a lock of the caller's.
type Table struct {
	array atomic.Pointer[array]
	seeds *Seeds
	size  int // largest number of keys
	skip  int // length of the part before the key, in a text beside a slot
	shift uint32
	used  int           // keys in the table
	waits atomic.Uint64 // searches that waited for keys to be moved

	Top             *topkeys.Table // denials by key, except those that slots count; nil: not counted
	allowed, denied atomic.Uint64  // decisions of evicted keys, or beyond the room of a slot
	counted         [2]uint64      // result of the last Decisions
}

// array is the memory of a table until it grows.
type array struct {
	headers []header                 // of the groups
	slots   []Slot                   // one per key, or two: see Init
	shift   uint32                   // 1 if there are two
	texts   []string                 // beside the slots; nil: none yet
	since   atomic.Pointer[[]uint32] // see denials
}

// header is the part of a group that a search reads.
type header struct {
	tags   [2]atomic.Uint64 // of the slots, one byte each, of even ones and of odd ones; 0: empty
	marks  atomic.Uint64    // 16 bits of each mark, below the number of slots that searches for a victim passed
	passed atomic.Uint32    // keys that are in a later group, because this one was full

	// Above 16 bits: the window of the last denial that was the first of its window in
	// its slot. Below: the slots whose Denied is of that window.
	counting atomic.Uint32
}

// Mark is a flag of a key in the header of its group, to be read without its slot.
type Mark uint

// The marks of a key.
const (
	Used   Mark = iota // the key was looked up since it was inserted, or since a search for a victim passed it
	Due                // the key is to be visited, by EachMarked
	Pinned             // the key is evicted only if all keys of its group are pinned

	marks = iota
)

const eachMark = 1<<(Used*group) | 1<<(Due*group) | 1<<(Pinned*group) // of the first slot

// Ref is a reference to a key in the table. It is valid from Find, At or Insert until
// its slot is unlocked.
type Ref struct {
	*Slot
	array *array
	index uint32
}

// Init makes t an empty table for at most size keys; size is at least 1. A text beside
// a slot is skip bytes and the key. If beside is set, each slot has 64 more bytes: see
// [Beside].
func (t *Table) Init(size, skip int, beside bool, seeds *Seeds) {
	t.seeds, t.size, t.skip = seeds, size, skip
	if beside {
		t.shift = 1
	}
}

// Len returns the number of keys in the table.
func (t *Table) Len() int { return t.used }

// Size returns the largest number of keys.
func (t *Table) Size() int { return t.size }

// tag returns a byte of a hash, never 0.
func tag(hash uint64) uint64 { return hash>>24&0xff | 0x80 }

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// zeros returns a word with the highest bit of each zero byte of x set. Rarely, a bit
// of a byte above a zero byte is set too.
func zeros(x uint64) uint64 { return (x - lowBits) & ^x & highBits }

// home returns the group at which a search for a hash begins.
func (a *array) home(hash uint64) uint32 {
	return uint32(hash & 0xffffff * uint64(len(a.headers)) >> 24)
}

// size returns the number of slots for keys.
func (a *array) size() uint32 { return uint32(len(a.headers)) * group }

func (a *array) next(g uint32) uint32 {
	if g++; g == uint32(len(a.headers)) {
		return 0
	}
	return g
}

// Find returns a key, with its slot locked. It may miss a key that is inserted
// meanwhile, and no other. With use the key gets the mark Used.
func (t *Table) Find(hash uint64, key string, use bool) (Ref, bool) {
	a := t.array.Load()
	if a == nil {
		return Ref{}, false
	}
	if len(key) < fewest || len(key) > most {
		return t.search(a, hash, key, use)
	}
	g := a.home(hash)
	h, slots := a.header(g), a.slot(g*group)
	slots.plus(uint32(hash>>32)%group, a.shift).touch()
	m := h.match(tag(hash) * lowBits)
	if m == 0 && h.passed.Load() == 0 {
		return Ref{}, false
	}
	if m != 0 {
		j := first(m)
		s := slots.plus(j, a.shift)
		s.mu.Lock()
		if s.is(key) {
			if use {
				h.use(j)
			}
			return Ref{s, a, g*group + j}, true
		}
		s.mu.Unlock()
	}
	return t.search(a, hash, key, use)
}

// search is Find of a short or a long key, or where the first slot to look at is not the
// key's.
func (t *Table) search(a *array, hash uint64, key string, use bool) (Ref, bool) {
	g, moved := a.home(hash), false
	for {
		h, slots := a.header(g), a.slot(g*group)
		slots.plus(uint32(hash>>32)%group, a.shift).touch()
		for m := h.match(tag(hash) * lowBits); m != 0; m &= m - 1 {
			j := first(m)
			s := slots.plus(j, a.shift)
			s.mu.Lock()
			if s.holds(t.seeds, hash, key) {
				if use {
					h.use(j)
				}
				return Ref{s, a, g*group + j}, true
			}
			moved = moved || s.empty()
			s.mu.Unlock()
		}
		if h.passed.Load() != 0 {
			g = a.next(g)
		}
		if h.passed.Load() == 0 || g == a.home(hash) {
			break
		}
	}
	if moved {
		t.awaitGrowth(a)
		return t.Find(hash, key, use)
	}
	return Ref{}, false
}

// match marks the slots of a group with a tag, for [first], and, rarely, others. It has
// no branch for each half of the group, because chance decides which half has a key.
func (h *header) match(tags uint64) uint64 {
	return zeros(h.tags[0].Load()^tags)>>7 | zeros(h.tags[1].Load()^tags)>>3
}

// first returns the first slot that is marked.
func first(m uint64) uint32 { return uint32(bits.TrailingZeros64(m)) / 4 }

// use sets the mark Used of the key in a slot.
func (h *header) use(j uint32) {
	if h.marks.Load()>>j&1 == 0 {
		h.marks.Or(1 << j)
	}
}

// tag returns the tag of a slot; 0: it is empty.
func (h *header) tag(j uint32) uint64 { return h.tags[j%2].Load() >> (j / 2 * 8) & 0xff }

// setTag sets the tag of a slot. Calls must not overlap.
func (h *header) setTag(j uint32, tag uint64) {
	word, shift := &h.tags[j%2], j/2*8
	word.Store(word.Load()&^(0xff<<shift) | tag<<shift)
}

// empty marks the slots without a key, for [first].
func (h *header) empty() uint64 { return h.match(0) }

// awaitGrowth waits until an array whose keys have been moved is replaced.
func (t *Table) awaitGrowth(old *array) {
	for t.waits.Add(1); t.array.Load() == old; {
		runtime.Gosched()
	}
}

// header returns the header of a group, without a bounds check.
func (a *array) header(g uint32) *header {
	return (*header)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(a.headers)), uintptr(g)*unsafe.Sizeof(header{})))
}

// slot returns the slot of an index, without a bounds check.
func (a *array) slot(i uint32) *Slot { return unsafe.SliceData(a.slots).plus(i, a.shift) }

// plus returns the slot that is n after one.
func (s *Slot) plus(n, shift uint32) *Slot {
	return (*Slot)(unsafe.Add(unsafe.Pointer(s), uintptr(n)<<(shift&1)*unsafe.Sizeof(Slot{})))
}

// At is [Table.Find], with use, for a caller that knows the last index of the key. It
// misses a key that has moved.
func (t *Table) At(index uint32, hash uint64, key string) (Ref, bool) {
	a := t.array.Load()
	if a == nil || index >= a.size() {
		return Ref{}, false
	}
	s := a.slot(index)
	s.mu.Lock()
	if len(key) >= fewest && len(key) <= most && s.is(key) || s.holds(t.seeds, hash, key) {
		a.header(index / group).use(index % group)
		return Ref{s, a, index}, true
	}
	s.mu.Unlock()
	return Ref{}, false
}

// Insert adds a key that is not in the table, and returns its empty slot, locked. A
// text that is not empty is kept beside the slot. In a full table the key takes the
// slot of another one, for which evict is called before, with the slot locked.
func (t *Table) Insert(hash uint64, key, text string, evict func(Ref)) Ref {
	a := t.array.Load()
	var r Ref
	if t.used < t.size {
		if a == nil || t.used == a.room() && len(a.headers) < t.last() {
			a = t.grow(a)
		}
		i := a.take(hash)
		r = Ref{a.slot(i), a, i}
		r.mu.Lock() // a search for the slot's last key may still have it locked
		t.used++
	} else {
		r = a.victim(hash)
		t.keep(r)
		evict(r)
		a.leave(r.index, r.hash(t.seeds))
		a.pass(r.index, hash)
	}
	h, j := &a.headers[r.index/group], r.index%group
	h.marks.And(^(uint64(eachMark) << j))
	r.reset(t.seeds, hash, key)
	if a.shift != 0 {
		*Beside[[slotSize]byte](r) = [slotSize]byte{}
	}
	if text == "" && r.long() {
		text = strings.Clone(key)
	}
	if a.texts == nil && text != "" {
		a.texts = make([]string, a.size())
	}
	if a.texts != nil {
		a.texts[r.index] = text
	}
	h.setTag(j, tag(hash))
	return r
}

// last returns the number of groups at which the table stops growing.
func (t *Table) last() int { return (t.size + fullGroup - 1) / fullGroup }

// room returns the number of keys at which an array has to grow, if it can.
func (a *array) room() int { return fullGroup * len(a.headers) }

// grow moves all keys to a larger array, and returns that.
func (t *Table) grow(old *array) *array {
	groups := 1
	if old != nil {
		groups = min(t.last(), len(old.headers)+max(1, len(old.headers)/growth))
	}
	a := &array{headers: make([]header, groups), slots: make([]Slot, groups*group<<t.shift), shift: t.shift}
	if old != nil {
		if old.texts != nil {
			a.texts = make([]string, a.size())
		}
		for i := range old.size() {
			t.move(old, i, a)
		}
	}
	t.array.Store(a)
	return a
}

// move moves the key of a slot, if there is one, to another array.
func (t *Table) move(old *array, i uint32, a *array) {
	from := &old.headers[i/group]
	kept := from.tag(i % group)
	if kept == 0 {
		return
	}
	s := old.slot(i)
	s.mu.Lock()
	defer s.mu.Unlock()
	j := a.take(s.hash(t.seeds))
	if a.shift != 0 {
		*Beside[[slotSize]byte](Ref{a.slot(j), a, j}) = *Beside[[slotSize]byte](Ref{s, old, i})
	}
	if s.Denied != 0 {
		a.denials()[j] = old.denials()[i]
	}
	s.moveTo(a.slot(j))
	to := &a.headers[j/group]
	to.setTag(j%group, kept)
	to.marks.Or(from.marks.Load() >> (i % group) & eachMark << (j % group))
	if old.texts != nil {
		a.texts[j] = old.texts[i]
	}
}

// take returns the index of an empty slot for a hash: in the first group with one,
// from its home on.
func (a *array) take(hash uint64) uint32 {
	for g := a.home(hash); ; g = a.next(g) {
		h := &a.headers[g]
		if m := h.empty(); m != 0 {
			return g*group + first(m)
		}
		h.passed.Add(1)
	}
}

// pass counts a key at an index in the groups that a search for it passes.
func (a *array) pass(index uint32, hash uint64) {
	for g := a.home(hash); g != index/group; g = a.next(g) {
		a.headers[g].passed.Add(1)
	}
}

// leave undoes pass.
func (a *array) leave(index uint32, hash uint64) {
	for g := a.home(hash); g != index/group; g = a.next(g) {
		a.headers[g].passed.Add(^uint32(0))
	}
}

// victim returns the key to evict for one of a hash, with its slot locked. It is in the
// first group with keys, from the hash's home on: the first key from the hand on that
// is neither used nor pinned (the CLOCK algorithm).
func (a *array) victim(hash uint64) Ref {
	g := a.home(hash)
	for a.headers[g].occupied() == 0 {
		g = a.next(g)
	}
	i := g*group + a.headers[g].victim()
	s := a.slot(i)
	s.mu.Lock()
	return Ref{s, a, i}
}

func (h *header) victim() uint32 {
	occupied, marks := h.occupied(), h.marks.Load()
	free := occupied &^ uint32(marks>>(uint(Pinned)*group)) // keys that may be evicted
	if free == 0 {
		free = occupied
	}
	for range group {
		j := h.next()
		switch {
		case free>>j&1 == 0:
		case h.marks.Load()>>j&1 == 0:
			return j
		default:
			h.marks.And(^(uint64(1) << j))
		}
	}
	for {
		if j := h.next(); free>>j&1 != 0 {
			return j
		}
	}
}

// next moves the hand on, and returns its old position.
func (h *header) next() uint32 {
	const hand = 1 << (marks * group)
	return uint32((h.marks.Add(hand)-hand)/hand) % group
}

// occupied returns the slots of the group with a key, as bits.
func (h *header) occupied() uint32 {
	m := ^h.empty() & 0x1111111111111111 // a bit of four for each
	m = (m | m>>3) & 0x0303030303030303
	m = (m | m>>6) & 0x000f000f000f000f
	m = (m | m>>12) & 0x000000ff000000ff
	return uint32(m|m>>24) & (1<<group - 1)
}

// Each calls f with every key, its slot locked; f unlocks it. It may miss a key that is
// inserted or evicted meanwhile. If the table grows meanwhile, it visits keys twice.
func (t *Table) Each(f func(Ref)) {
	t.each(f, func(h *header) uint32 { return h.occupied() })
}

// EachMarked is [Table.Each] for keys with a mark.
func (t *Table) EachMarked(m Mark, f func(Ref)) {
	t.each(f, func(h *header) uint32 { return uint32(h.marks.Load()>>(uint(m)*group)) & (1<<group - 1) })
}

func (t *Table) each(f func(Ref), among func(*header) uint32) {
	for a, done := t.array.Load(), (*array)(nil); a != done; a = t.array.Load() {
		done = a
		moved := false
		for g := range a.headers {
			for m := among(&a.headers[g]); m != 0; m &= m - 1 {
				i := uint32(g*group + bits.TrailingZeros32(m))
				s := a.slot(i)
				s.mu.Lock()
				if s.empty() {
					s.mu.Unlock()
					moved = true
					continue
				}
				f(Ref{s, a, i})
			}
		}
		if moved {
			t.awaitGrowth(a)
		}
	}
}

// Count returns the number of keys with a mark.
func (t *Table) Count(m Mark) (n int) {
	if a := t.array.Load(); a != nil {
		for g := range a.headers {
			n += bits.OnesCount16(uint16(a.headers[g].marks.Load() >> (uint(m) * group)))
		}
	}
	return n
}

// Beside returns the memory beside the slot of a key, in a table with such memory. T
// has at most 64 bytes and no pointers. It is zero at first.
func Beside[T any](r Ref) *T {
	return (*T)(unsafe.Add(unsafe.Pointer(r.Slot), slotSize))
}

// Index returns the index of the key, for At.
func (r Ref) Index() uint32 { return r.index }

// SetMark sets a mark of the key if is is true, otherwise clears it. It writes only a
// change, because other goroutines read the same cache line.
func (r Ref) SetMark(m Mark, is bool) {
	marks, bit := &r.array.headers[r.index/group].marks, uint64(1)<<(uint(m)*group+uint(r.index%group))
	switch {
	case marks.Load()&bit != 0 == is:
	case is:
		marks.Or(bit)
	default:
		marks.And(^bit)
	}
}

// Marked reports whether the key has a mark.
func (r Ref) Marked(m Mark) bool {
	return r.array.headers[r.index/group].marks.Load()>>(uint(m)*group+uint(r.index%group))&1 != 0
}

// Text returns the text beside the slot, which must have one.
func (r Ref) Text() string { return r.array.texts[r.index] }

// Key returns the key of a reference.
func (t *Table) Key(r Ref) string {
	if r.long() {
		return r.Text()[t.skip:]
	}
	return string(r.text[:r.size-1])
}

// AppendKey appends the key of a reference to b.
func (t *Table) AppendKey(b []byte, r Ref) []byte {
	if r.long() {
		return append(b, r.Text()[t.skip:]...)
	}
	return append(b, r.text[:r.size-1]...)
}

// Hash returns the hash of the key of a reference.
func (t *Table) Hash(r Ref) uint64 { return r.hash(t.seeds) }

// Holds reports whether a slot that was unlocked and locked again still has the key.
func (t *Table) Holds(r Ref, hash uint64, key string) bool { return r.holds(t.seeds, hash, key) }

// Seeds is the random seeds of hashes that no other process can predict.
type Seeds struct{ first, second maphash.Seed }

// NewSeeds returns new seeds.
func NewSeeds() *Seeds { return &Seeds{maphash.MakeSeed(), maphash.MakeSeed()} }

// Hash returns the hash of a key.
func (s *Seeds) Hash(key string) uint64 { return maphash.String(s.first, key) }
