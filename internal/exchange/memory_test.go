package exchange

import (
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/longtest"
)

func TestMemoryRollsBack(t *testing.T) {
	t.Parallel()
	tw := newTwin(16)
	member := func(p byte) FleetCall {
		return FleetCall{Process: [8]byte{p}, Silent: time.Second, Forget: time.Minute}
	}
	one(t, tw, charge(id(1, 0), 1, 5))
	callFleet(t, tw, member(1))
	s := tw.Snapshot()
	for range 2 {
		require.EqualValues(t, 10, one(t, tw, charge(id(1, 0), 2, 5)).Keys[0].ToGo)
		require.Equal(t, 2, callFleet(t, tw, member(2)).Members)
		tw.Restore(s)
		require.Equal(t, Lost, one(t, tw, charge(id(1, 0), 3, 5)).Status)
		require.Equal(t, 1, callFleet(t, tw, member(1)).Members)
	}
}

func TestMemoryStaysSmall(t *testing.T) {
	t.Parallel()
	tw := newTwin(1)
	for i := range longtest.Choose(50_000, 200_000, 200_000) {
		tw.time += 10_000
		c := chunk(id(1, 0), int64(i+1), Record{Field: "k" + time.UnixMicro(tw.time).String(), Delta: 1})
		one(t, tw, c)
	}
	live := int(KeepState.Microseconds() / 10_000)
	require.Less(t, len(tw.state.parts[0].keys), 2*live+2048)
}

func TestPartitionsAreEven(t *testing.T) {
	t.Parallel()
	counts := map[int]int{}
	for i := range 64_000 {
		counts[Partition("k"+time.Duration(i).String(), 64)]++
	}
	for p := range maps.Keys(counts) {
		require.InDelta(t, 1000, counts[p], 150)
	}
	require.Len(t, counts, 64)
}
