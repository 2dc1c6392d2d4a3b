package suite_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// TestEstimatesOnRedis: one process takes estimates and settles them, to less and to more,
// before and after the exchange; another one sees in Redis the actual cost, and of an
// estimate that is not settled the estimate.
func TestEstimatesOnRedis(t *testing.T) {
	t.Parallel()
	o := tuned(servertest.Server(t, redisserver.Options{}).Addr())
	copied := *o
	a := start(t, o, limiter.Config{Limit: slow, Processes: 2})
	b := start(t, &copied, limiter.Config{Limit: slow, Processes: 2})
	for _, l := range []*limiter.Limiter{a, b} {
		eventually(t, "a fleet of two", func() bool { st := l.Status(); return st.State == limiter.Synced && st.Processes == 2 })
	}
	charged := func(want int) {
		t.Helper()
		exchanged(t, a)
		b.AllowN("k", 0) // brings the key into memory
		exchanged(t, b)
		exchanged(t, b)
		require.Equal(t, want, slow.Burst-seen(b, "k"))
	}
	less, r := a.Estimate("k", 30)
	require.True(t, r.Allowed)
	es, r, _ := limiter.EstimateAll(a.Part("k", 10), a.Part("other", 1))
	require.True(t, r.Allowed)
	charged(40)
	less.Settle(5)
	less.Settle(90)
	charged(15)
	es[0].Settle(25)
	charged(30)
	at, r := a.Estimate("k", 20)
	require.True(t, r.Allowed)
	at.Settle(12)
	charged(42)
}
