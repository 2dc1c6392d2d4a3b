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
const offsetBits = 13

// Unit is what the size of a value has to be a multiple of, in bytes: a cache line.
const Unit = 64

const (
	most  = Unit << offsetBits // bytes of values in a block
	small = 4 << 10            // bytes: what the runtime allocates a few of in a page,
	page  = 8 << 10            // or else in whole pages, of which it leaves the rest unused
)

// Blocks holds values of any types that take whole units. Any number of goroutines
// may call At; the others need a lock among themselves. The zero Blocks holds none.
type Blocks struct {
	first atomic.Pointer[[]unsafe.Pointer] // of each block
}

// At is the value of a number that was given.
func (b *Blocks) At(n uint32) unsafe.Pointer {
	return unsafe.Add((*b.first.Load())[n>>offsetBits], n%(1<<offsetBits)*Unit)
}

// Add allocates about n values, all that fit into the memory that so many take,
// and returns their numbers, which are above 0.
func Add[T any](b *Blocks, n int) []uint32 {
	size := int(unsafe.Sizeof(*new(T)))
	if size%Unit != 0 {
		panic("blocks: values that are not of whole units")
	}
	block := make([]T, roomFor(n*size)/size)
	first := []unsafe.Pointer{nil} // so that no value has the number 0
	if p := b.first.Load(); p != nil {
		first = *p
	}
	numbers := make([]uint32, len(block))
	for i := range numbers {
		numbers[i] = uint32(len(first)<<offsetBits | i*size/Unit)
	}
	first = append(first, unsafe.Pointer(&block[0]))
	b.first.Store(&first)
	return numbers
}

func roomFor(bytes int) int {
	if bytes <= small {
		return small
	}
	return min((bytes+page-1)/page*page, most)
}
