package redisstore

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// TestLayoutIsFixed: the names and lengths in Redis are the same in every version of this
// layout. Another layout needs other names.
func TestLayoutIsFixed(t *testing.T) {
	t.Parallel()
	_, client := newReal(t, redisserver.Options{})
	client.Exchange(t.Context(), member(), []*exchange.Chunk{chunk(id(1, 0), 1, exchange.Record{Field: "kx", Delta: 3600 * second, Attempts: 1000})})
	lengths := func(name string) map[string]int {
		fields, err := client.rdb.HGetAll(t.Context(), name).Result()
		require.NoError(t, err)
		got := map[string]int{}
		for field, value := range fields {
			got[strings.TrimRight(field[:min(2, len(field))], "x")] = len(value)
		}
		return got
	}
	require.Equal(t, map[string]int{"k": 40, "\x00n": 16, "\x00m": 72}, lengths("limiter:2:16:{0-3704}"))
	require.Equal(t, map[string]int{"\x00p": 32, "\x00m": 112}, lengths("limiter:2:fleet:{f}"))
}

// TestBuildsShareState: processes whose scripts differ in their text, and so in
// their hash, count on the same state.
func TestBuildsShareState(t *testing.T) {
	t.Parallel()
	_, client := newReal(t, redisserver.Options{})
	other := script{source: exchangeScript.source + "\n-- another build", hash: strings.Repeat("0", 40)}
	for seq := range int64(3) {
		one(t, client, charge(id(1, 0), seq+1, 10*second))
		c := charge(id(2, 0), seq+1, 10*second)
		k := newChunkCall(client.names[0], c)
		k.script = other
		require.NoError(t, client.exec(t.Context(), []*call{k}))
		require.NoError(t, c.Err)
		require.Equal(t, exchange.Applied, c.Reply.Status)
		require.InDelta(t, (seq+1)*20*second, c.Reply.Keys[0].ToGo, second)
	}
}

// TestOtherVersionsAreLeftAlone: other fields of another version are not read, changed or
// swept. Its data in our fields counts as absent. Under other names neither version sees
// the other.
func TestOtherVersionsAreLeftAlone(t *testing.T) {
	t.Parallel()
	_, client := newReal(t, redisserver.Options{})
	ctx, rdb := t.Context(), client.rdb
	theirs := map[string]map[string]string{
		client.names[0]:               {"Kx": "a state of another kind", "\x00z": "a number", "\x02": ""},
		client.fleet:                  {"\x00q12345678": "a member of another kind", "P": "its own"},
		"limiter:16:{0-3704}":         {"kx": "a state of another length"},
		"limiter:fleet:{f}":           {"\x00p12345678": "a member"},
		"limiter:2:16:{0-3704}:extra": {"kx": ""},
	}
	for name, fields := range theirs {
		require.NoError(t, rdb.HSet(ctx, name, fields).Err())
	}
	require.NoError(t, rdb.HSet(ctx, client.names[0], "kx", strings.Repeat("\xff", 24), "\x00m", strings.Repeat("\xff", 80)).Err())
	require.NoError(t, rdb.HSet(ctx, client.fleet, "\x00m", strings.Repeat("\xff", 56), "\x00g", "?").Err())

	r := one(t, client, charge(id(1, 0), 1, 10*second))
	require.Equal(t, exchange.Applied, r.Status)
	require.InDelta(t, 10*second, r.Keys[0].ToGo, second)
	for seq := range int64(50) { // enough for the sweep to go round
		one(t, client, chunk(id(1, 0), seq+2))
		require.Equal(t, 1, callFleet(t, client, *member()).Members)
	}
	checkTheirs(ctx, t, rdb, theirs)
}

func checkTheirs(ctx context.Context, t *testing.T, rdb redis.UniversalClient, theirs map[string]map[string]string) {
	t.Helper()
	for name, fields := range theirs {
		for field, want := range fields {
			got, err := rdb.HGet(ctx, name, field).Result()
			if err != nil || got != want {
				t.Errorf("%q of %s is %q, %v, want %q", field, name, got, err, want)
			}
		}
	}
}
