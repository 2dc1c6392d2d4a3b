package table

import (
	"math"

	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/topkeys"
)

// tickBits is the binary logarithm of a tick of the instants in array.since, in
// nanoseconds. A tick is a quarter of a second, and 32 bits of them are 36 years.
const tickBits = 28

// countTries is the largest number of times that Decisions adds up the counts of slots.
const countTries = 3

// Allow counts a decision that admitted, on a key whose slot is locked.
func (t *Table) Allow(s *Slot) {
	if s.Allowed++; s.Allowed == 0 {
		t.allowed.Add(1 << 8)
	}
}

// Deny counts a decision that denied, on a key whose slot is locked. The slot counts the
// denials of one window of [topkeys]. Those before it move to the table's counts.
func (t *Table) Deny(r Ref, now mono.Time) {
	if r.CountsDenials(now) {
		r.Denied++
		return
	}
	t.keepDenied(r)
	r.Denied = 1
	r.array.denials()[r.index] = uint32(now >> tickBits)
	r.array.header(r.index/group).countIn(r.index%group, now)
}

// CountsDenials reports whether Deny would only add 1 to Denied: the slot has denials of
// the present window, and room for one more. Decisions ask before they call Deny, which
// saves 2 ns. Numbers of windows repeat after 208 days: if a group had no denial for just
// as long, up to 255 denials of a key count as old.
func (r Ref) CountsDenials(now mono.Time) bool {
	slot := uint32(1) << (r.index % group)
	c := r.array.header(r.index / group).counting.Load()
	return r.Denied-1 < math.MaxUint8-1 && c&(math.MaxUint16<<group|slot) == uint32(now>>topkeys.WindowBits)<<group|slot
}

// countIn records that the denials in a slot are of the present window.
func (h *header) countIn(j uint32, now mono.Time) {
	window := uint32(now>>topkeys.WindowBits) << group
	for {
		old := h.counting.Load()
		c := old
		if c>>group<<group != window {
			c = window
		}
		if h.counting.CompareAndSwap(old, c|1<<j) {
			return
		}
	}
}

// keepDenied adds the slot's denials to the table's counts.
func (t *Table) keepDenied(r Ref) {
	if r.Denied == 0 {
		return
	}
	t.denied.Add(uint64(r.Denied))
	if t.Top != nil {
		var room [topkeys.MaxKey]byte
		t.Top.Add(t.Hash(r), t.AppendKey(room[:0], r), uint64(r.Denied), r.since())
	}
}

// denials returns the instants of the first denials in slots, in ticks. They take memory
// when the first key is denied. Each belongs to the holder of the slot's lock.
func (a *array) denials() []uint32 {
	if p := a.since.Load(); p != nil {
		return *p
	}
	fresh := make([]uint32, a.size())
	a.since.CompareAndSwap(nil, &fresh)
	return *a.since.Load()
}

// since returns the instant of the first denial in Slot.Denied, which is not 0.
func (r Ref) since() mono.Time { return mono.Time(r.array.denials()[r.index]) << tickBits }

// EachDenied calls f for every key with denials that are not in Top yet: with the hash,
// the key, which is valid until f returns, their number and the instant of the first one.
func (t *Table) EachDenied(f func(hash uint64, key []byte, n uint64, since mono.Time)) {
	var room [topkeys.MaxKey]byte
	t.Each(func(r Ref) {
		if r.Denied != 0 {
			f(t.Hash(r), t.AppendKey(room[:0], r), uint64(r.Denied), r.since())
		}
		r.Unlock()
	})
}

// CountOutside counts a decision on a key that has no slot.
func (t *Table) CountOutside(ok bool) {
	if ok {
		t.allowed.Add(1)
		return
	}
	t.denied.Add(1)
}

// keep adds the counts of a slot to the table's, before another key gets the slot.
func (t *Table) keep(r Ref) {
	t.allowed.Add(uint64(r.Allowed))
	t.keepDenied(r)
}

// Decisions returns the numbers of all decisions counted. Neither falls. Calls must not
// overlap. It may miss a slot whose counts move to the table meanwhile. Then it starts
// again, at most countTries times, and the next call has them.
func (t *Table) Decisions() (allowed, denied uint64) {
	for range countTries {
		before := [...]uint64{t.allowed.Load(), t.denied.Load()}
		allowed, denied = before[0], before[1]
		t.Each(func(r Ref) {
			allowed += uint64(r.Allowed)
			denied += uint64(r.Denied)
			r.Unlock()
		})
		if before == [...]uint64{t.allowed.Load(), t.denied.Load()} {
			break
		}
	}
	t.counted[0], t.counted[1] = max(t.counted[0], allowed), max(t.counted[1], denied)
	return t.counted[0], t.counted[1]
}
