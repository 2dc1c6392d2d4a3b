package replay

// table holds a bounded number of values by hash. When it is full, it evicts
// the least recently used one. It keeps 64-bit hashes instead of keys. Among a
// hundred million keys the chance that any two have the same hash is below one
// in a thousand.
type table[T any] struct {
	most   int               // largest number of values
	index  map[uint64]uint32 // slots by hash
	chunks [][]slot[T]       // of equal size, so that growth copies nothing and pointers into them stay valid
	used   uint32            // slots taken from chunks; slot 0 is the head of the ring
	lost   func(*T)          // receives each evicted value
}

// slot is a link of a ring in the order of use.
type slot[T any] struct {
	hash         uint64
	newer, older uint32
	value        T
}

const chunkSize = 1 << 10

// newTable returns a table of at most most values. It calls lost for each value
// that it evicts.
func newTable[T any](most int, lost func(*T)) *table[T] {
	t := &table[T]{most: most, index: make(map[uint64]uint32), lost: lost}
	t.grow()
	return t
}

// get returns the value of a hash, and makes it the most recently used. isNew
// is true if there was none; then the value is zero.
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

// peek returns the value of a hash, if there is one. It leaves the order of use
// as it is.
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

// room returns a slot with a zero value outside the ring. If the table is full,
// it evicts the least recently used value.
func (t *table[T]) room() uint32 {
	if len(t.index) < t.most {
		return t.grow()
	}
	i := t.at(0).newer // the least recently used, as the ring is closed
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

// link puts a slot into the ring as the most recently used.
func (t *table[T]) link(i uint32, s *slot[T]) {
	head := t.at(0)
	s.newer, s.older = 0, head.older
	t.at(head.older).newer = i
	head.older = i
}
