package otellimit_test

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
	"github.com/seed-e56e777b/limiter/otellimit"
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

func provider(t *testing.T, reader sdk.Reader) *sdk.MeterProvider {
	t.Helper()
	p := sdk.NewMeterProvider(sdk.WithReader(reader))
	t.Cleanup(func() { require.NoError(t, p.Shutdown(t.Context())) })
	return p
}

// collected returns the metrics of a reader, by name.
func collected(t *testing.T, reader *sdk.ManualReader) map[string]metricdata.Metrics {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &all))
	found := map[string]metricdata.Metrics{}
	for _, scope := range all.ScopeMetrics {
		require.Equal(t, "github.com/seed-e56e777b/limiter/otellimit", scope.Scope.Name)
		for _, m := range scope.Metrics {
			require.NotContains(t, found, m.Name)
			found[m.Name] = m
		}
	}
	return found
}

// points are the values of a metric, by its attributes: "limiter=a,result=allowed".
func points(t *testing.T, m metricdata.Metrics) map[string]int64 {
	t.Helper()
	var list []metricdata.DataPoint[int64]
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		list = data.DataPoints
	case metricdata.Gauge[int64]:
		list = data.DataPoints
	default:
		t.Fatalf("%s has %T", m.Name, m.Data)
	}
	found := map[string]int64{}
	for _, p := range list {
		found[p.Attributes.Encoded(attribute.DefaultEncoder())] = p.Value
	}
	return found
}

// TestValuesAreTheLimiters: each limiter's own figures, under its own name.
func TestValuesAreTheLimiters(t *testing.T) {
	reader := sdk.NewManualReader()
	p := provider(t, reader)
	bad := func(string) (limiter.Limit, bool) { return limiter.Limit{Rate: -1}, true }
	api, login := local(t, limiter.Config{LimitFor: bad}), local(t, limiter.Config{})
	for name, l := range map[string]*limiter.Limiter{"api": api, "login": login} {
		_, err := otellimit.Register(p, name, l)
		require.NoError(t, err)
	}
	for range 5 {
		api.Allow("a")
	}
	api.Allow("b")
	login.Allow("a")
	got := collected(t, reader)
	for name, want := range map[string]map[string]int64{
		"limiter.decisions": {
			"limiter=api,result=allowed": 3, "limiter=api,result=denied": 3,
			"limiter=login,result=allowed": 1, "limiter=login,result=denied": 0,
		},
		"limiter.bad_limits": {"limiter=api": 2, "limiter=login": 0},
		"limiter.keys":       {"limiter=api": 2, "limiter=login": 1},
	} {
		if values := points(t, got[name]); !maps.Equal(values, want) {
			t.Errorf("%s: %v, want %v", name, values, want)
		}
	}
}

// TestWaitingIsCounted: a caller in Wait, until its context ends.
func TestWaitingIsCounted(t *testing.T) {
	reader := sdk.NewManualReader()
	l := local(t, limiter.Config{})
	_, err := otellimit.Register(provider(t, reader), "l", l)
	require.NoError(t, err)
	waiting := func() int64 { return points(t, collected(t, reader)["limiter.waiting"])["limiter=l"] }
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

func TestKindsAndUnits(t *testing.T) {
	reader := sdk.NewManualReader()
	_, err := otellimit.Register(provider(t, reader), "l", local(t, limiter.Config{}))
	require.NoError(t, err)
	kinds := map[string]string{}
	for name, m := range collected(t, reader) {
		require.NotEmpty(t, m.Description, name)
		kind := "gauge"
		if sum, ok := m.Data.(metricdata.Sum[int64]); ok {
			require.Equal(t, metricdata.CumulativeTemporality, sum.Temporality)
			kind = map[bool]string{true: "counter", false: "level"}[sum.IsMonotonic]
		}
		kinds[name] = kind + " " + m.Unit
	}
	require.Equal(t, map[string]string{
		"limiter.decisions":             "counter {decision}",
		"limiter.bad_limits":            "counter {limit}",
		"limiter.keys":                  "level {key}",
		"limiter.waiting":               "level {caller}",
		"limiter.evicted_keys":          "counter {key}",
		"limiter.dropped_tokens":        "counter {token}",
		"limiter.shadowed":              "counter {decision}",
		"limiter.news":                  "counter {key}",
		"limiter.over_admitted_tokens":  "counter {token}",
		"limiter.rounds":                "counter {round}",
		"limiter.exchanged_keys":        "counter {key}",
		"limiter.losses":                "counter {loss}",
		"limiter.duplicate_reports":     "counter {report}",
		"limiter.pending_keys":          "level {key}",
		"limiter.processes":             "gauge {process}",
		"limiter.silent_processes":      "gauge {process}",
		"limiter.state":                 "level ",
		"limiter.state_since_timestamp": "gauge s",
		"limiter.last_sync_timestamp":   "gauge s",
	}, kinds)
}

func TestEverythingIsDocumented(t *testing.T) {
	reader := sdk.NewManualReader()
	_, err := otellimit.Register(provider(t, reader), "l", local(t, limiter.Config{}))
	require.NoError(t, err)
	doc, err := os.ReadFile("../docs/metrics.md")
	require.NoError(t, err)
	for name := range collected(t, reader) {
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/metrics.md does not have %s", name)
		}
	}
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
	reader := sdk.NewManualReader()
	server := servertest.Server(t, redisserver.Options{})
	l := shared(t, server)
	_, err := otellimit.Register(provider(t, reader), "l", l)
	require.NoError(t, err)
	begin := time.Now().Unix() - 1
	in := func(state string) func() bool {
		return func() bool {
			l.Allow("k")
			want := map[string]int64{"local": 0, "connecting": 0, "synced": 0, "degraded": 0}
			want[state] = 1
			got := points(t, collected(t, reader)["limiter.state"])
			for s, v := range want {
				if got["limiter=l,state="+s] != v {
					return false
				}
			}
			return len(got) == len(want)
		}
	}
	eventually(t, "synced", in("synced"))
	for _, name := range []string{"limiter.last_sync_timestamp", "limiter.state_since_timestamp"} {
		if got := points(t, collected(t, reader)[name])["limiter=l"]; got < begin || got > begin+60 {
			t.Errorf("%s is %d, want about %d", name, got, begin)
		}
	}
	require.NoError(t, server.Kill())
	eventually(t, "degraded", in("degraded"))
	eventually(t, "rounds of either result", func() bool {
		rounds := points(t, collected(t, reader)["limiter.rounds"])
		return rounds["limiter=l,result=success"] > 0 && rounds["limiter=l,result=failure"] > 0
	})
}

func TestUnregisterEndsIt(t *testing.T) {
	reader := sdk.NewManualReader()
	p := provider(t, reader)
	gone, err := otellimit.Register(p, "gone", local(t, limiter.Config{}))
	require.NoError(t, err)
	_, err = otellimit.Register(p, "stays", local(t, limiter.Config{}))
	require.NoError(t, err)
	require.NoError(t, gone.Unregister())
	if got := slices.Collect(maps.Keys(points(t, collected(t, reader)["limiter.keys"]))); !slices.Equal(got, []string{"limiter=stays"}) {
		t.Errorf("limiter.keys of %q, want of stays alone", got)
	}
}

func TestRegisterRefusesNil(t *testing.T) {
	if _, err := otellimit.Register(nil, "l", local(t, limiter.Config{})); err == nil {
		t.Error("a nil MeterProvider was accepted")
	}
	if _, err := otellimit.Register(noop.NewMeterProvider(), "l", nil); err == nil {
		t.Error("a nil Limiter was accepted")
	}
}
