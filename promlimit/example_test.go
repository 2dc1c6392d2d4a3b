package promlimit_test

import (
	"bufio"
	"fmt"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/promlimit"
)

func ExampleNewCollector() {
	login, err := limiter.New(limiter.Config{Limit: limiter.Per(2, time.Hour)})
	if err != nil {
		panic(err)
	}
	defer login.Close()
	registry := prometheus.NewRegistry() // or prometheus.DefaultRegisterer
	registry.MustRegister(promlimit.NewCollector("login", login))

	for range 3 {
		login.Allow("user:42")
	}
	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	for lines := bufio.NewScanner(page.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "limiter_decisions_total") || strings.HasPrefix(lines.Text(), "limiter_state{") {
			fmt.Println(lines.Text())
		}
	}
	// Output:
	// limiter_decisions_total{limiter="login",result="allowed"} 2
	// limiter_decisions_total{limiter="login",result="denied"} 1
	// limiter_state{limiter="login",state="connecting"} 0
	// limiter_state{limiter="login",state="degraded"} 0
	// limiter_state{limiter="login",state="local"} 1
	// limiter_state{limiter="login",state="synced"} 0
}
