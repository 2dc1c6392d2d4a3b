package promlimit_test

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
	"github.com/seed-e56e777b/limiter/promlimit"
)

func local(t *testing.T, cfg limiter.Config) *limiter.Limiter {
	t.Helper()
	if cfg.Limit == (limiter.Limit{}) {
		cfg.Limit = limiter.Per(2, time.Hour)
	}
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	l, err := limiter.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// shared is a limiter on the server, which the test may close.
func shared(t *testing.T, server *redisserver.Server) *limiter.Limiter {
	t.Helper()
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{server.Addr()}}))
	t.Cleanup(func() { client.Close() })
	return local(t, limiter.Config{Redis: client, SyncInterval: 10 * time.Millisecond, Processes: 1})
}

func registry(t *testing.T, limiters map[string]*limiter.Limiter) *prometheus.Registry {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	for name, l := range limiters {
		require.NoError(t, reg.Register(promlimit.NewCollector(name, l)))
	}
	return reg
}

func TestNamesAreThoseThatPrometheusRecommends(t *testing.T) {
	reg := registry(t, map[string]*limiter.Limiter{"a": local(t, limiter.Config{}), "b": local(t, limiter.Config{})})
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestSameNameTwiceIsRefused(t *testing.T) {
	reg := registry(t, map[string]*limiter.Limiter{"a": local(t, limiter.Config{})})
	if err := reg.Register(promlimit.NewCollector("a", local(t, limiter.Config{}))); err == nil {
		t.Error("two limiters of one name were registered")
	}
}

func TestNilLimiterIsRefusedAtOnce(t *testing.T) {
	require.PanicsWithValue(t, "promlimit: NewCollector: the limiter is nil", func() { promlimit.NewCollector("a", nil) })
}

// TestCountersAreTheLimiters: each limiter's own figures, under its own name.
func TestCountersAreTheLimiters(t *testing.T) {
	bad := func(string) (limiter.Limit, bool) { return limiter.Limit{Rate: -1}, true }
	api, login := local(t, limiter.Config{LimitFor: bad}), local(t, limiter.Config{})
	for range 5 {
		api.Allow("a")
	}
	api.Allow("b")
	login.Allow("a")
	reg := registry(t, map[string]*limiter.Limiter{"api": api, "login": login})
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP limiter_bad_limits_total Invalid limits that Config.LimitFor returned; the default limit was applied.
# TYPE limiter_bad_limits_total counter
limiter_bad_limits_total{limiter="api"} 2
limiter_bad_limits_total{limiter="login"} 0
# HELP limiter_decisions_total Decisions made, by result.
# TYPE limiter_decisions_total counter
limiter_decisions_total{limiter="api",result="allowed"} 3
limiter_decisions_total{limiter="api",result="denied"} 3
limiter_decisions_total{limiter="login",result="allowed"} 1
limiter_decisions_total{limiter="login",result="denied"} 0
# HELP limiter_keys Keys in the memory of this process.
# TYPE limiter_keys gauge
limiter_keys{limiter="api"} 2
limiter_keys{limiter="login"} 1
`), "limiter_bad_limits_total", "limiter_decisions_total", "limiter_keys"))
}

// series are the values of a registry with one limiter, at one time, by their
// name and what labels they have beside the limiter's: "limiter_state synced".
func series(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	found := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := []string{f.GetName()}
			for _, l := range m.GetLabel() {
				if l.GetName() != "limiter" {
					name = append(name, l.GetValue())
				}
			}
			found[strings.Join(name, " ")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return found
}

// state is the one state whose series is 1.
func state(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	var in []string
	for name, v := range series(t, reg) {
		if s, ok := strings.CutPrefix(name, "limiter_state "); ok && v != 0 {
			in = append(in, s)
			if v != 1 {
				t.Errorf("%s is %v, want 0 or 1", name, v)
			}
		}
	}
	require.Len(t, in, 1)
	return in[0]
}

// eventually asks again and again for at most a minute.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestStateFollowsTheLimiter through an outage of Redis.
func TestStateFollowsTheLimiter(t *testing.T) {
	reg := registry(t, map[string]*limiter.Limiter{"l": local(t, limiter.Config{})})
	require.Equal(t, "local", state(t, reg))
	require.Zero(t, series(t, reg)["limiter_last_sync_timestamp_seconds"])

	server := servertest.Server(t, redisserver.Options{})
	l := shared(t, server)
	reg = registry(t, map[string]*limiter.Limiter{"l": l})
	begin := float64(time.Now().Add(-time.Second).Unix())
	eventually(t, "synced", func() bool { l.Allow("k"); return state(t, reg) == "synced" })
	for _, name := range []string{"limiter_last_sync_timestamp_seconds", "limiter_state_since_timestamp_seconds"} {
		if got := series(t, reg)[name]; got < begin || got > begin+60 {
			t.Errorf("%s is %.3f, want about %.0f", name, got, begin)
		}
	}
	require.NoError(t, server.Kill())
	eventually(t, "degraded", func() bool { l.Allow("k"); return state(t, reg) == "degraded" })
	eventually(t, "rounds of either result", func() bool {
		s := series(t, reg)
		return s["limiter_rounds_total success"] > 0 && s["limiter_rounds_total failure"] > 0
	})
}

// TestWaitingIsCounted: a caller in Wait, until its context ends.
func TestWaitingIsCounted(t *testing.T) {
	l := local(t, limiter.Config{})
	reg := registry(t, map[string]*limiter.Limiter{"l": l})
	waiting := func() float64 { return series(t, reg)["limiter_waiting"] }
	l.AllowN("k", 2)
	require.Zero(t, waiting())
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error, 1)
	go func() { waited <- l.Wait(ctx, "k") }()
	eventually(t, "a caller waits", func() bool { return waiting() == 1 })
	cancel()
	require.ErrorIs(t, <-waited, context.Canceled)
	require.Zero(t, waiting())
}

// names are the metrics that the collector has.
func names(t *testing.T) []string {
	t.Helper()
	families, err := registry(t, map[string]*limiter.Limiter{"l": local(t, limiter.Config{})}).Gather()
	require.NoError(t, err)
	set := map[string]bool{}
	for _, f := range families {
		set[f.GetName()] = true
	}
	return slices.Sorted(maps.Keys(set))
}
