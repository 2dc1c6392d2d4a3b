package news

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

func TestLowestAreTold(t *testing.T) {
	var o Outbox
	o.Put(Item{Field: "kgone", Level: -2})
	o.Drop("kgone")
	const items = 3 * exchange.MaxAnnounced
	for i := range items {
		level := float64((i * 7) % items)
		o.Put(Item{Field: fmt.Sprintf("k%.0f", level), Level: level, TAT: mono.Time(time.Hour)})
	}
	o.Put(Item{Field: "kover", Level: -9, TAT: mono.Time(time.Second)})
	o.Put(Item{Field: "kreset", Reset: true, Level: 99})
	o.Put(Item{Field: "k3", Level: -1, TAT: mono.Time(2 * time.Second), Demand: 8})
	list := o.Take(5, mono.Time(time.Second))
	require.Equal(t, exchange.News{Field: "kreset", Reset: true}, list[0], "a reset comes first")
	require.Equal(t, exchange.News{Field: "k3", ToGo: 1e6, Demand: 8}, list[1], "the newest word on a key, in its place")
	require.Equal(t, []string{"kreset", "k3", "k0", "k1", "k2"}, fields(list), "a full bucket is no news")
	list = o.Take(2*exchange.MaxAnnounced, 0)
	require.Len(t, list, exchange.MaxAnnounced, "a call's, at most")
	require.Equal(t, "k4", list[0].Field)
	require.Empty(t, o.Take(0, 0))
	require.False(t, o.Empty())
	require.Len(t, o.Take(items, 0), exchange.MaxAnnounced)
	require.Len(t, o.Take(items, 0), exchange.MaxAnnounced-4)
	require.True(t, o.Empty())
	require.Empty(t, o.Take(items, 0))
}

func fields(list []exchange.News) (names []string) {
	for _, n := range list {
		names = append(names, n.Field)
	}
	return names
}

// TestNothingIsLostThatWasCut: a full outbox holds the lowest items, and returns the
// others from Put or Cut.
func TestNothingIsLostThatWasCut(t *testing.T) {
	var o Outbox
	const items = 3 * outboxSize
	lost := map[string]bool{}
	for i := range items {
		level := (i * 7919) % items
		it := Item{Field: fmt.Sprint("k", level), Level: float64(level), TAT: 1}
		if !o.Put(it) {
			lost[it.Field] = true
		}
		if i%1000 == 0 {
			o.Drop(fmt.Sprint("k", (i*7919+1)%items))
		}
	}
	for _, field := range o.Cut() {
		require.False(t, lost[field] && o.waiting[field] != nil, field)
		lost[field] = true
	}
	require.Empty(t, o.Cut())
	require.LessOrEqual(t, len(o.waiting), outboxSize)
	require.GreaterOrEqual(t, len(o.waiting), outboxKeep)
	next := 0
	for !o.Empty() {
		for _, n := range o.Take(exchange.MaxAnnounced, 0) {
			require.False(t, lost[n.Field])
			for ; n.Field != fmt.Sprint("k", next); next++ {
				require.Less(t, len(lost)+next, items+items/1000)
			}
		}
	}
	require.Greater(t, next, outboxKeep-2, "the lowest, in order, but for those that were dropped")
	require.True(t, o.Put(Item{Field: "kx", Level: items, TAT: 1}), "there is room again")
}

// TestWhatAFailedCallToldIsToldAgain: but no older word than one that came meanwhile,
// and nothing that is no longer true.
func TestWhatAFailedCallToldIsToldAgain(t *testing.T) {
	var o Outbox
	for i := range 3 {
		o.Put(Item{Field: fmt.Sprint("k", i), TAT: mono.Time(time.Hour), Demand: 1})
	}
	require.Len(t, o.Take(9, 0), 3)
	o.Put(Item{Field: "k1", TAT: mono.Time(time.Hour), Demand: 2})
	o.Drop("k2")
	o.PutBack()
	list := o.Take(9, 0)
	require.Equal(t, []string{"k0", "k1"}, fields(list))
	require.EqualValues(t, 2, list[1].Demand)
	o.Announced()
	o.PutBack()
	require.True(t, o.Empty())
}

// TestFleetKeepsItsPace: for any number of announcing processes, and for any number of
// the latest news.
func TestFleetKeepsItsPace(t *testing.T) {
	const members, perSecond = 100, receivedPerSecond / 100
	paces, latest, now := make([]Pace, members), int64(7), mono.Time(time.Second)
	begin := latest
	for i := range paces {
		paces[i].Latest(latest)
	}
	for range 60 * 40 {
		for i := range paces { // all call at the same time, and hear of each other a call later
			latest += int64(min(exchange.MaxAnnounced, paces[i].Room(members, now)))
		}
		for i := range paces {
			paces[i].Latest(latest)
		}
		now = now.Add(time.Second / 40)
	}
	require.InDelta(t, 60*perSecond, latest-begin, members*exchange.MaxAnnounced)

	var p Pace
	p.Latest(1 << 40)
	require.Equal(t, perSecond, p.Room(members, now), "what was told before this process came is not its concern")
	p.Latest(1 << 50)
	require.Zero(t, p.Room(members, now))
	require.Equal(t, perSecond, p.Room(members, now.Add((paceDebt+1)*time.Second)))
	p.Latest(0)
	require.Equal(t, perSecond, p.Room(members, now.Add((paceDebt+1)*time.Second)), "a lost state")
}

