// Package topkeys counts denials by key, of recent time and in bounded memory, and lists
// the keys with most of them. It reads no clock.
//
// Denials are counted by window. A window has counters in sets, and the hash of a key
// gives its set. A key without a counter takes a free one of its set, or replaces the
// key with the lowest count, whose count it inherits as its error (the space-saving
// algorithm of Metwally, Agrawal and El Abbadi, in each set). So:
//
//   - the count of a key less its error is at most the true number of its denials,
//     and exact if the key was not replaced in the window;
//   - a key without a counter has at most as many denials as the lowest count of its set;
//   - a key with more than 1/ways of the denials in its set has a counter.
package topkeys

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seed-e56e777b/limiter/internal/mono"
)

// Window is the length of a window: 4 minutes and 35 seconds.
const Window = 1 << WindowBits

// WindowBits is the binary logarithm of Window, in nanoseconds.
const WindowBits = 38

// MaxKey is the length of the longest key, in bytes. Of a longer key the rest is ignored.
const MaxKey = 65

const (
	sets    = 64 // each with a lock, so that cores seldom wait for each other
	ways    = 16 // counters of a set and a window
	setBits = 40 // lowest bit of a hash that chooses the set
)

// Table counts denials in the present and the last window: up to 1,024 keys in each, in
// up to 250 kB. The zero Table is ready for use by any number of goroutines. A set takes
// its memory when it is first used.
type Table struct {
	sets [sets]atomic.Pointer[set]
}

type set struct {
	mu      sync.Mutex
	windows [2]window // by the parity of their number
}

// window is the counters of one set in one window, each at the same index of all arrays.
type window struct {
	number int64
	used   int
	hashes [ways]uint64
	counts [ways]uint64
	errors [ways]uint64    // part of counts that other keys may have
	since  [ways]mono.Time // instant of the first denial
	keys   [ways]key
}

type key struct {
	size uint8
	text [MaxKey]byte
}

// Count is the denials of a key.
type Count struct {
	Key    string
	Denied uint64    // denials, of which none is another key's
	Missed uint64    // most denials that Denied may lack
	Since  mono.Time // instant of the first of them

	hash uint64
}

func (t *Table) set(hash uint64) *set {
	p := &t.sets[hash>>setBits%sets]
	if s := p.Load(); s != nil {
		return s
	}
	p.CompareAndSwap(nil, new(set))
	return p.Load()
}

// Add counts n denials of a key, all in the window of the first one, at the instant since.
// It ignores those of a window before the last one that it has counted in the set.
func (t *Table) Add(hash uint64, key []byte, n uint64, since mono.Time) {
	key = key[:min(len(key), MaxKey)]
	s, number := t.set(hash), windowAt(since)
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.windows[number%2]
	if number < w.number || number < s.windows[(number+1)%2].number-1 {
		return
	}
	if number > w.number {
		*w = window{number: number}
	}
	i := w.find(hash, key)
	if i < 0 {
		i = w.take(hash, key, since)
	}
	w.counts[i] += n
	w.since[i] = min(w.since[i], since)
}

// find returns the index of a key's counter; −1: it has none.
func (w *window) find(hash uint64, key []byte) int {
	for i, h := range w.hashes[:w.used] {
		if h == hash && w.keys[i].is(key) {
			return i
		}
	}
	return -1
}

// take gives a key a free counter, or the lowest one.
func (w *window) take(hash uint64, key []byte, since mono.Time) int {
	i := w.used
	if i < ways {
		w.used++
	} else {
		i = w.lowest()
	}
	w.hashes[i], w.errors[i], w.since[i] = hash, w.counts[i], since
	w.keys[i].size = uint8(copy(w.keys[i].text[:], key))
	return i
}

// lowest returns the index of the lowest counter.
func (w *window) lowest() (lowest int) {
	for i, n := range w.counts {
		if n < w.counts[lowest] {
			lowest = i
		}
	}
	return lowest
}

func (k *key) is(text []byte) bool { return bytes.Equal(k.text[:k.size], text) }

// missed returns the largest number of denials in the window that are not in the count of
// a key.
func (w *window) missed(hash uint64, key []byte) uint64 {
	switch i := w.find(hash, key); {
	case i >= 0:
		return w.errors[i]
	case w.used == ways:
		return w.counts[w.lowest()]
	}
	return 0
}

// Ranking is a list of the keys with the most denials at one instant. It is for one
// goroutine.
type Ranking struct {
	table   *Table
	most    int
	now     mono.Time
	counted map[string]*Count // of the table
	rest    []Count           // pending denials of other keys
	lowest  uint64            // denials with which a key may still be among the first of rest
}

// Rank returns a ranking of the table's keys, for at most so many.
func (t *Table) Rank(most int, now mono.Time) *Ranking {
	r := &Ranking{table: t, most: max(0, most), now: now, counted: map[string]*Count{}}
	for i := range t.sets {
		for _, w := range t.recent(uint64(i)<<setBits, now) {
			for i, hash := range w.hashes[:w.used] {
				k := string(w.keys[i].text[:w.keys[i].size])
				if r.counted[k] == nil {
					r.counted[k] = &Count{Key: k, Since: math.MaxInt64, hash: hash}
				}
				r.counted[k].add(w.counts[i]-w.errors[i], w.since[i])
			}
		}
	}
	return r
}

// recent returns copies of those windows of a hash's set that are the present one or the
// last.
func (t *Table) recent(hash uint64, now mono.Time) (windows []*window) {
	s := t.sets[hash>>setBits%sets].Load()
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.windows {
		if recent(s.windows[i].number, now) {
			w := s.windows[i]
			windows = append(windows, &w)
		}
	}
	return windows
}

// windowAt returns the number of the window of an instant.
func windowAt(at mono.Time) int64 { return int64(at / Window) }

// recent reports whether the window of a number is the present one or the last.
func recent(number int64, now mono.Time) bool { return number >= windowAt(now)-1 }

// Add adds denials of a key that the table does not have, all in one window. It may be
// called once for each key.
func (r *Ranking) Add(hash uint64, key []byte, n uint64, since mono.Time) {
	if !recent(windowAt(since), r.now) {
		return
	}
	if c, ok := r.counted[string(key)]; ok {
		c.add(n, since)
	} else if n >= r.lowest {
		r.rest = append(r.rest, Count{Key: string(key), Denied: n, Since: since, hash: hash})
	}
}

// Trim drops keys that can't be on the list any more. Called now and then, it bounds the
// memory of the ranking.
func (r *Ranking) Trim() {
	if r.rest = first(r.rest, r.most); len(r.rest) == r.most && r.most > 0 {
		r.lowest = r.rest[r.most-1].Denied
	}
}

// List returns the keys, those with the most denials first.
func (r *Ranking) List() []Count {
	for _, c := range r.counted {
		if c.Denied > 0 {
			r.rest = append(r.rest, *c)
		}
	}
	list := first(r.rest, r.most)
	for i := range list {
		c := &list[i]
		for _, w := range r.table.recent(c.hash, r.now) {
			c.Missed += w.missed(c.hash, []byte(c.Key))
		}
	}
	return list
}

func (c *Count) add(n uint64, since mono.Time) {
	c.Denied += n
	c.Since = min(c.Since, since)
}

// first sorts the counts, and returns at most so many of them.
func first(counts []Count, most int) []Count {
	slices.SortFunc(counts, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.Denied, a.Denied), strings.Compare(a.Key, b.Key))
	})
	return counts[:min(len(counts), most)]
}
