package table

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/seed-e56e777b/limiter/internal/mono"
)

// inSlot is the length, in bytes, of the longest key that is stored in its slot. Of a
// longer one the slot stores two hashes with random seeds, so that no client can make
// two keys collide.
const inSlot = 19

// Slot is the memory of one key: a cache line. The user of the table owns the exported
// fields, which are valid while the slot is locked.
type Slot struct {
	mu      sync.Mutex
	Level   float64
	At      mono.Time
	Limit   uint32
	Account uint32
	Buffer  Buffer
	Flags   uint16
	Allowed uint8
	Denied  uint8
	size    uint8 // length of the key, in bytes, plus 1; or noKey or longKey
	text    [inSlot]byte
}

// Buffer is a write buffer of a key: decisions that have not been flushed yet.
type Buffer struct {
	Attempts, Taken uint16 // tokens
	Room            uint16 // largest Attempts, in tokens, before the buffer has to be flushed
	Easy            uint16 // largest cost, in tokens, that may be buffered
}

// Add buffers a cost above 0, and whether it was taken. It returns false if the cost
// can't be buffered.
func (b *Buffer) Add(n int64, ok bool) bool {
	if uint64(n-1) >= uint64(b.Easy) || int64(b.Attempts)+n > int64(b.Room) {
		return false
	}
	b.Attempts += uint16(n)
	if ok {
		b.Taken += uint16(n)
	}
	return true
}

// Lengths of keys, in bytes, that two words of eight bytes cover.
const (
	fewest = 8
	most   = 16
)

const (
	noKey   = 0    // the key has moved, or there was none yet
	longKey = 0xff // text is two hashes
)

const slotSize = 64 // bytes

var _ = [1]struct{}{}[unsafe.Sizeof(Slot{})-slotSize] // compiles only if the sizes are equal

// Lock locks the slot again. It may have another key meanwhile: see [Table.Holds].
func (s *Slot) Lock() { s.mu.Lock() }

// Unlock unlocks the slot.
func (s *Slot) Unlock() { s.mu.Unlock() }

// touch starts the address translation of the slot's page while the processor waits for
// the group's tags. With a million keys that saves 10 % of a decision.
func (s *Slot) touch() { atomic.LoadUint32((*uint32)(unsafe.Pointer(&s.mu))) }

// Before reports whether s is locked before other by a caller that locks several slots.
func (s *Slot) Before(other *Slot) bool {
	return uintptr(unsafe.Pointer(s)) < uintptr(unsafe.Pointer(other))
}

func (s *Slot) long() bool { return s.size == longKey }

// empty reports whether the slot has no key.
func (s *Slot) empty() bool { return s.size == noKey }

// holds reports whether the slot has the key.
func (s *Slot) holds(seeds *Seeds, hash uint64, key string) bool {
	if len(key) <= inSlot {
		return int(s.size) == len(key)+1 && string(s.text[:len(key)]) == key
	}
	return s.holdsLong(seeds, hash, key)
}

// is reports whether the slot has a key of fewest to most bytes. It compares two words,
// which may overlap, because a call would have to save all registers.
func (s *Slot) is(key string) bool {
	p, q, last := unsafe.Pointer(&s.text), unsafe.Pointer(unsafe.StringData(key)), len(key)-fewest
	return int(s.size) == len(key)+1 && word(p, 0) == word(q, 0) && word(p, last) == word(q, last)
}

// word returns the eight bytes at an offset.
func word(p unsafe.Pointer, at int) uint64 {
	return binary.LittleEndian.Uint64((*[8]byte)(unsafe.Add(p, at))[:])
}

func (s *Slot) holdsLong(seeds *Seeds, hash uint64, key string) bool {
	return s.long() && binary.LittleEndian.Uint64(s.text[:]) == hash &&
		binary.LittleEndian.Uint64(s.text[8:]) == maphash.String(seeds.second, key)
}

// hash returns the hash of the slot's key.
func (s *Slot) hash(seeds *Seeds) uint64 {
	if s.long() {
		return binary.LittleEndian.Uint64(s.text[:])
	}
	return maphash.Bytes(seeds.first, s.text[:s.size-1])
}

// reset gives the slot to a key, with zero fields.
func (s *Slot) reset(seeds *Seeds, hash uint64, key string) {
	s.Level, s.At, s.Limit, s.Account, s.Buffer = 0, 0, 0, 0, Buffer{}
	s.Flags, s.Allowed, s.Denied = 0, 0, 0
	if len(key) <= inSlot {
		s.size = uint8(len(key) + 1)
		copy(s.text[:], key)
		return
	}
	s.size = longKey
	binary.LittleEndian.PutUint64(s.text[:], hash)
	binary.LittleEndian.PutUint64(s.text[8:], maphash.String(seeds.second, key))
}

// moveTo moves the key to an empty slot.
func (s *Slot) moveTo(to *Slot) {
	to.Level, to.At, to.Limit, to.Account, to.Buffer = s.Level, s.At, s.Limit, s.Account, s.Buffer
	to.Flags, to.Allowed, to.Denied = s.Flags, s.Allowed, s.Denied
	to.size, to.text = s.size, s.text
	s.size = noKey
}

// Digest returns the first n bytes of the SHA-256 of a text, in buf, followed by the
// rest of buf. The result is valid as long as buf is unchanged.
func Digest(text string, n int, buf []byte) string {
	sum := sha256.Sum256(unsafe.Slice(unsafe.StringData(text), len(text)))
	copy(buf[:n], sum[:])
	return unsafe.String(&buf[0], len(buf))
}
