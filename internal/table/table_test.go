package table

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/seed-e56e777b/limiter/internal/longtest"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/topkeys"
)

// newTable is an empty table of so many keys.
func newTable(size int) *Table {
	t := new(Table)
	t.Init(size, 0, size%2 == 1, NewSeeds())
	return t
}

// put inserts a key, whose slot it unlocks, and returns the key that was evicted.
func (t *Table) put(key string, at int64) (evicted string) {
	r := t.Insert(t.seeds.Hash(key), key, "", func(r Ref) { evicted = t.Key(r) })
	r.At = mono.Time(at)
	if t.shift != 0 {
		*Beside[int64](r) += at // of nothing, or else it is another key's
	}
	r.Unlock()
	return evicted
}

// get returns the value of a key.
func (t *Table) get(key string, use bool) (at int64, ok bool) {
	r, ok := t.Find(t.seeds.Hash(key), key, use)
	if ok {
		if at = int64(r.At); t.shift != 0 {
			at = *Beside[int64](r)
		}
		r.Unlock()
	}
	return at, ok
}

// anyKeys are keys of all lengths that a slot can hold, and longer ones.
func anyKeys(n int) (keys []string) {
	for i := range n {
		keys = append(keys, fmt.Sprint(i)+strings.Repeat("x", i%40))
	}
	return append(keys, "")
}

// TestSlotsFillACacheLine: and no pointers are in them.
func TestSlotsFillACacheLine(t *testing.T) {
	a := newTable(100)
	a.put("k", 1)
	if first := uintptr(unsafe.Pointer(&a.array.Load().slots[0])); first%64 != 0 {
		t.Errorf("slots begin at %x", first)
	}
}

// TestTwin: the table is a map, for any sizes, and for keys of all lengths. It has all
// keys that were put and not evicted, evicts only when it is full, and keeps marks while
// it grows.
func TestTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 200).Draw(t, "size")
		keys := anyKeys(rapid.IntRange(1, 400).Draw(t, "keys"))
		table, twin, due := newTable(size), map[string]int64{}, map[string]bool{}
		for n := range rapid.IntRange(1, 600).Draw(t, "steps") {
			key := rapid.SampledFrom(keys).Draw(t, "key")
			at, ok := table.get(key, rapid.Bool().Draw(t, "use"))
			if want, has := twin[key]; ok != has || at != want {
				t.Fatalf("%q: %d %v, want %d %v", key, at, ok, want, has)
			}
			if !ok {
				full := len(twin) == size
				evicted := table.put(key, int64(n))
				if _, had := twin[evicted]; full != had && !(evicted == "" && !full) {
					t.Fatalf("%q made room for %q, of %d keys of %d", evicted, key, len(twin), size)
				}
				if full {
					delete(twin, evicted)
					delete(due, evicted)
				}
				twin[key] = int64(n)
			}
			if is := rapid.Bool().Draw(t, "due"); is != due[key] {
				r, _ := table.Find(table.seeds.Hash(key), key, false)
				r.SetMark(Due, is)
				r.Unlock()
				due[key] = is
			}
			table.check(t, twin, due)
		}
	})
}

// check compares all keys, and the marked ones, with a twin's.
func (t *Table) check(to *rapid.T, twin map[string]int64, due map[string]bool) {
	seen, marked := map[string]int64{}, 0
	t.Each(func(r Ref) { seen[t.Key(r)] = int64(r.At); r.Unlock() })
	t.EachMarked(Due, func(r Ref) {
		if marked++; !due[t.Key(r)] {
			to.Fatalf("%q is marked", t.Key(r))
		}
		r.Unlock()
	})
	if len(seen) != len(twin) || t.Len() != len(twin) {
		to.Fatalf("%d keys, counted as %d, want %d", len(seen), t.Len(), len(twin))
	}
	for key, at := range twin {
		if seen[key] != at {
			to.Fatalf("%q has %d, want %d", key, seen[key], at)
		}
		if due[key] {
			marked--
		}
	}
	if marked != 0 || t.Count(Due) != len(due)-countFalse(due) {
		to.Fatalf("%d keys too many are marked; %d counted", marked, t.Count(Due))
	}
	passed := 0
	if a := t.array.Load(); a != nil {
		for g := range a.headers {
			passed += int(a.headers[g].passed.Load())
		}
		t.Each(func(r Ref) {
			for g := a.home(t.Hash(r)); g != r.index/group; g = a.next(g) {
				passed--
			}
			r.Unlock()
		})
	}
	if passed != 0 {
		to.Fatalf("groups count %d keys too many that have passed them", passed)
	}
}

func countFalse(m map[string]bool) (n int) {
	for _, is := range m {
		if !is {
			n++
		}
	}
	return n
}

