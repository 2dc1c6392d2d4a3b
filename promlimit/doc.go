// Package promlimit exposes to Prometheus what a [limiter.Limiter] does and
// how it stands with Redis.
//
//	prometheus.MustRegister(
//		promlimit.NewCollector("api", api),
//		promlimit.NewCollector("login", login),
//	)
//
// Every metric has the label limiter with the name given, and none has a label
// by key: there are too many keys, and they may be secrets. docs/metrics.md in
// the repository lists the metrics with their units and meanings.
// dashboard.json in this folder is a Grafana dashboard of them, alerts.yml the
// alert rules; both work with what package otellimit exports too.
//
// A scrape calls [limiter.Limiter.Stats] and [limiter.Limiter.Status] once for
// each limiter. It never waits for Redis.
package promlimit
