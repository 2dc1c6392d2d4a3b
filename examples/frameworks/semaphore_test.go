package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/semaphore"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/httplimit"
)

// atMost returns a handler that serves n requests at once, and refuses others.
func atMost(n int64, next http.Handler) http.Handler {
	slots := semaphore.NewWeighted(n)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slots.TryAcquire(1) {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		defer slots.Release(1)
		next.ServeHTTP(w, r)
	})
}

// TestSemaphoreBehindALimiter: a request that finds no slot is refused, and has its token
// back.
func TestSemaphoreBehindALimiter(t *testing.T) {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(3, time.Hour)})
	require.NoError(t, err)
	begun, end := make(chan struct{}), make(chan struct{})
	app := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			<-end
		}
	})
	handler := httplimit.New(l, httplimit.Options{SkipFailed: true})(atMost(1, app))
	get := func(path string) int {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		return w.Code
	}
	slow := make(chan int)
	go func() { slow <- get("/slow") }()
	<-begun
	for range 5 {
		require.Equal(t, http.StatusServiceUnavailable, get("/"))
	}
	close(end)
	require.Equal(t, http.StatusOK, <-slow)
	require.Equal(t, []int{200, 200, 429}, []int{get("/"), get("/"), get("/")})
}
