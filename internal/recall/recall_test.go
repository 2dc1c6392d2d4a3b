package recall

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/longtest"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

const tick = 1 << tickBits

// hashOf is as good as a random hash, and the same in every run.
func hashOf(i int) uint64 {
	z := uint64(i+1) * 0x9e3779b97f4a7c15 // splitmix64
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func TestTheNewestWordCounts(t *testing.T) {
	table := New(100)
	h := hashOf(1)
	table.Forget(h)
	require.Zero(t, table.Get(h))
	for _, tat := range []mono.Time{5 * tick, 9 * tick, 3 * tick, 2} {
		table.Put(h, tat, 0)
		got := table.Get(h)
		require.GreaterOrEqual(t, got, tat, "never laxer")
		require.Less(t, got, tat+tick)
	}
	table.Put(h, 3*tick, 7*tick)
	require.Equal(t, mono.Time(3*tick), table.Get(h), "also if it is past")
	table.Forget(h)
	require.Zero(t, table.Get(h))
	table.Put(h, 3*tick, 3*tick)
	require.Zero(t, table.Get(h), "what is full need not be remembered")
	table.Put(h, mono.Never, 0)
	require.Equal(t, mono.Time(mostTicks)<<tickBits, table.Get(h))
	table.Put(h, -1, -2)
	require.Zero(t, table.Get(h))
}

// lost is the part of n early keys of which nothing is remembered after so
// many later ones, whose TATs are given.
func lost(n, later int, tat func(i int) mono.Time) float64 {
	const keys = 1 << 12
	table := New(keys)
	for i := range n {
		table.Put(hashOf(i), mono.Time(time.Minute)+mono.Time(i), 0)
	}
	for i := n; i < n+later; i++ {
		table.Put(hashOf(i), tat(i), 0)
	}
	gone := 0
	for i := range n {
		if table.Get(hashOf(i)) == 0 {
			gone++
		}
	}
	return float64(gone) / float64(n)
}

// TestMuchIsRemembered: any number of keys with earlier TATs displace no key. Others do,
// those with later TATs no more than these.
func TestMuchIsRemembered(t *testing.T) {
	const keys = 1 << 12
	sooner := func(int) mono.Time { return mono.Time(time.Second) }
	after := func(i int) mono.Time { return mono.Time(time.Minute) + mono.Time(i) }
	muchAfter := func(int) mono.Time { return mono.Time(time.Hour) }
	for _, tc := range []struct {
		name     string
		n, later int
		tat      func(int) mono.Time
		most     float64
	}{
		{"a tenth of MaxKeys, then a hundred times MaxKeys that are full sooner", keys / 10, 100 * keys, sooner, 0.001},
		{"half of MaxKeys and no more", keys / 2, 0, nil, 0.01},
		{"MaxKeys and no more", keys, 0, nil, 0.10},
		{"a tenth, then half of MaxKeys", keys / 10, keys / 2, after, 0.05},
		{"a tenth, then MaxKeys", keys / 10, keys, after, 0.30},
		{"a tenth, then twice MaxKeys", keys / 10, 2 * keys, after, 0.75},
		{"a tenth, then MaxKeys that are full much later", keys / 10, keys, muchAfter, 0.30},
	} {
		got := lost(tc.n, tc.later, tc.tat)
		t.Logf("%s: %.2f %% forgotten", tc.name, 100*got)
		if got > tc.most {
			t.Errorf("%s: %.2f %% forgotten, want at most %v %%", tc.name, 100*got, 100*tc.most)
		}
	}
	// An attacker comes back after every flood of keys with much later TATs.
	table, forgotten, rounds := New(keys), 0, longtest.Choose(25, 100, 100)
	for i := range 20 * keys {
		table.Put(hashOf(i), muchAfter(i), 0)
	}
	for round := 1; round <= rounds; round++ {
		h := hashOf(-round)
		table.Put(h, mono.Time(time.Minute), 0)
		for i := range keys / 2 {
			table.Put(hashOf((20+round)*keys+i), muchAfter(i), 0)
		}
		if table.Get(h) == 0 {
			forgotten++
		}
	}
	t.Logf("full of keys that are full much later, after half of MaxKeys more of them: %d of %d forgotten", forgotten, rounds)
	if most := rounds * 6 / 10; forgotten > most {
		t.Errorf("full of keys that are full much later, after half of MaxKeys more of them: %d of %d forgotten, want at most %d", forgotten, rounds, most)
	}
}

// TestFreshKeysAreHardlyEverTaken for others, though every cell is taken.
func TestFreshKeysAreHardlyEverTaken(t *testing.T) {
	const keys = 1 << 12
	fresh := longtest.Choose(200_000, 500_000, 2_000_000)
	table := New(keys)
	for i := range 20 * keys {
		table.Put(hashOf(i), mono.Time(i)*tick, 0)
	}
	taken := 0
	for i := range fresh {
		if table.Get(hashOf(20*keys+i)) != 0 {
			taken++
		}
	}
	t.Logf("%d of %d fresh keys were taken for others", taken, fresh)
	if taken > 5 { // 8 tags of 24 bits each: 1 is to be expected
		t.Errorf("%d of %d fresh keys were taken for others", taken, fresh)
	}
}

func TestNothingIsAllocated(t *testing.T) {
	table := New(1000)
	require.Nil(t, table.sets.Load(), "before the first Put")
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		i++
		table.Put(hashOf(i), tick, 0)
		table.Get(hashOf(i + 1))
		table.Forget(hashOf(i - 1))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	require.LessOrEqual(t, 8*setCells*len(*table.sets.Load()), 1000*BytesPerKey+8*setCells)
}

// TestManyAtOnce: no key gets another's TAT, even if they share a cell.
func TestManyAtOnce(t *testing.T) {
	table := New(16)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 20000 {
				key := g*5 + i%5
				table.Put(hashOf(key), mono.Time(key+1)*tick, 0)
				if got := table.Get(hashOf(key)); got != 0 && got != mono.Time(key+1)*tick {
					t.Errorf("key %d has the TAT of key %d", key, got/tick-1)
					return
				}
				if i%7 == 0 {
					table.Forget(hashOf(key))
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkTable(b *testing.B) {
	table := New(1 << 16)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		table.Put(hashOf(i), mono.Time(i)*tick, 0)
		table.Get(hashOf(i + 1))
	}
}

// TestPutOff: stored TATs become later, never earlier; passed ones stay.
func TestPutOff(t *testing.T) {
	table := New(100)
	table.PutOff(func(mono.Time) mono.Time { return 1 }, 0)
	for i := range 8 {
		table.Put(hashOf(i), mono.Time(i+1)*tick, 0)
	}
	table.PutOff(func(tat mono.Time) mono.Time { return 3*tat - 10*tick }, 2*tick)
	for i := range 8 {
		was := mono.Time(i+1) * tick
		want := was
		if was > 2*tick {
			want = max(was, 3*was-10*tick)
		}
		require.Equal(t, want, table.Get(hashOf(i)), i)
	}
}