// TestTableForgetsTheLeastRecent: the news that was received, or read, longest ago.
func TestTableForgetsTheLeastRecent(t *testing.T) {
	table := NewTable()
	put := func(field string, tat mono.Time) { table.Put(Item{Field: field, TAT: tat}) }
	has := func(field string) bool {
		_, ok := table.Get(field, 10)
		return ok
	}
	put("over", 10)
	require.False(t, has("over"), "the bucket is full again")
	put("a", 20)
	put("a", 30)
	table.Put(Item{Field: "over", Reset: true})
	put("over", 40)
	require.True(t, has("over"))
	table.Put(Item{Field: "over", Reset: true})
	require.False(t, has("over"), "there was a Reset")
	put("b", 20)
	for i := range tableSize - 2 {
		put(fmt.Sprint(i), 20)
	}
	require.True(t, has("a"))
	put("one more", 20)
	require.False(t, has("b"))
	require.True(t, has("a"))
	require.True(t, has("one more"))
	require.Equal(t, tableSize, table.items.Len())
}

// TestHoldIsKept: a hold outlives later news of its key, and a failed call, but for a reset.
// A process announces its own holds again, and after a loss all.
func TestHoldIsKept(t *testing.T) {
	var (
		h Holds
		o Outbox
	)
	second, every := mono.Time(time.Second), mono.Time(HoldsEvery)
	held := func(field string, seconds int64) exchange.News {
		return exchange.News{Field: field, Held: true, ToGo: seconds * 1e6}
	}
	h.Announce(&o, 1)
	h.Drop("k")
	require.True(t, h.Empty())
	require.Zero(t, h.Until("k"))
	h.Put("kown", 90*second, true)
	h.Put("kown", 80*second, true)
	h.Put("kreceived", 95*second, false)
	require.Equal(t, 90*second, h.Until("kown"), "the longest counts")
	o.Put(Item{Field: "klow", Level: -5, TAT: second})
	h.Announce(&o, 0)
	o.Put(Item{Field: "kown", TAT: 120 * second})
	require.Equal(t, []exchange.News{held("kown", 90), {Field: "klow", ToGo: 1e6}}, o.Take(9, 0))
	o.Put(Item{Field: "kown", TAT: 130 * second})
	o.PutBack()
	require.Equal(t, held("kown", 90), o.Take(1, 0)[0], "after a failed call")
	o.Announced()
	h.Announce(&o, every-1)
	require.NotContains(t, fields(o.Take(9, 0)), "kown")
	h.Announce(&o, every)
	require.Equal(t, []string{"kown"}, fields(o.Take(9, every)))
	h.AnnounceAll()
	h.Announce(&o, every)
	require.Equal(t, []string{"kreceived", "kown"}, fields(o.Take(9, every)))

	o.Put(Item{Field: "kown", HeldUntil: 90 * second})
	o.Put(Item{Field: "kown", Reset: true})
	require.Equal(t, []exchange.News{{Field: "kown", Reset: true}}, o.Take(9, 0))
	o.Put(Item{Field: "kown", Reset: true})
	o.Put(Item{Field: "kown", HeldUntil: 9 * second})
	require.Equal(t, []exchange.News{{Field: "kown", Reset: true}, held("kown", 9)}, o.Take(9, 0), "a hold after a reset")

	h.Drop("kown")
	require.Zero(t, h.Until("kown"))
	h.Announce(&o, 200*second)
	require.NotZero(t, h.Until("kreceived"))
	h.Announce(&o, 700*second)
	require.Zero(t, h.Until("kreceived"), "one that has ended ten minutes ago")
	require.True(t, h.Empty(), "decisions look for none any more")
	for i := range 3 * outboxSize {
		h.Put(fmt.Sprint("k", i), 900*second, true)
	}
	announced := map[string]bool{}
	for range 3 * outboxSize / exchange.MaxAnnounced * 2 {
		h.Announce(&o, 701*second)
		for _, n := range o.Take(exchange.MaxAnnounced, 701*second) {
			announced[n.Field] = true
		}
		o.Announced()
	}
	require.Len(t, announced, 3*outboxSize, "all, in their turn")
	require.Empty(t, o.Cut())
}

// TestResetAndHoldFitIntoACall: the two pieces of one key are never more than a call takes.
func TestResetAndHoldFitIntoACall(t *testing.T) {
	var o Outbox
	for i := range 2 * exchange.MaxAnnounced {
		it := Item{Field: fmt.Sprint("k", i), Reset: true}
		o.Put(it)
		if i%3 == 0 {
			o.Put(Item{Field: it.Field, HeldUntil: mono.Time(time.Hour)})
		}
	}
	pieces := 0
	for !o.Empty() {
		list := o.Take(1000, 0)
		require.LessOrEqual(t, len(list), exchange.MaxAnnounced)
		require.NotEmpty(t, list)
		pieces += len(list)
	}
	require.Equal(t, 2*exchange.MaxAnnounced+(2*exchange.MaxAnnounced+2)/3, pieces)
}

// TestHoldsAreBounded: also those of a process that announces none, having no Redis.
func TestHoldsAreBounded(t *testing.T) {
	var h Holds
	for i := range holdsKept + 1000 {
		h.Put(fmt.Sprint("k", i), 1, true)
	}
	require.Equal(t, holdsKept, h.items.Len())
	require.Len(t, h.pending, holdsKept)
}
