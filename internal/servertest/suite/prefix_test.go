package suite_test

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// TestPrefixesDoNotMix: two limits on one key, as two windows are, share a
// client and a Redis under prefixes of their own, one of which begins like the
// other's hashes; each has its own state and its own fleet.
func TestPrefixesDoNotMix(t *testing.T) {
	t.Parallel()
	client := redis.NewUniversalClient(tuned(servertest.Server(t, redisserver.Options{}).Addr()))
	defer client.Close()
	join := func(prefix string, lim limiter.Limit) *limiter.Limiter {
		l, err := limiter.New(limiter.Config{
			Limit: lim, Redis: client, Prefix: prefix, Processes: 1, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		eventually(t, "synced", synced(l))
		return l
	}
	narrow, wide := join("api", limiter.Per(5, 1000*time.Hour)), join("api:16", limiter.Per(50, 1000*time.Hour))
	for range 9 {
		limiter.AllowAll(narrow.Part("user", 1), wide.Part("user", 2))
	}
	exchanged(t, narrow)
	exchanged(t, wide)
	for _, tc := range []struct {
		l    *limiter.Limiter
		want int
	}{{join("api", limiter.Per(5, 1000*time.Hour)), 5 + 1}, {join("api:16", limiter.Per(50, 1000*time.Hour)), 5*2 + 1}} {
		tc.l.Charge("user", 1) // of a bucket that looks full here, or that there is news of
		exchanged(t, tc.l)
		r := tc.l.Peek("user")
		if got := int(r.ResetAfter.Seconds()*float64(r.Limit.Rate) + 0.5); got != tc.want {
			t.Errorf("%v: a newcomer sees %d tokens used, want %d", r.Limit, got, tc.want)
		}
		if n := tc.l.Status().Processes; n != 2 {
			t.Errorf("%v: a fleet of %d, want 2", r.Limit, n)
		}
	}
	keys, err := client.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	for _, key := range keys {
		if !strings.HasPrefix(key, "api:") {
			t.Errorf("%q is outside of the prefixes", key)
		}
	}
}
