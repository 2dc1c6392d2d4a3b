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
		{"options=Parts", New(nil, Options{Parts: func(*http.Request) []limiter.Part {
			return []limiter.Part{l.Part("user", 1).Named("user"), l.Part("tenant", 1).Named("tenant"), l.Part("", 1).Named("service")}
		}})(nothing), ""},
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
