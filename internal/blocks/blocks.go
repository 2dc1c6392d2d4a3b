// Package blocks numbers values that are allocated many at a time: who refers to
// one by its number holds half of a pointer, and nothing that the garbage collector
// has to follow (docs/design.md §9).
package blocks

import (
	"sync/atomic"
	"unsafe"
)

// A number is that of a block, and below it where in the block the value begins,
// in units.
const (
	unit       = 64 // bytes: a cache line
	offsetBits = 13
)

// Most is how many bytes of values a block may hold.
const Most = unit << offsetBits

// Blocks holds values of any types that take whole units. Any number of goroutines
// may call At; the others need a lock among themselves. The zero Blocks holds none.
type Blocks struct {
	first atomic.Pointer[[]unsafe.Pointer] // of each block; replaced when it grows, never changed
}

// At is the value of a number that was given.
func (b *Blocks) At(n uint32) unsafe.Pointer {
	return unsafe.Add((*b.first.Load())[n>>offsetBits], n%(1<<offsetBits)*unit)
}

// Add allocates values, 1 at least and no more than [Most] bytes of them, and
// returns their numbers, which are above 0.
func Add[T any](b *Blocks, n int) []uint32 {
	size := unsafe.Sizeof(*new(T))
	if size%unit != 0 || uintptr(n)*size > Most {
		panic("blocks: values that don't fit")
	}
	block := make([]T, n)
	first := []unsafe.Pointer{nil} // so that no value has the number 0
	if p := b.first.Load(); p != nil {
		first = *p
	}
	numbers := make([]uint32, n)
	for i := range numbers {
		numbers[i] = uint32(len(first))<<offsetBits | uint32(uintptr(i)*size/unit)
	}
	first = append(first, unsafe.Pointer(&block[0]))
	b.first.Store(&first)
	return numbers
}
