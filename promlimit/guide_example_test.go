package promlimit_test

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/promlimit"
)

// With the registry and the handler that a program has anyway.
func ExampleNewCollector_guide() {
	login, err := limiter.New(limiter.Config{Limit: limiter.Per(5, time.Minute)})
	if err != nil {
		panic(err)
	}
	prometheus.MustRegister(promlimit.NewCollector("login", login))
	http.Handle("/metrics", promhttp.Handler())
}
