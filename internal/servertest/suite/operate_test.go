package suite_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// missing is the tokens that the fleet's bucket lacks to be full, as a process sees it.
func missing(l *limiter.Limiter, key string) float64 {
	r := l.Peek(key)
	return r.ResetAfter.Seconds() * float64(r.Limit.Rate)
}

// TestRedeployedLimitKeepsTokens: the processes of a deploy with another limit keep the
// tokens and the debts of those before them.
func TestRedeployedLimitKeepsTokens(t *testing.T) {
	t.Parallel()
	addr := servertest.Server(t, redisserver.Options{}).Addr()
	hours := func(n int, h time.Duration) limiter.Limit { return limiter.Per(n, h*time.Hour) }
	for i, tc := range []struct {
		from, to limiter.Limit
		taken    int
		want     float64 // missing
	}{
		{hours(10, 100), hours(10, 1), 10, 10},
		{hours(10, 100), hours(100, 100), 4, 94},
		{hours(100, 10), hours(10, 10), 50, 0},
		{hours(100, 10), hours(100, 1000), 100, 100},
		{hours(10, 1), hours(10, 100), 30, 30},
	} {
		prefix := fmt.Sprint("redeployed", i)
		old := start(t, tuned(addr), limiter.Config{Limit: tc.from, Prefix: prefix, Processes: 1})
		old.Charge("k", tc.taken)
		exchanged(t, old)
		next := start(t, tuned(addr), limiter.Config{Limit: tc.to, Prefix: prefix, Processes: 1})
		next.Charge("k", 1) // of a bucket that looks full here, or that there is news of
		exchanged(t, next)
		if got := missing(next, "k") - 1; math.Abs(got-tc.want) > 0.1 && (tc.want != 0 || got > 0.1) {
			t.Errorf("%v, %d taken, now %v: %.2f tokens are missing, want %v", tc.from, tc.taken, tc.to, got, tc.want)
		}
		require.NoError(t, old.Close())
		require.NoError(t, next.Close())
	}
}

// TestDebtsOutliveALossOfRedis: a known debt is reported again in full, up to an hour of
// it, whichever process made it.
func TestDebtsOutliveALossOfRedis(t *testing.T) {
	t.Parallel()
	server := servertest.Server(t, redisserver.Options{})
	lim := limiter.Per(10, 10*time.Second)
	for _, tc := range []struct {
		charge int
		want   float64
	}{{1000, 1000}, {10_000, 10 + 3600}} {
		key := fmt.Sprint("k", tc.charge)
		maker := start(t, tuned(server.Addr()), limiter.Config{Limit: lim, Processes: 2})
		seer := start(t, tuned(server.Addr()), limiter.Config{Limit: lim, Processes: 2})
		begin := time.Now()
		maker.Charge(key, tc.charge)
		exchanged(t, maker)
		seer.Allow(key)
		exchanged(t, seer)
		require.NoError(t, maker.Close())
		rdb := server.Client()
		require.NoError(t, rdb.FlushAll(t.Context()).Err())
		require.NoError(t, rdb.Close())
		seer.Allow("another")
		exchanged(t, seer)
		exchanged(t, seer)
		newcomer := start(t, tuned(server.Addr()), limiter.Config{Limit: lim, Processes: 2})
		newcomer.Allow(key)
		exchanged(t, newcomer)
		passed := time.Since(begin).Seconds() * float64(lim.Rate)
		if got := missing(newcomer, key); got < tc.want-passed-1 || got > tc.want+3 {
			t.Errorf("%d charged: a newcomer after the loss sees %.1f tokens missing, want %.1f", tc.charge, got, tc.want)
		}
		require.NoError(t, seer.Close())
		require.NoError(t, newcomer.Close())
	}
}

// TestHoldReachesTheFleet: on a real server a hold reaches a process with the key, one
// without it, and, after a loss, one that starts later. Reset ends it for all.
func TestHoldReachesTheFleet(t *testing.T) {
	t.Parallel()
	server := servertest.Server(t, redisserver.Options{})
	for _, lim := range []limiter.Limit{limiter.Per(1000, time.Second), limiter.Per(10, time.Hour), {Rate: rate.Inf}} {
		cfg := limiter.Config{Limit: lim, Processes: 2, Prefix: lim.String()}
		holder, other := start(t, tuned(server.Addr()), cfg), start(t, tuned(server.Addr()), cfg)
		require.True(t, other.Allow("with"))
		holder.Hold("with", time.Hour)
		holder.Hold("without", time.Hour)
		held := func(l *limiter.Limiter) bool { return !l.Peek("with").Allowed && !l.Peek("without").Allowed }
		require.True(t, held(holder))
		eventually(t, "the other process follows", func() bool { return held(other) })
		rdb := server.Client()
		require.NoError(t, rdb.FlushAll(t.Context()).Err())
		require.NoError(t, rdb.Close())
		exchanged(t, holder)
		require.NoError(t, other.Close())
		exchanged(t, holder)
		newcomer := start(t, tuned(server.Addr()), cfg)
		exchanged(t, newcomer)
		eventually(t, "a process that starts after a loss follows", func() bool { return held(newcomer) })
		require.Greater(t, newcomer.Peek("with").RetryAfter, 59*time.Minute)
		for _, key := range []string{"with", "without"} {
			eventually(t, "a Reset", func() bool { return newcomer.Reset(t.Context(), key) == nil })
			require.True(t, newcomer.Allow(key))
			eventually(t, "a Reset ends the hold of the others", func() bool { return holder.Peek(key).Allowed })
		}
	}
}

// TestRefundAfterEvictionIsNoGift: a debt outlives the eviction of its key, here and on
// its way to Redis, so that giving it back fills nothing.
func TestRefundAfterEvictionIsNoGift(t *testing.T) {
	t.Parallel()
	addr := servertest.Server(t, redisserver.Options{}).Addr()
	for name, addrs := range map[string][]string{"Redis up": {addr}, "no Redis": nil} {
		t.Run(name, func(t *testing.T) {
			const maxKeys = 100
			cfg := limiter.Config{Limit: limiter.Per(100, 1000*time.Hour), Processes: 1, MaxKeys: maxKeys}
			l, err := limiter.New(cfg)
			require.NoError(t, err)
			if addrs != nil {
				l = start(t, tuned(addrs...), cfg)
				exchanged(t, l)
			}
			admitted := 0
			for i := range 30 {
				for l.Allow("user") {
					admitted++
				}
				l.Charge("user", 50)
				for j := range 2 * maxKeys {
					l.Allow(fmt.Sprint("other", i, j))
				}
				l.Refund("user", 50)
				if i%5 == 0 && addrs != nil {
					exchanged(t, l)
				}
			}
			for l.Allow("user") {
				admitted++
			}
			require.Equal(t, 100, admitted)
		})
	}
}
