package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
)

func TestChiIsLimitedByTenant(t *testing.T) { testLimitedByTenant(t, withChi) }

func TestGinIsLimitedByTenant(t *testing.T) { testLimitedByTenant(t, withGin) }

func testLimitedByTenant(t *testing.T, app func(*limiter.Limiter) http.Handler) {
	t.Helper()
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(2, 1000*time.Hour)})
	require.NoError(t, err)
	defer l.Close()
	h := app(l)
	for _, tc := range []struct {
		path, body string
		status     int
	}{
		{"/a/fail", "failed\n", 500}, // costs nothing
		{"/a/fail", "failed\n", 500},
		{"/a/fail", "failed\n", 500},
		{"/a/hello", "hello a, 1 left\n", 200},
		{"/a/hello", "hello a, 0 left\n", 200},
		{"/a/hello", "", 429},
		{"/a/fail", "", 429},
		{"/b/hello", "hello b, 1 left\n", 200},
		{"/healthz/limiter", "", 200},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, tc.path, http.NoBody))
		if w.Code != tc.status || tc.body != "" && w.Body.String() != tc.body {
			t.Errorf("%s: %d %q, want %d %q", tc.path, w.Code, w.Body, tc.status, tc.body)
		}
		if limited := tc.path != "/healthz/limiter"; limited != (w.Header().Get("RateLimit") != "") {
			t.Errorf("%s: RateLimit is %q", tc.path, w.Header().Get("RateLimit"))
		}
	}
}
