package replay

import (
	"slices"
	"testing"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestTableIsAnLRU compares the table with another LRU cache, use by use.
func TestTableIsAnLRU(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 8).Draw(t, "most")
		var lost, wantLost []int
		ours := newTable(most, func(n *int) { lost = append(lost, *n) })
		theirs, err := simplelru.NewLRU(most, func(_ uint64, n *int) { wantLost = append(wantLost, *n) })
		require.NoError(t, err)
		for i, hash := range rapid.SliceOf(rapid.Uint64Range(0, 12)).Draw(t, "hashes") {
			n, isNew := ours.get(hash)
			want, known := theirs.Get(hash)
			if !known {
				require.Zero(t, *n, "a new value is zero")
				*n = i + 1
				theirs.Add(hash, new(i+1))
			} else {
				require.Equal(t, *want, *n)
			}
			require.Equal(t, !known, isNew)
			require.Equal(t, theirs.Len(), ours.len())
		}
		require.Equal(t, wantLost, lost)
		var order []int
		ours.all(func(n *int) { order = append(order, *n) })
		var wantOrder []int
		for _, n := range theirs.Values() {
			wantOrder = append(wantOrder, *n)
		}
		slices.Reverse(wantOrder)
		require.Equal(t, wantOrder, order)
		for hash := range uint64(13) {
			_, known := ours.peek(hash)
			require.Equal(t, theirs.Contains(hash), known)
		}
	})
}

func TestTableKeepsItsPointers(t *testing.T) {
	table := newTable(10*chunkSize, func(*int) {})
	first, _ := table.get(1)
	for hash := range uint64(5 * chunkSize) {
		table.get(hash + 2)
	}
	*first = 7
	again, isNew := table.get(1)
	require.False(t, isNew)
	require.Equal(t, 7, *again)
}

func TestTopOfTheDenied(t *testing.T) {
	d := newDenials(3)
	for i, name := range []string{"b", "a", "a", "c", "a", "b", "d"} { // d evicts c
		d.add(uint64(name[0]), []byte(name), float64(i))
	}
	require.Equal(t, []denied{{"a", 3, 1, 4}, {"b", 2, 0, 5}}, d.top(2))
	require.Len(t, d.top(10), 3)
	require.Empty(t, d.top(0))
	require.Equal(t, 1, d.forgotten)
}

func TestNamesAreBoundedAndText(t *testing.T) {
	require.Equal(t, "GET /a", nameOf([]byte("GET\x1f/a")))
	require.Equal(t, "a�b", nameOf([]byte("a\xffb")))
	require.Len(t, nameOf(make([]byte, 1000)), maxName+len("…"))
}
