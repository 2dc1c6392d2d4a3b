// Package promlimit exports the metrics of a [limiter.Limiter] to Prometheus: its
// decisions, and its state towards Redis.
//
//	prometheus.MustRegister(
//		promlimit.NewCollector("api", api),
//		promlimit.NewCollector("login", login),
//	)
//
// Every metric has the label limiter, with the name of the limiter. None has a label
// of a key, because keys are many, and may be secrets. docs/metrics.md in the
// repository lists the metrics with their units and meanings. In this folder,
// dashboard.json is a Grafana dashboard and alerts.yml the alert rules. Both work with
// the metrics of package otellimit too.
//
// A scrape calls [limiter.Limiter.Stats] and [limiter.Limiter.Status] once for
// each limiter. It never waits for Redis.
package promlimit
