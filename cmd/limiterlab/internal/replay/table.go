package replay

// table holds a bounded number of values by hash and forgets the least recently
// used to make room. It keeps hashes, not keys: of 64 bits, so that among a
// hundred million keys the chance that any two are taken for one is below one
// in a thousand.
type table[T any] struct {
	most   int
	index  map[uint64]uint32 // slots by hash
	chunks [][]slot[T]       // of equal size: a pointer into one stays good, and growing copies nothing
	used   uint32            // slots, the first among them: it heads the ring
	lost   func(*T)          // is told what is forgotten
}

// slot is a link of a ring in the order of use.
type slot[T any] struct {
	hash         uint64
	newer, older uint32
	value        T
}

const chunkSize = 1 << 10

// newTable returns a table of at most that many values.
func newTable[T any](most int, lost func(*T)) *table[T] {
	t := &table[T]{most: most, index: make(map[uint64]uint32), lost: lost}
	t.grow()
	return t
}

// get returns the value of a hash, and whether it is new.
func (t *table[T]) get(hash uint64) (value *T, isNew bool) {
	i, ok := t.index[hash]
	if ok {
		s := t.at(i)
		t.touch(i, s)
		return &s.value, false
	}
	i = t.room()
	s := t.at(i)
	t.index[hash] = i
	s.hash = hash
	t.link(i, s)
	return &s.value, true
}

// peek returns the value of a hash if there is one, and does not count as use.
func (t *table[T]) peek(hash uint64) (*T, bool) {
	i, ok := t.index[hash]
	if !ok {
		return nil, false
	}
	return &t.at(i).value, true
}

func (t *table[T]) len() int { return len(t.index) }

// all calls f for every value, the most recently used first.
func (t *table[T]) all(f func(*T)) {
	for i := t.at(0).older; i != 0; i = t.at(i).older {
		f(&t.at(i).value)
	}
}

func (t *table[T]) at(i uint32) *slot[T] { return &t.chunks[i/chunkSize][i%chunkSize] }

// room returns a slot with a zero value that is in no ring.
func (t *table[T]) room() uint32 {
	if len(t.index) < t.most {
		return t.grow()
	}
	i := t.at(0).newer // the oldest: the ring goes round
	s := t.at(i)
	t.unlink(s)
	delete(t.index, s.hash)
	t.lost(&s.value)
	*s = slot[T]{}
	return i
}

// grow returns a slot that was never used.
func (t *table[T]) grow() uint32 {
	i := t.used
	if int(i/chunkSize) == len(t.chunks) {
		t.chunks = append(t.chunks, make([]slot[T], chunkSize))
	}
	t.used++
	return i
}

func (t *table[T]) touch(i uint32, s *slot[T]) {
	if t.at(0).older != i {
		t.unlink(s)
		t.link(i, s)
	}
}

func (t *table[T]) unlink(s *slot[T]) {
	t.at(s.newer).older = s.older
	t.at(s.older).newer = s.newer
}

// link makes the slot the most recently used.
func (t *table[T]) link(i uint32, s *slot[T]) {
	head := t.at(0)
	s.newer, s.older = 0, head.older
	t.at(head.older).newer = i
	head.older = i
}
