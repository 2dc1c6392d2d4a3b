package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
)

func TestAllButHealthIsLimited(t *testing.T) {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(1, time.Hour)})
	require.NoError(t, err)
	defer l.Close()
	s := httptest.NewServer(newHandler(l, nil))
	defer s.Close()
	for _, tc := range []struct {
		path string
		want int
	}{
		{"/", 200},
		{"/", 429},
		{"/elsewhere", 429},
		{"/healthz/limiter?max=30s", 200},
	} {
		resp, err := http.Get(s.URL + tc.path)
		require.NoError(t, err)
		resp.Body.Close()
		if resp.StatusCode != tc.want {
			t.Errorf("GET %s: %d, want %d", tc.path, resp.StatusCode, tc.want)
		}
	}
}