// TestGrowthMeetsDecisions: nothing that is noted in slots is lost while the table grows,
// and searches that met keys on their way are among those that were made meanwhile.
func TestGrowthMeetsDecisions(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(4, runtime.NumCPU())))
	const keys, goroutines = 20_000, 4
	met := uint64(0)
	for round := 0; met == 0; round++ {
		if round == 50 {
			t.Fatal("no search has met a growing table")
		}
		table, names := newTable(2*keys), anyKeys(keys)
		var (
			mu     sync.Mutex // of insertions
			all    sync.WaitGroup
			counts atomic.Int64
		)
		note := func(key string) {
			r, ok := table.Find(table.seeds.Hash(key), key, true)
			if !ok {
				mu.Lock()
				defer mu.Unlock()
				if r, ok = table.Find(table.seeds.Hash(key), key, true); !ok {
					r = table.Insert(table.seeds.Hash(key), key, "", func(Ref) { t.Error("a key was evicted") })
				}
			}
			r.At++
			counts.Add(1)
			r.Unlock()
		}
		for g := range goroutines {
			all.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(round), uint64(g)))
				for i := range names {
					note(names[i])
					note(names[rng.IntN(i+1)])
				}
			})
		}
		all.Wait()
		sum := int64(0)
		table.Each(func(r Ref) { sum += int64(r.At); r.Unlock() })
		if sum != counts.Load() || table.Len() != len(names) {
			t.Fatalf("%d of %d are noted, of %d keys of %d", sum, counts.Load(), table.Len(), len(names))
		}
		met = table.waits.Load()
	}
	t.Logf("%d searches met keys that were being moved", met)
}

// TestEachWaitsForGrowth: a visit of all keys passes over none that is being moved.
func TestEachWaitsForGrowth(t *testing.T) {
	table, keys := newTable(100), anyKeys(fullGroup-1)
	var last Ref
	for _, key := range keys {
		table.put(key, 1)
		r, _ := table.Find(table.seeds.Hash(key), key, false)
		r.SetMark(Due, true)
		if last.Slot == nil || r.index > last.index {
			last = r
		}
		r.Unlock()
	}
	last.Lock() // it is moved last
	last.SetMark(Due, false)
	grown, visited, n := make(chan bool), make(chan bool), 0
	go func() { table.put("one more", 1); close(grown) }()
	first := last.array.slot(0)
	for moved := false; !moved; runtime.Gosched() {
		first.Lock()
		moved = first.empty()
		first.Unlock()
	}
	go func() { table.EachMarked(Due, func(r Ref) { n++; r.Unlock() }); close(visited) }()
	for waits := false; !waits; runtime.Gosched() {
		select {
		case <-visited:
			waits = true
		default:
			waits = table.waits.Load() > 0
		}
	}
	last.Unlock()
	<-grown
	if <-visited; n != len(keys)-1 {
		t.Errorf("%d of %d keys were visited", n, len(keys)-1)
	}
}

// TestEmptyGroup: a key whose group is empty while the table is full takes the slot of
// another group's key, and is found there.
func TestEmptyGroup(t *testing.T) {
	table := newTable(fullGroup + 1)
	table.put("first", 1)
	for i := 0; table.Len() < table.size; i++ {
		if key := fmt.Sprint("k", i); table.homeOf(key, 2) == 1 {
			table.put(key, 1)
		}
	}
	for i := range 100 {
		if key := fmt.Sprint("x", i); table.homeOf(key, 2) == 0 {
			table.put(key, int64(i))
			if at, ok := table.get(key, true); !ok || at != int64(i) {
				t.Fatalf("%q: %d %v", key, at, ok)
			}
		}
	}
}

// homeOf is the group of a key in a table of so many.
func (t *Table) homeOf(key string, groups int) uint32 {
	return (&array{headers: make([]header, groups)}).home(t.seeds.Hash(key))
}

// TestLongKeysAreNotMistaken: keys of which a slot has hashes only.
func TestLongKeysAreNotMistaken(t *testing.T) {
	table := newTable(10)
	long := strings.Repeat("long", 10)
	table.put(long, 1)
	for _, key := range []string{long[1:], long + "x", strings.Repeat("gnol", 10), long[:inSlot]} {
		if _, ok := table.get(key, false); ok {
			t.Errorf("%q is taken for %q", key, long)
		}
	}
	if at, ok := table.get(long, false); !ok || at != 1 {
		t.Errorf("%q: %d %v", long, at, ok)
	}
}

// TestPinnedKeysStay: as long as there is another one in their group.
func TestPinnedKeysStay(t *testing.T) {
	table := newTable(4)
	for _, key := range []string{"a", "b", "c"} {
		table.put(key, 1)
		r, _ := table.Find(table.seeds.Hash(key), key, false)
		r.SetMark(Pinned, true)
		r.Unlock()
	}
	table.put("d", 1)
	for i, last := 0, "d"; i < 100; i++ {
		key := fmt.Sprint(i)
		if evicted := table.put(key, 1); evicted != last {
			t.Fatalf("%q was evicted, want %q", evicted, last)
		}
		last = key
	}
}

