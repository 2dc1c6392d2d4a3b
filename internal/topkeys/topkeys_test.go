package topkeys

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-e56e777b/limiter/internal/mono"
)

// hashOf is as good as a random hash, and the same in every run.
func hashOf(key string) uint64 {
	z := uint64(14695981039346656037) // FNV-1a, then splitmix64
	for i := range len(key) {
		z = (z ^ uint64(key[i])) * 1099511628211
	}
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (t *Table) count(key string, n uint64, since mono.Time) {
	t.Add(hashOf(key), []byte(key), n, since)
}

// exact is the twin of a table: all counts of all windows.
type exact map[int64]map[string]uint64

func (e exact) count(key string, n uint64, since mono.Time) {
	w := windowAt(since)
	if e[w] == nil {
		e[w] = map[string]uint64{}
	}
	e[w][key] += n
}

// recent returns the counts of the present and the last window.
func (e exact) recent(now mono.Time) map[string]uint64 {
	sum := map[string]uint64{}
	for w := windowAt(now) - 1; w <= windowAt(now); w++ {
		for key, n := range e[w] {
			sum[key] += n
		}
	}
	return sum
}

// ofSet returns how many denials of a window are in a set.
func (e exact) ofSet(set uint64, window int64) (total uint64) {
	for key, n := range e[window] {
		if hashOf(key)>>setBits%sets == set {
			total += n
		}
	}
	return total
}

// TestCountsAreWithinTheirBounds: beside an exact twin, no count is too high or
// lacks more than it says, a key that is not listed has no more than it may,
// and one with a sixteenth of its set is always listed.
func TestCountsAreWithinTheirBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, twin, now := &Table{}, exact{}, mono.Time(0)
		keys := rapid.IntRange(1, 5000).Draw(t, "keys")
		skew := rapid.Float64Range(1.01, 3).Draw(t, "skew")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		zipf := rand.NewZipf(rng, skew, 1, uint64(keys))
		for range rapid.IntRange(1, 4).Draw(t, "windows") {
			for range rapid.IntRange(0, 10_000).Draw(t, "denials") {
				key, n, since := fmt.Sprint("k", zipf.Uint64()), 1+rng.Uint64N(3), now
				if rng.IntN(4) == 0 {
					since = max(0, now-Window) // a slot had it
				}
				table.count(key, n, since)
				twin.count(key, n, since)
			}
			now += mono.Time(rapid.Int64Range(0, 2*Window).Draw(t, "later"))
		}
		truth := twin.recent(now)
		listed := map[string]Count{}
		list := table.Rank(1e6, now).List()
		for i, c := range list {
			if c.Denied > truth[c.Key] || c.Denied+c.Missed < truth[c.Key] {
				t.Fatalf("%q: %d to %d, of %d", c.Key, c.Denied, c.Denied+c.Missed, truth[c.Key])
			}
			if i > 0 && c.Denied > list[i-1].Denied {
				t.Fatalf("%q is behind %q", c.Key, list[i-1].Key)
			}
			if !recent(windowAt(c.Since), now) || c.Since > now {
				t.Fatalf("%q: since %d at %d", c.Key, c.Since, now)
			}
			listed[c.Key] = c
		}
		for key, n := range truth {
			set := hashOf(key) >> setBits % sets
			most := twin.ofSet(set, windowAt(now))/ways + twin.ofSet(set, windowAt(now)-1)/ways
			c := listed[key]
			if n-c.Denied > most {
				t.Fatalf("%q lacks %d of %d, more than the %d that others can displace", key, n-c.Denied, n, most)
			}
			if c.Missed > most {
				t.Fatalf("%q may lack %d, more than %d", key, c.Missed, most)
			}
		}
	})
}

// TestFloodDisplacesNoHeavyKey: ten keys denied often stay at the top of the list, among
// 200,000 that are denied once.
func TestFloodDisplacesNoHeavyKey(t *testing.T) {
	const fresh, heavy = 200_000, 20_000
	var table Table
	for i := range fresh {
		table.count(fmt.Sprint("fresh", i), 1, 1)
		table.count(fmt.Sprint("heavy", i%10), 1, 1)
	}
	for i, c := range table.Rank(10, 2).List() {
		require.True(t, strings.HasPrefix(c.Key, "heavy"), "%d: %q", i, c.Key)
		require.LessOrEqual(t, c.Denied, uint64(heavy))
		require.Greater(t, c.Denied, uint64(heavy-fresh/sets/ways))
		require.GreaterOrEqual(t, c.Denied+c.Missed, uint64(heavy))
	}
}

