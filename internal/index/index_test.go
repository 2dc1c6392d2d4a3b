package index_test

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"testing"
	"unsafe"

	"github.com/seed-e56e777b/limiter/internal/index"
)

type held struct {
	index.Node
	text [16]byte
}

func node(key string, hash uint32) *index.Node {
	var h held
	h.Node = index.Node{Hash: hash, At: uint16(unsafe.Offsetof(h.text)), Len: uint8(copy(h.text[:], key))}
	return &h.Node
}

// TestTableIsAMap: whatever is inserted and removed, a table finds what a map
// does, also where many keys have the same hash or sit at the table's end.
func TestTableIsAMap(t *testing.T) {
	hashes := map[string]func(i int) uint32{
		"scattered": func(i int) uint32 { return uint32(maphash.Comparable(maphash.MakeSeed(), i)) },
		"all alike": func(int) uint32 { return 1<<32 - 1 },
		"in a row":  func(i int) uint32 { return uint32(i) - 20 },
		"few":       func(i int) uint32 { return uint32(i % 5) },
	}
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			var table index.Table
			want := map[string]*index.Node{}
			keys := make([]*index.Node, 100)
			for i := range keys {
				keys[i] = node(fmt.Sprint("key", i), hash(i))
			}
			for range 5000 {
				e := keys[rng.IntN(len(keys))]
				if _, ok := want[e.Key()]; ok {
					table.Remove(e)
					delete(want, e.Key())
				} else {
					table.Insert(e)
					want[e.Key()] = e
				}
				probe := keys[rng.IntN(len(keys))]
				if got := table.Find(probe.Hash, probe.Key()); got != want[probe.Key()] {
					t.Fatalf("%q: found %p, want %p", probe.Key(), got, want[probe.Key()])
				}
			}
			for _, e := range keys {
				if got := table.Find(e.Hash, e.Key()); got != want[e.Key()] {
					t.Errorf("%q: found %p, want %p", e.Key(), got, want[e.Key()])
				}
			}
		})
	}
}

// TestReadersNeedNoLock: beside a writer a reader finds the right entry or
// none.
func TestReadersNeedNoLock(t *testing.T) {
	var table index.Table
	still := node("still", 1<<20)
	table.Insert(still)
	moving := make([]*index.Node, 64)
	for i := range moving {
		moving[i] = node(fmt.Sprint("moving", i), uint32(i%16))
	}
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
				for _, e := range moving {
					if got := table.Find(e.Hash, e.Key()); got != nil && got != e {
						t.Errorf("%q: found %q", e.Key(), got.Key())
						return
					}
				}
				if got := table.Find(still.Hash, still.Key()); got != nil && got != still {
					t.Errorf("found %q, want what nobody moved", got.Key())
					return
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(3, 4))
	in := map[int]bool{}
	for range 20000 {
		i := rng.IntN(len(moving))
		if in[i] {
			table.Remove(moving[i])
		} else {
			table.Insert(moving[i])
		}
		in[i] = !in[i]
	}
	close(done)
	readers.Wait()
}
