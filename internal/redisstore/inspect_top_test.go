package redisstore

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

// TestTop: over all partitions, keys that are denied come first, then those with
// the most demand for their limit, and nothing is changed. Fields of others are
// no keys.
func TestTop(t *testing.T) {
	inspected(t, func(t *testing.T, c *Client) {
		const tau = time.Hour // demand does not decay while this runs
		perHour := func(burst int64) exchange.Limit { return lim(3600e6, burst) }
		reports := uint32(0)
		report := func(key string, toGo time.Duration, attempts int64, l exchange.Limit) {
			field := exchange.FieldOf(key)
			chunk := chunk(id(1, 0), 1, exchange.Record{Field: field, Delta: toGo.Microseconds(), Attempts: attempts * 1000, Limit: l})
			chunk.Tau, chunk.Partition = tau, exchange.Partition(field, c.Partitions())
			reports++
			binary.LittleEndian.PutUint32(chunk.ID[:], reports)
			c.Exchange(t.Context(), nil, []*exchange.Chunk{chunk})
			require.NoError(t, chunk.Err)
		}
		for i := range 2000 { // a third of its limit each
			report(fmt.Sprintf("%*d", 4+i%50, i), 20*time.Minute, 20, perHour(60))
		}
		long := strings.Repeat("long", 20)
		report("denied", time.Hour, 300, perHour(60))
		report("denied, a little", time.Hour, 61, perHour(60))
		report(long, 2*time.Hour, 1000, perHour(600))
		report("fresh, with a burst", 30*time.Minute, 900, perHour(600)) // half is left
		fleet := exchange.FleetCall{Process: [8]byte{1}, Silent: time.Second, Forget: time.Minute}
		c.Exchange(t.Context(), &fleet, nil)
		require.NoError(t, fleet.Err)
		for _, name := range c.names {
			require.NoError(t, c.rdb.HSet(t.Context(), name, "kbad", "x", "z", "y", "", "", "\x00z", strings.Repeat("\xff", stateBytes),
				"kzero", strings.Repeat("\x00", stateBytes)).Err())
		}
		before := dump(t, c)

		for n, want := range map[int][]string{
			1: {exchange.FieldOf(long)},
			4: {exchange.FieldOf(long), "kdenied", "kdenied, a little", "kfresh, with a burst"},
		} {
			top, err := c.Top(t.Context(), n, tau)
			require.NoError(t, err)
			require.Equal(t, 2004, top.Keys)
			require.Len(t, top.Fleet, 1)
			var got []string
			for _, k := range top.Top {
				got = append(got, k.Field)
			}
			require.Equal(t, want, got)
			first := top.Top[0]
			require.InDelta(t, 400./3600, first.Denied(), 0.01)
			require.InDelta(t, 1000./600, first.Demand/first.Rate(), 0.02)
			require.InDelta(t, -600, first.Level(), 5)
		}
		all, err := c.Top(t.Context(), 1e6, tau)
		require.NoError(t, err)
		require.Len(t, all.Top, 2004)
		require.Zero(t, all.Top[3].Denied(), "a key with half of its burst is not denied")
		require.InDelta(t, 1./3, all.Top[2003].Demand/all.Top[2003].Rate(), 0.02)
		require.Equal(t, before, dump(t, c), "nothing is changed")
	})
}

func TestTopOfNothing(t *testing.T) {
	inspected(t, func(t *testing.T, c *Client) {
		top, err := c.Top(t.Context(), 5, time.Second)
		require.NoError(t, err)
		require.Equal(t, TopInspection{}, top)
		require.NoError(t, c.rdb.Set(t.Context(), c.names[7], "x", 0).Err())
		_, err = c.Top(t.Context(), 5, time.Second)
		require.ErrorContains(t, err, "the limiter's key holds something else")
		require.NoError(t, c.rdb.Del(t.Context(), c.names[7]).Err())
		require.NoError(t, c.rdb.Set(t.Context(), c.fleet, "x", 0).Err())
		_, err = c.Top(t.Context(), 5, time.Second)
		require.ErrorContains(t, err, "the limiter's key holds something else")
	})
}

// TestDeniedIsDemandAboveTheLimit: of a bucket that was empty at the last report.
func TestDeniedIsDemandAboveTheLimit(t *testing.T) {
	of := func(toGo, written time.Duration, demand float64) KeyInspection {
		return KeyInspection{ToGo: toGo, Written: written, Demand: demand, Limit: lim(10e6, 100)} // 10/s
	}
	for _, c := range []struct {
		of            KeyInspection
		denied, level float64
	}{
		{of(10*time.Second, 0, 25), 15, 0},
		{of(12*time.Second, 0, 25), 15, -20},
		{of(8*time.Second, 0, 25), 0, 20},
		{of(8*time.Second, 1900*time.Millisecond, 25), 15, 20},
		{of(10*time.Second, 0, 9), 0, 0},
		{of(-time.Hour, 0, 25), 0, 100},
	} {
		require.InDelta(t, c.denied, c.of.Denied(), 1e-9)
		require.InDelta(t, c.level, c.of.Level(), 1e-9)
	}
	huge := KeyInspection{ToGo: math.MinInt64 / 2, Limit: lim(1, 1<<31)}
	require.InDelta(t, float64(1<<31), huge.Level(), 0)
}
