package httplimit

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/seed-e56e777b/limiter"
)

// BenchmarkMiddleware compares a handler that does nothing with the same behind
// the middleware; the difference is the cost of a request.
func BenchmarkMiddleware(b *testing.B) {
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	l := newLimiter(b, limiter.Per(1<<30, time.Second))
	for _, bench := range []struct {
		name    string
		handler http.Handler
		forward string
	}{
		{"bare", nothing, ""},
		{"options=none", New(l, Options{})(nothing), ""},
		{"options=NoHeaders", New(l, Options{NoHeaders: true})(nothing), ""},
		{"options=LegacyHeaders", New(l, Options{LegacyHeaders: true})(nothing), ""},
		{"options=SkipFailed", New(l, Options{SkipFailed: true})(nothing), ""},
		{"options=TrustedProxies", New(l, Options{TrustedProxies: trustedNets})(nothing), "6.6.6.6, 203.0.113.9, 10.0.0.3"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", http.NoBody)
			if bench.forward != "" {
				r.RemoteAddr = "10.0.0.2:80"
				r.Header.Set("X-Forwarded-For", bench.forward)
			}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.Header())
				bench.handler.ServeHTTP(w, r)
			}
		})
	}
}