// TestHits: of keys by Zipf's law, beside four times as many that come once, no fewer are
// found than in an exact LRU.
func TestHits(t *testing.T) {
	const size = 10_000
	requests := longtest.Choose(100_000, 400_000, 400_000)
	rng := rand.New(rand.NewPCG(1, 1))
	zipf := rand.NewZipf(rng, 1.1, 1, 100_000)
	table, exact := newTable(size), newExact(size)
	ours, theirs, asked := 0, 0, 0
	for i := range requests {
		key := fmt.Sprint(zipf.Uint64())
		if i%5 != 0 {
			key = fmt.Sprint("flood", i)
		}
		if _, ok := table.get(key, true); !ok {
			table.put(key, 0)
		} else {
			ours++
		}
		if exact.get(key) {
			theirs++
		}
		asked++
	}
	t.Logf("%.1f %% of requests found their key, %.1f %% in an exact LRU", 100*float64(ours)/float64(asked), 100*float64(theirs)/float64(asked))
	if float64(ours) < float64(theirs) {
		t.Errorf("%d of %d requests found their key, %d in an exact LRU", ours, asked, theirs)
	}
}

// FuzzFind: any two keys are one if they are equal, and two if not.
func FuzzFind(f *testing.F) {
	f.Add("a", "b")
	f.Add("", "\x00")
	f.Add(strings.Repeat("k", inSlot), strings.Repeat("k", inSlot+1))
	f.Fuzz(func(t *testing.T, a, b string) {
		table := newTable(2)
		table.put(a, 1)
		if _, ok := table.get(b, true); ok != (a == b) {
			t.Fatalf("%q is found as %q: %v", a, b, ok)
		}
		if a != b {
			table.put(b, 2)
		}
		if at, ok := table.get(a, true); !ok || at != 1 {
			t.Fatalf("%q: %d %v", a, at, ok)
		}
		r, _ := table.Find(table.seeds.Hash(a), a, false)
		if got := table.Key(r); got != a || string(table.AppendKey(nil, r)) != a {
			t.Fatalf("%q is the key of %q", got, a)
		}
		r.Unlock()
	})
}

// deny counts a denial of a key, which it inserts where it is not there.
func (t *Table) deny(key string, now mono.Time) {
	hash := t.seeds.Hash(key)
	r, ok := t.Find(hash, key, true)
	if !ok {
		r = t.Insert(hash, key, "", func(Ref) {})
	}
	t.Deny(r, now)
	r.Unlock()
}

// TestDenialsByKeyAreExact: whatever grows, is evicted, comes back or is older
// meanwhile, the denials of each key in the present and the last window are
// those of an exact twin, and so is the sum of all.
func TestDenialsByKeyAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := newTable(rapid.IntRange(1, 300).Draw(t, "size"))
		table.Top = new(topkeys.Table)
		keys := anyKeys(rapid.IntRange(1, 500).Draw(t, "keys"))
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		windows, total, now := map[mono.Time]map[string]uint64{}, uint64(0), mono.Time(0)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			w := now >> topkeys.WindowBits
			if windows[w] == nil {
				windows[w] = map[string]uint64{}
			}
			for range rng.IntN(20) {
				key, n := keys[rng.IntN(len(keys))], 1+rng.IntN(600)
				for range n {
					table.deny(key, now)
				}
				windows[w][key] += uint64(n)
				total += uint64(n)
			}
			now += mono.Time(rapid.OneOf(
				rapid.Int64Range(0, topkeys.Window/8),
				rapid.Int64Range(0, 3*topkeys.Window),
			).Draw(t, "later"))
			want := map[string]uint64{}
			for _, of := range []map[string]uint64{windows[now>>topkeys.WindowBits], windows[now>>topkeys.WindowBits-1]} {
				for key, n := range of {
					want[key] += n
				}
			}
			ranking := table.Top.Rank(1e6, now)
			table.EachDenied(ranking.Add)
			ranking.Trim()
			for _, c := range ranking.List() {
				if c.Denied != want[c.Key] || c.Missed != 0 {
					t.Fatalf("%q: %d, may lack %d; want %d", c.Key, c.Denied, c.Missed, want[c.Key])
				}
				delete(want, c.Key)
			}
			if len(want) != 0 {
				t.Fatalf("not listed: %v", want)
			}
		}
		if _, denied := table.Decisions(); denied != total {
			t.Fatalf("%d denials in all, want %d", denied, total)
		}
	})
}
