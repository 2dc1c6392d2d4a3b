// Express is an Express application with express-rate-limit and
// rate-limit-redis, rewritten for this limiter. docs/http.md shows the
// original.
//
//	REDIS_URL=redis://localhost:6379 go run ./examples/express
//	curl -i localhost:3000/api/hello
//
// Two functions stand for options of the original: oneHop for "trust proxy: 1",
// draft6 for "standardHeaders: true".
package main

import (
	"fmt"
	"log"
	"math"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/httplimit"
)

func main() {
	cfg := limiter.Config{
		Limit:     limiter.Per(100, 15*time.Minute),
		Prefix:    "api", // prefix: 'api:' in the original
		Processes: 4,
	}
	if url := os.Getenv("REDIS_URL"); url != "" {
		client, err := limiter.ClientFromURL(url)
		if err != nil {
			log.Fatal(err)
		}
		cfg.Redis = client
	}
	l, err := limiter.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: "localhost:3000", Handler: newHandler(l), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// newHandler returns the handler of the application. It limits all requests
// below /api/.
func newHandler(l *limiter.Limiter) http.Handler {
	limit := httplimit.New(l, httplimit.Options{
		Key:       oneHop,
		NoHeaders: true, // draft6 sets the headers instead
		Denied: draft6(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "Too many requests, please try again later.", http.StatusTooManyRequests)
		})),
	})
	api := http.NewServeMux()
	api.HandleFunc("GET /api/hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })

	app := http.NewServeMux()
	app.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "home") })
	app.Handle("/api/", limit(draft6(l, api)))
	return app
}

// oneHop returns the address of the client as the proxy in front names it. The
// proxy may have any address. This is safe only if every request reaches the
// server through the proxy.
func oneHop(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return httplimit.ClientKey(r, nil)
	}
	proxy := peer.Addr().WithZone("").Unmap()
	named := &http.Request{
		RemoteAddr: r.RemoteAddr,
		Header:     http.Header{"X-Forwarded-For": r.Header.Values("X-Forwarded-For")},
	}
	return httplimit.ClientKey(named, []netip.Prefix{netip.PrefixFrom(proxy, proxy.BitLen())})
}

// draft6 returns a handler that sets the headers of the sixth draft before next
// runs.
func draft6(l *limiter.Limiter, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		res, h := l.Peek(oneHop(r)), w.Header()
		reset := res.ResetAfter // until the bucket is full
		if res.Remaining == 0 {
			reset = res.RetryAfter // until it holds a token
		}
		window := math.Ceil(float64(res.Limit.Burst) / float64(res.Limit.Rate))
		h.Set("RateLimit-Policy", fmt.Sprintf("%d;w=%.0f", res.Limit.Burst, window))
		h.Set("RateLimit-Limit", strconv.Itoa(res.Limit.Burst))
		h.Set("RateLimit-Remaining", strconv.Itoa(res.Remaining))
		h.Set("RateLimit-Reset", fmt.Sprintf("%.0f", math.Ceil(reset.Round(time.Millisecond).Seconds())))
		next.ServeHTTP(w, r)
	})
}
