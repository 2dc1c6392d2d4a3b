package index_test

import (
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/seed-e56e777b/limiter/internal/index"
)

// TestTableIsAMap: whatever is inserted and removed, a table finds what a map
// does, also where many keys have the same hash or sit at the table's end.
func TestTableIsAMap(t *testing.T) {
	seed := maphash.MakeSeed()
	hashes := map[string]func(n uint32) uint32{
		"scattered": func(n uint32) uint32 { return uint32(maphash.Comparable(seed, n)) },
		"all alike": func(uint32) uint32 { return 1<<32 - 1 },
		"in a row":  func(n uint32) uint32 { return n - 20 },
		"few":       func(n uint32) uint32 { return n % 5 },
		"none":      func(uint32) uint32 { return 0 },
	}
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			var table index.Table
			in := map[uint32]bool{}
			check := func(n uint32) {
				want := uint32(0)
				if in[n] {
					want = n
				}
				if got := table.Lookup(hash(n), func(m uint32) bool { return m == n }); got != want {
					t.Fatalf("of %d found %d, want %d", n, got, want)
				}
				if found := table.Find(hash(n)); in[n] && (!in[found] || hash(found) != hash(n)) {
					t.Errorf("of %d found %d without the lock", n, found)
				}
			}
			const numbers = 100
			for range 5000 {
				n := 1 + rng.Uint32N(numbers)
				if in[n] {
					table.Remove(hash(n), n)
				} else {
					table.Insert(hash(n), n)
				}
				in[n] = !in[n]
				check(1 + rng.Uint32N(numbers))
			}
			for n := range uint32(numbers) {
				check(1 + n)
			}
		})
	}
}

// TestReadersNeedNoLock: beside a writer, a reader finds a number that is or was
// there, or none.
func TestReadersNeedNoLock(t *testing.T) {
	const moving, hashes = 64, 20
	const still, stillHash = moving + 1, 1 << 20
	var table index.Table
	table.Insert(stillHash, still)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				for hash := range uint32(hashes) {
					if got := table.Find(hash); got > still {
						t.Errorf("found %d, which nobody has put in", got)
						return
					}
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(3, 4))
	hashOf := map[uint32]uint32{}
	for range 20000 {
		n := 1 + rng.Uint32N(moving)
		if hash, in := hashOf[n]; in {
			table.Remove(hash, n)
			delete(hashOf, n)
			continue
		}
		hashOf[n] = rng.Uint32N(hashes)
		table.Insert(hashOf[n], n)
	}
	close(done)
	readers.Wait()
	if got := table.Find(stillHash); got != still {
		t.Errorf("%d is found for what nobody moved", got)
	}
}
