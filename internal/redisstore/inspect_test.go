package redisstore

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// inspected runs a test on each kind of client.
func inspected(t *testing.T, test func(t *testing.T, c *Client)) {
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		_, c := newReal(t, redisserver.Options{})
		test(t, c)
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		if testing.Short() {
			t.Skip("runs without -short, where only TestCluster starts a Cluster")
		}
		rdb := tuned(t, &redis.UniversalOptions{Addrs: servertest.Cluster(t).Addrs()})
		test(t, New(rdb, "limiter"))
	})
}

// TestInspect looks at a key of which 30 s and 5 tokens were reported, by one
// of two processes.
func TestInspect(t *testing.T) {
	inspected(t, func(t *testing.T, c *Client) {
		field := exchange.FieldOf("user:42")
		chunk := chunk(id(1, 0), 1, exchange.Record{Field: field, Delta: 30e6, Attempts: 5000})
		chunk.Tau = time.Hour // it does not decay while this runs
		chunk.Partition = exchange.Partition(field, c.Partitions())
		c.Exchange(t.Context(), &exchange.FleetCall{Process: [8]byte{1}, Silent: time.Second, Forget: time.Minute}, []*exchange.Chunk{chunk})
		require.NoError(t, chunk.Err)
		other := exchange.FleetCall{Process: [8]byte{2}, Silent: time.Second, Forget: time.Minute}
		c.Exchange(t.Context(), &other, nil)
		require.NoError(t, other.Err)
		require.NoError(t, c.rdb.HSet(t.Context(), c.fleet, "\x00q", "something new", "\x00p", "x", "\x00pshort", "12345678").Err())
		before := dump(t, c)

		s, err := c.Inspect(t.Context(), field, time.Hour)
		require.NoError(t, err)
		require.Equal(t, before, dump(t, c), "nothing is changed")
		require.True(t, s.Exists)
		require.Equal(t, c.names[chunk.Partition], s.Hash)
		require.NotNil(t, s.Key)
		require.InDelta(t, 30, s.Key.ToGo.Seconds(), 5)
		require.Less(t, s.Key.ToGo, 30*time.Second+time.Millisecond)
		require.InDelta(t, 5./3600, s.Key.Demand, 5./3600/100)
		require.Less(t, s.Key.Written, 5*time.Second)
		require.Len(t, s.Fleet, 2)
		require.ElementsMatch(t, [][8]byte{{1}, {2}}, [][8]byte{s.Fleet[0].Process, s.Fleet[1].Process})
		require.Less(t, s.Fleet[1].Seen, 5*time.Second)
		require.LessOrEqual(t, s.Fleet[0].Seen, s.Fleet[1].Seen)
	})
}

// dump is all that is stored.
func dump(t *testing.T, c *Client) map[string]map[string]string {
	all := map[string]map[string]string{}
	for _, name := range append([]string{c.fleet}, c.names...) {
		fields, err := c.rdb.HGetAll(t.Context(), name).Result()
		require.NoError(t, err)
		all[name] = fields
	}
	return all
}

func TestInspectWhatIsNotThere(t *testing.T) {
	inspected(t, func(t *testing.T, c *Client) {
		field := exchange.FieldOf("user:42")
		s, err := c.Inspect(t.Context(), field, time.Second)
		require.NoError(t, err)
		require.Equal(t, Inspection{Hash: c.names[exchange.Partition(field, c.Partitions())]}, s)

		empty := chunk(id(1, 0), 1)
		empty.Partition = exchange.Partition(field, c.Partitions())
		one(t, c, empty)
		s, err = c.Inspect(t.Context(), field, time.Second)
		require.NoError(t, err)
		require.True(t, s.Exists)
		require.Nil(t, s.Key)
	})
}

func TestInspectWhatIsSomebodyElses(t *testing.T) {
	inspected(t, func(t *testing.T, c *Client) {
		field := exchange.FieldOf("user:42")
		hash := c.names[exchange.Partition(field, c.Partitions())]
		for _, value := range []string{"", "hello", strings.Repeat("\xff\x7f", 12), strings.Repeat("\x00", 25)} {
			require.NoError(t, c.rdb.HSet(t.Context(), hash, field, value).Err())
			_, err := c.Inspect(t.Context(), field, time.Second)
			require.ErrorIs(t, err, errState, "%q", value)
		}
		require.NoError(t, c.rdb.Del(t.Context(), hash).Err())
		require.NoError(t, c.rdb.Set(t.Context(), hash, "x", 0).Err())
		_, err := c.Inspect(t.Context(), field, time.Second)
		require.ErrorContains(t, err, "the limiter's key holds something else")
		require.NoError(t, c.rdb.Del(t.Context(), hash).Err())
		require.NoError(t, c.rdb.Set(t.Context(), c.fleet, "x", 0).Err())
		_, err = c.Inspect(t.Context(), field, time.Second)
		require.ErrorContains(t, err, "the limiter's key holds something else")
	})
}

// TestInspectByTheClockOfTheHash: it may be ahead of the server's own.
func TestInspectByTheClockOfTheHash(t *testing.T) {
	server, c := newTold(t, "")
	one(t, c, charge(id(1, 0), 1, 30e6))
	server.set(epoch - 3600e6) // a new primary, whose clock is behind
	one(t, c, charge(id(1, 0), 2, 0))
	server.set(epoch - 3590e6)
	state := c.rdb.HGet(context.Background(), c.names[0], "kx").Val()
	_, now, err := glance(t.Context(), c.rdb, c.names[0], clockInPartition)
	require.NoError(t, err)
	require.Equal(t, int64(epoch+10e6), now)
	tat, ok := exchange.ReadInts(state, 1)
	require.True(t, ok)
	require.Equal(t, int64(epoch+30e6), tat[0])
}
