package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
)

// TestAppAnswersAsBefore: two per client of a balancer whose address changes, and
// the headers that its clients read.
func TestAppAnswersAsBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := limiter.New(limiter.Config{Limit: limiter.Per(2, 15*time.Minute)})
		require.NoError(t, err)
		defer l.Close()
		h := newHandler(l)
		const ada, bob = "203.0.113.9", "203.0.113.10"
		for i, tc := range []struct {
			balancer, forwarded, path string
			status                    int
			body, remaining, reset    string
		}{
			{"10.0.0.1:1", ada, "/api/hello", 200, "hello", "1", "450"},
			{"10.0.7.2:1", ada, "/api/hello", 200, "hello", "0", "450"},
			{"10.0.0.1:1", "6.6.6.6, " + ada, "/api/hello", 429, "Too many requests, please try again later.\n", "0", "450"},
			{"[fd00::1]:1", ada, "/api/none", 429, "Too many requests, please try again later.\n", "0", "450"},
			{"10.0.0.1:1", bob, "/api/hello", 200, "hello", "1", "450"},
			{"10.0.0.1:1", ada, "/", 200, "home", "", ""},
		} {
			r := httptest.NewRequest(http.MethodGet, tc.path, http.NoBody)
			r.RemoteAddr = tc.balancer
			r.Header.Set("X-Forwarded-For", tc.forwarded)
			r.Header.Set("Forwarded", "for=6.6.6.6") // by the client: the balancer writes the other header
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			got := w.Header()
			require.Equal(t, []any{tc.status, tc.body, tc.remaining, tc.reset},
				[]any{w.Code, w.Body.String(), got.Get("RateLimit-Remaining"), got.Get("RateLimit-Reset")}, "request %d", i)
			switch {
			case tc.path == "/":
				require.Empty(t, got.Get("RateLimit-Policy"))
			case tc.status == http.StatusTooManyRequests:
				require.Equal(t, "450", got.Get("Retry-After"))
				fallthrough
			default:
				require.Equal(t, "2;w=900", got.Get("RateLimit-Policy"))
				require.Equal(t, "2", got.Get("RateLimit-Limit"))
			}
		}
	})
}
