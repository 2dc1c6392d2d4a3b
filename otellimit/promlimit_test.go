package otellimit_test

import (
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"

	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
	"github.com/seed-e56e777b/limiter/otellimit"
	"github.com/seed-e56e777b/limiter/promlimit"
)

// TestPrometheusSeesWhatPromlimitHas: exported to Prometheus, the metrics have
// promlimit's names, types, helps, labels and values, so that its dashboard and
// alerts serve both.
func TestPrometheusSeesWhatPromlimitHas(t *testing.T) {
	l := shared(t, servertest.Server(t, redisserver.Options{}))
	eventually(t, "some rounds", func() bool { l.Allow("k"); return l.Stats().Rounds > 2 })
	require.NoError(t, l.Close()) // nothing moves from here on

	direct, exported := prometheus.NewRegistry(), prometheus.NewRegistry()
	require.NoError(t, direct.Register(promlimit.NewCollector("l", l)))
	reader, err := exporter.New(exporter.WithRegisterer(exported), exporter.WithoutScopeInfo(), exporter.WithoutTargetInfo())
	require.NoError(t, err)
	_, err = otellimit.Register(provider(t, reader), "l", l)
	require.NoError(t, err)

	want, got := seriesOf(t, direct), seriesOf(t, exported)
	for s, v := range want {
		exported, ok := got[s]
		if !ok || math.Abs(exported-v) >= 1 { // of a time, only whole seconds
			t.Errorf("%s is %v (there: %v), promlimit has %v", s, exported, ok, v)
		}
		delete(got, s)
	}
	for s := range maps.Keys(got) {
		t.Errorf("promlimit does not have %s", s)
	}
}

// seriesOf are the values of a registry, by all that identifies and describes them.
func seriesOf(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	found := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := []string{f.GetType().String(), strings.ReplaceAll(f.GetHelp(), "limiter.state", "limiter_state"), f.GetName()}
			for _, l := range m.GetLabel() {
				name = append(name, l.GetName()+"="+l.GetValue())
			}
			found[strings.Join(name, " ")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return found
}
