package promlimit

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-e56e777b/limiter"
)

// collector is the collector of one limiter's metrics.
type collector struct {
	limiter *limiter.Limiter
	descs   []*prometheus.Desc // of facts, in their order
}

// NewCollector returns a collector of the metrics of l. No other limiter in the same
// registry may have the same name. The metrics of a closed limiter stay until the
// collector is unregistered. NewCollector panics if l is nil.
func NewCollector(name string, l *limiter.Limiter) prometheus.Collector {
	if l == nil {
		panic("promlimit: NewCollector: the limiter is nil")
	}
	c := &collector{limiter: l}
	for _, f := range facts {
		labels := prometheus.Labels{"limiter": name}
		maps.Copy(labels, f.labels)
		c.descs = append(c.descs, prometheus.NewDesc(f.name, f.help, nil, labels))
	}
	return c
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := snapshot{Stats: c.limiter.Stats(), Status: c.limiter.Status()}
	for i, f := range facts {
		ch <- prometheus.MustNewConstMetric(c.descs[i], f.kind, f.value(s))
	}
}
