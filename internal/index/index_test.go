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
				if got := table.Lookup(probe.Hash, probe.Key()); got != want[probe.Key()] {
					t.Fatalf("%q: found %p, want %p", probe.Key(), got, want[probe.Key()])
				}
			}
			for _, e := range keys {
				got := table.Lookup(e.Hash, e.Key())
				if got != want[e.Key()] {
					t.Errorf("%q: found %p, want %p", e.Key(), got, want[e.Key()])
				}
				if found := table.Find(e.Hash); got != nil && (found == nil || found.Hash != e.Hash) {
					t.Errorf("%q: without the lock %v is found", e.Key(), found)
				}
			}
		})
	}
}

// TestReadersNeedNoLock: beside a writer, whose nodes are written again while they
// are in no table, a reader finds a node that is or was there, or none.
func TestReadersNeedNoLock(t *testing.T) {
	var table index.Table
	still := node("still", 1<<20)
	table.Insert(still)
	moving := make([]*index.Node, 64)
	known := map[*index.Node]bool{still: true}
	for i := range moving {
		moving[i] = node(fmt.Sprint("moving", i), uint32(i%16))
		known[moving[i]] = true
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
				for hash := range uint32(20) {
					if got := table.Find(hash); got != nil && !known[got] {
						t.Errorf("found %p, which nobody has put in", got)
						return
					}
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
			moving[i].Hash = rng.Uint32N(20)
			table.Insert(moving[i])
		}
		in[i] = !in[i]
	}
	close(done)
	readers.Wait()
	if table.Find(still.Hash) != still {
		t.Error("what nobody moved is not found")
	}
}
