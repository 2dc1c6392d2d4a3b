package main

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
)

// web is a web whose pages are all there, and that notes when each was fetched.
type web struct {
	begin time.Time
	mu    sync.Mutex
	at    map[string][]time.Duration // by host
}

func (w *web) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at[r.URL.Host] = append(w.at[r.URL.Host], time.Since(w.begin))
	if to := r.URL.Query().Get("to"); to != "" {
		return &http.Response{StatusCode: http.StatusFound, Header: http.Header{"Location": {to}}, Body: http.NoBody}, nil
	}
	return &http.Response{Status: "200 OK", StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

// TestEachHostHasItsPace: a host with many pages is fetched at its pace, and
// does not hold back another.
func TestEachHostHasItsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 1, Burst: 1}})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		w := &web{begin: time.Now(), at: map[string][]time.Duration{}}
		pages := []string{"http://a/1", "http://a/2", "http://b/1", "http://a/3", "http://a/4", ":"}
		var failed []string
		crawl(ctx, l, &http.Client{Transport: w}, pages, func(page, outcome string) {
			if outcome != "200 OK" {
				failed = append(failed, outcome)
			}
		})
		if want := []time.Duration{0, time.Second, 2 * time.Second}; !slices.Equal(w.at["a"], want) {
			t.Errorf("a was fetched at %v, want %v", w.at["a"], want)
		}
		if want := []time.Duration{0}; !slices.Equal(w.at["b"], want) {
			t.Errorf("b was fetched at %v, want %v", w.at["b"], want)
		}
		slices.Sort(failed)
		if len(failed) != 2 || !strings.Contains(failed[0], "deadline") || !strings.Contains(failed[1], "missing protocol") {
			t.Errorf("failed: %q, want one past the deadline and one without a protocol", failed)
		}
	})
}

// TestRedirectsKeepThePace: however many pages lead to a host, and however it is written.
func TestRedirectsKeepThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 1, Burst: 1}})
		require.NoError(t, err)
		w := &web{begin: time.Now(), at: map[string][]time.Duration{}}
		crawl(t.Context(), l, &http.Client{Transport: w}, []string{"http://a/?to=http://c/", "http://b/?to=http://C:80/"}, func(page, outcome string) {
			if outcome != "200 OK" {
				t.Errorf("%s: %s", page, outcome)
			}
		})
		all := slices.Concat(w.at["c"], w.at["C:80"])
		slices.Sort(all)
		if want := []time.Duration{0, time.Second}; !slices.Equal(all, want) {
			t.Errorf("c was fetched at %v, want %v", all, want)
		}
	})
}