// TestOldDenialsLeave: a count covers the present window and the last one.
func TestOldDenialsLeave(t *testing.T) {
	var table Table
	table.count("a", 3, 5)
	table.count("a", 4, Window+5)
	list := func(now mono.Time) []Count { return table.Rank(10, now).List() }
	require.Equal(t, []Count{{Key: "a", Denied: 7, Since: 5, hash: hashOf("a")}}, list(Window+6))
	require.Equal(t, []Count{{Key: "a", Denied: 4, Since: Window + 5, hash: hashOf("a")}}, list(2*Window))
	require.Empty(t, list(3*Window))
	table.count("a", 1, 2*Window+5)
	table.count("a", 9, 6)
	require.Equal(t, uint64(5), list(2*Window + 6)[0].Denied, "one of an old window is ignored")
	table.count("a", 1, 9*Window)
	table.count("a", 1, 2*Window)
	require.Equal(t, uint64(1), list(9 * Window)[0].Denied)
	require.Equal(t, uint64(0), list(9 * Window)[0].Missed)
}

// TestPendingDenialsAreRanked: those that the table does not have yet count
// with those that it has, and the list has the most denied keys of all.
func TestPendingDenialsAreRanked(t *testing.T) {
	var table Table
	now := mono.Time(3 * Window)
	table.count("both", 50, now)
	table.count("table", 70, now)
	for most := range 6 {
		r := table.Rank(most, now)
		r.Add(hashOf("both"), []byte("both"), 30, now-Window)
		r.Add(hashOf("old"), []byte("old"), 255, Window)
		for i := range 1000 {
			key := fmt.Sprintf("pending%03d", i)
			r.Add(hashOf(key), []byte(key), uint64(i%100), now)
			if i%100 == 0 {
				r.Trim()
				require.LessOrEqual(t, len(r.rest), most)
			}
		}
		want := []string{"pending099", "pending199", "pending299", "pending399", "pending499"}[:most]
		var got []string
		for _, c := range r.List() {
			got = append(got, c.Key)
		}
		require.Equal(t, want, append([]string{}, got...))
	}
	r := table.Rank(2, now)
	r.Add(hashOf("both"), []byte("both"), 30, now-Window)
	r.Add(hashOf("both2"), []byte("both2"), 80, now)
	list := r.List()
	require.Equal(t, []Count{
		{Key: "both", Denied: 80, Since: now - Window, hash: hashOf("both")},
		{Key: "both2", Denied: 80, Since: now, hash: hashOf("both2")},
	}, list)
	require.Empty(t, table.Rank(0, now).List())
	require.Empty(t, table.Rank(-1, now).List())
}

// TestKeysAreBytes: any key is told from any other, up to its longest.
func TestKeysAreBytes(t *testing.T) {
	var table Table
	long := strings.Repeat("\xff", MaxKey)
	for _, key := range []string{"", "\x00", "a\x00", "a", long, long + "more", long[1:]} {
		table.Add(7, []byte(key), 1, 0) // all hashes are equal
	}
	got := map[string]uint64{}
	for _, c := range table.Rank(10, 0).List() {
		got[c.Key] = c.Denied
	}
	require.Equal(t, map[string]uint64{"": 1, "\x00": 1, "a\x00": 1, "a": 1, long: 2, long[1:]: 1}, got)
}

func TestMemoryIsBounded(t *testing.T) {
	require.LessOrEqual(t, reflect.TypeFor[set]().Size()*sets, uintptr(250_000))
	require.LessOrEqual(t, reflect.TypeFor[Table]().Size(), uintptr(512))
	var table Table
	key := []byte("key")
	table.Add(1, key, 1, 0)
	require.Zero(t, testing.AllocsPerRun(100, func() { table.Add(1, key, 1, 0) }))
}

// TestCountsOfManyGoroutines: none is lost.
func TestCountsOfManyGoroutines(t *testing.T) {
	const goroutines, each, keys = 8, 5_000, 100
	var (
		table Table
		all   sync.WaitGroup
	)
	for g := range goroutines {
		all.Go(func() {
			for i := range each {
				table.count(fmt.Sprint(i%keys), 1, 0)
				if i%1000 == g {
					table.Rank(10, 0).List()
				}
			}
		})
	}
	all.Wait()
	list := table.Rank(keys+1, 0).List()
	require.Len(t, list, keys)
	for _, c := range list {
		require.Equal(t, uint64(goroutines*each/keys), c.Denied)
	}
}
