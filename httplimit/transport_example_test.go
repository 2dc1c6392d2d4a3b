package httplimit_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/httplimit"
)

// A server that denies a request for a minute gets no other one meanwhile.
func ExampleTransport() {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer api.Close()
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(100, time.Second)}) // with Redis: the fleet's
	if err != nil {
		panic(err)
	}
	defer l.Close()
	transport := &httplimit.Transport{Limiter: l}
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}

	resp, err := client.Get(api.URL)
	if err != nil {
		panic(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	_, err = client.Get(api.URL)
	fmt.Println("not sent:", errors.Is(err, context.DeadlineExceeded))
	fmt.Println("holds:", transport.Stats().Held)
	// Output:
	// 429 Too Many Requests
	// not sent: true
	// holds: 1
}

// Requests to a server that limits each of its paths, sent again up to three times.
func ExampleTransport_retries() {
	var calls atomic.Int64
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			w.Header().Set("X-RateLimit-Remaining", "0")
			w.Header().Set("X-RateLimit-Reset", "0.1") // seconds, or Unix time
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer api.Close()
	l := local(limiter.Per(100, time.Second))
	client := &http.Client{Transport: &httplimit.Transport{
		Limiter: l,
		Key:     func(r *http.Request) string { return httplimit.HostKey(r) + r.URL.Path },
		Retries: 3,
		MaxHold: time.Minute,
	}}
	resp, err := client.Get(api.URL + "/users")
	if err != nil {
		panic(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status, "after", calls.Load(), "calls")
	// Output: 200 OK after 2 calls
}
