package table

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"unsafe"
)

// inSlot is the length of the longest key, in bytes, that is in its slot itself. A longer
// one is known there by two hashes, which nobody outside can make collide.
const inSlot = 19

// Slot is the memory of one key: a cache line. The key's owner may use the exported fields
// while the slot is locked.
type Slot struct {
	mu      sync.Mutex
	Level   float64
	At      int64
	Limit   uint32
	Account uint32
	Buffer  Buffer
	Flags   uint16
	Allowed uint8
	Denied  uint8
	size    uint8 // of the key, in bytes, and 1; or one of those below
	text    [inSlot]byte
}

// Buffer is what decisions have noted of a key, and nobody else has taken in yet.
type Buffer struct {
	Attempts, Taken uint16 // tokens
	Room            uint16 // tokens attempted, after which the buffer has to be taken in
	Easy            uint16 // tokens, the largest cost of which it is enough to note it here
}

// Add notes a cost above 0, and whether it was taken; false where that is not enough.
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

const (
	noKey   = 0    // the key has moved, or there was none yet
	longKey = 0xff // text is two hashes
)

const slotSize = 64 // bytes

var _ = [1]struct{}{}[unsafe.Sizeof(Slot{})-slotSize] // it does not compile otherwise

// Lock locks the slot again, which by now may hold another key: see [Ref.Holds].
func (s *Slot) Lock() { s.mu.Lock() }

// Unlock unlocks the slot.
func (s *Slot) Unlock() { s.mu.Unlock() }

// touch has the processor look up the page of the slot's group while it waits for the
// group's tags. With a million keys that is 10 % of a decision.
func (s *Slot) touch() { atomic.LoadUint32((*uint32)(unsafe.Pointer(&s.mu))) }

// Before orders slots, for who locks several.
func (s *Slot) Before(other *Slot) bool {
	return uintptr(unsafe.Pointer(s)) < uintptr(unsafe.Pointer(other))
}

func (s *Slot) long() bool { return s.size == longKey }

// empty reports whether the slot has no key, for who has not come by a tag.
func (s *Slot) empty() bool { return s.size == noKey }

// holds reports whether the slot is that of a key.
func (s *Slot) holds(seeds *Seeds, hash uint64, key string) bool {
	if len(key) <= inSlot {
		return int(s.size) == len(key)+1 && string(s.text[:len(key)]) == key
	}
	return s.holdsLong(seeds, hash, key)
}

func (s *Slot) holdsLong(seeds *Seeds, hash uint64, key string) bool {
	return s.long() && binary.LittleEndian.Uint64(s.text[:]) == hash &&
		binary.LittleEndian.Uint64(s.text[8:]) == maphash.String(seeds.second, key)
}

// hash is the hash of the slot's key.
func (s *Slot) hash(seeds *Seeds) uint64 {
	if s.long() {
		return binary.LittleEndian.Uint64(s.text[:])
	}
	return maphash.Bytes(seeds.first, s.text[:s.size-1])
}

// reset makes the slot that of a key, with nothing else in it.
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

// Digest stands for a long text: so many bytes of its SHA-256, in a buffer that is empty
// otherwise.
func Digest(text string, n int, buf []byte) string {
	sum := sha256.Sum256(unsafe.Slice(unsafe.StringData(text), len(text)))
	copy(buf[:n], sum[:])
	return unsafe.String(&buf[0], len(buf))
}
