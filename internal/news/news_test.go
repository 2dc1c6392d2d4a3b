package news

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

func TestLowestAreTold(t *testing.T) {
	var o Outbox
	o.Put(Item{Field: "kgone", Level: -2})
	o.Drop("kgone")
	for i := range 3 * exchange.MaxTold {
		level := float64((i * 7) % (3 * exchange.MaxTold))
		o.Put(Item{Field: fmt.Sprintf("k%.0f", level), Level: level, TAT: int64(time.Hour)})
	}
	o.Put(Item{Field: "kreset", Reset: true, Level: 99})
	o.Put(Item{Field: "k3", Level: -1, TAT: int64(2 * time.Second), Demand: 8})
	list := o.Take(int64(time.Second))
	require.Len(t, list, exchange.MaxTold)
	require.Equal(t, exchange.News{Field: "kreset", Reset: true}, list[0], "a reset comes first")
	require.Equal(t, exchange.News{Field: "k3", ToGo: 1e6, Demand: 8}, list[1], "the newest word on a key, in its place")
	for i, n := range list[2:] {
		require.Equal(t, []string{"k0", "k1", "k2", "k4", "k5", "k6", "k7", "k8", "k9", "k10", "k11", "k12", "k13", "k14"}[i], n.Field)
	}
	require.True(t, o.Empty())
	require.Empty(t, o.Take(0))
}

func TestTableForgetsTheOldest(t *testing.T) {
	table := NewTable()
	put := func(field string, tat int64) { table.Put(Item{Field: field, TAT: tat}) }
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
	for i := range tableSize - 2 {
		put(fmt.Sprint(i), 20)
	}
	require.True(t, has("a"))
	put("one more", 20)
	put("and one", 20)
	require.False(t, has("a"))
	require.True(t, has("one more"))
	require.LessOrEqual(t, len(table.items), tableSize)
}
