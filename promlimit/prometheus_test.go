package promlimit_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

func TestAlertRulesAreValid(t *testing.T) { promtool(t, "check", "rules", "alerts.yml") }

func TestAlertsAreRaised(t *testing.T) { promtool(t, "test", "rules", "testdata/alerts_test.yml") }

// TestPrometheusScrapesAndAlerts: a real server scrapes a limiter that loses
// its Redis, has something to show in every panel of the dashboard, and sees
// the outage.
func TestPrometheusScrapesAndAlerts(t *testing.T) {
	if testing.Short() {
		t.Skip("runs without -short: a server takes seconds to start, TestAlertsAreRaised has the rules")
	}
	need(t, "prometheus")
	redis := servertest.Server(t, redisserver.Options{})
	shared, local := shared(t, redis), local(t, limiter.Config{})
	reg := registry(t, map[string]*limiter.Limiter{"shared": shared, "local": local})
	app := httptest.NewServer(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	t.Cleanup(app.Close)
	server := startPrometheus(t, strings.TrimPrefix(app.URL, "http://"))

	for range 3 {
		local.Allow("k")
	}
	eventually(t, "a scrape with what was decided", func() bool {
		return scalar(t, server, `limiter_decisions_total{limiter="local", result="denied"}`) == 1
	})
	if got := scalar(t, server, `limiter_decisions_total{limiter="local", result="allowed"}`); got != 2 {
		t.Errorf("%v decisions allowed, want 2", got)
	}
	eventually(t, "synced", func() bool { return scalar(t, server, `limiter_state{limiter="shared", state="synced"}`) == 1 })
	for title, exprs := range panels(t) {
		for _, expr := range exprs {
			eventually(t, "something to show in panel "+title+": "+expr, func() bool {
				shared.Allow("k")
				return len(query(t, server, filledIn(expr))) > 0
			})
		}
	}
	eventually(t, "no alert before the outage", func() bool { return alertState(t, server, "LimiterDegraded") == "" })
	require.NoError(t, redis.Kill())
	eventually(t, "LimiterDegraded waiting for its minute", func() bool {
		shared.Allow("k")
		return alertState(t, server, "LimiterDegraded") == string(v1.AlertStatePending)
	})
}

// filledIn is an expression of the dashboard as Grafana would send it.
func filledIn(expr string) string {
	return strings.NewReplacer("$__rate_interval", "1m", "$job", ".*", "$limiter", ".*").Replace(expr)
}

func query(t *testing.T, server v1.API, expr string) model.Vector {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got, _, _, err := server.Query(ctx, expr, time.Time{})
	require.NoError(t, err, expr)
	require.IsType(t, model.Vector{}, got)
	return got.(model.Vector)
}

// scalar is the value of one series; -1 if it is not there yet.
func scalar(t *testing.T, server v1.API, expr string) float64 {
	t.Helper()
	got := query(t, server, expr)
	if len(got) == 0 {
		return -1
	}
	require.Len(t, got, 1)
	return float64(got[0].Value)
}

// alertState is the state of the first alert of a rule; empty if it has none.
func alertState(t *testing.T, server v1.API, name string) string {
	t.Helper()
	got := query(t, server, `ALERTS{alertname="`+name+`"}`)
	if len(got) == 0 {
		return ""
	}
	return string(got[0].Metric["alertstate"])
}
