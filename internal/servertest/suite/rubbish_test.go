package suite_test

import (
	"math/rand/v2"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// vandalize overwrites a field in three of all hashes with random bytes of its
// own length or another.
func vandalize(t testing.TB, client redis.UniversalClient, rng *rand.Rand) {
	t.Helper()
	names, err := client.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	for _, name := range names {
		fields, err := client.HGetAll(t.Context(), name).Result()
		require.NoError(t, err)
		for field, value := range fields {
			b := []byte(value)
			if rng.IntN(4) == 0 {
				b = make([]byte, rng.IntN(80))
			}
			for i := range b {
				if rng.IntN(3) > 0 {
					b[i] = byte(rng.Uint32())
				}
			}
			if rng.IntN(3) == 0 {
				require.NoError(t, client.HSet(t.Context(), name, field, b).Err())
			}
		}
	}
}

// TestRubbishInRedisStopsNothing: with any foreign data in the limiter's keys, decisions
// go on. Invalid fields are replaced, another type is reported until it is gone, and
// afterwards limits are shared as before.
func TestRubbishInRedisStopsNothing(t *testing.T) {
	t.Parallel()
	s := servertest.Server(t, redisserver.Options{})
	admin := s.Client()
	t.Cleanup(func() { _ = admin.Close() })
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	a := start(t, tuned(s.Addr()), limiter.Config{Limit: slow, Processes: 2})
	b := start(t, tuned(s.Addr()), limiter.Config{Limit: slow, Processes: 2})
	both := []*limiter.Limiter{a, b}
	inStep := func() bool {
		for _, l := range both {
			if st := l.Status(); st.State != limiter.Synced || st.Err != nil || st.Processes != 2 {
				return false
			}
		}
		return true
	}
	ask := func(key string) {
		for _, l := range both {
			if r := l.Take(key); r.Allowed == (r.RetryAfter != 0) {
				t.Errorf("%q: %+v", key, r)
			}
		}
	}
	shared := func(key string) {
		t.Helper()
		eventually(t, "in step", inStep)
		require.True(t, a.AllowN(key, 60), key)
		eventually(t, "shared", func() bool {
			b.AllowN(key, 0)
			return syncOnce(a) == nil && b.AllowN(key, 1) && syncOnce(b) == nil && seen(b, key) <= 39
		})
	}
	shared("before")
	for range 300 {
		vandalize(t, admin, rng)
		ask("during")
	}
	shared("after")

	names, err := admin.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	for _, name := range names {
		require.NoError(t, admin.Set(t.Context(), name, "rubbish", 0).Err())
	}
	eventually(t, "degraded", func() bool {
		ask("during")
		return a.Status().State == limiter.Degraded && b.Status().State == limiter.Degraded
	})
	require.ErrorContains(t, a.Status().Err, "choose another prefix")
	require.NoError(t, admin.FlushDB(t.Context()).Err())
	shared("at last")
}
