package blocks_test

import (
	"testing"

	"github.com/seed-e56e777b/limiter/internal/blocks"
)

// TestNumbersAreKept: whatever is added later, a number is that of the value that it
// was given to, and of no other; beside a writer too.
func TestNumbersAreKept(t *testing.T) {
	type (
		narrow [64]byte
		wide   [192]byte
	)
	var b blocks.Blocks
	var numbers []uint32
	check := func(known []uint32) {
		for id, n := range known {
			if got := *(*uint32)(b.At(n)); n == 0 || got != uint32(id) {
				t.Errorf("the value of number %d is %d, want %d", n, got, id)
			}
		}
	}
	for _, n := range []int{1, 16, 17, 3, 64, 1, 100, 10_000, 5001} {
		known := numbers
		reader := make(chan struct{})
		go func() {
			defer close(reader)
			check(known)
		}()
		var more []uint32
		if n%2 == 0 {
			more = blocks.Add[narrow](&b, n)
		} else {
			more = blocks.Add[wide](&b, n)
		}
		<-reader
		if len(more) < min(n, 2000) {
			t.Fatalf("%d numbers for %d values", len(more), n)
		}
		for _, number := range more {
			*(*uint32)(b.At(number)) = uint32(len(numbers))
			numbers = append(numbers, number)
		}
		check(numbers)
	}
}

// TestBlocksTakeWholeUnits: what a number could not tell apart is refused.
func TestBlocksTakeWholeUnits(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("added")
		}
	}()
	blocks.Add[[65]byte](new(blocks.Blocks), 1)
}
