// Http is a server that limits requests by client address, for all processes if it is
// given a Redis.
//
//	go run ./examples/http -limit 5/10s -redis localhost:6379
//	curl -i localhost:8080
//	curl -s 'localhost:8080/healthz/limiter?max=30s'
//
// With -debug localhost:6060 operators see there the keys denied most.
//
// With -processes N each of N processes admits 1/N of the limit until it has
// reached Redis.
//
// Look at run: without -redis, only Config.Redis differs.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9/logging"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/httplimit"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	listen := flag.String("listen", "localhost:8080", "`address` to listen on")
	redisURL := flag.String("redis", "", "`URL` or address of a Redis to share the limit through (default: none)")
	debugAddr := flag.String("debug", "", "`address` of the page for operators, which only they can reach (default: none)")
	cfg := limiter.Config{Limit: limiter.Per(5, 10*time.Second)}
	flag.IntVar(&cfg.Processes, "processes", 1, "`number` of processes that share the limit")
	flag.Func("limit", "requests per client (default 5/10s)", func(s string) (err error) {
		cfg.Limit, err = limiter.ParseLimit(s)
		return err
	})
	var trusted []netip.Prefix
	flag.Func("trust", "`network` of a proxy whose X-Forwarded-For is believed; may be repeated", func(s string) error {
		network, err := netip.ParsePrefix(s)
		trusted = append(trusted, network)
		return err
	})
	flag.Parse()
	if *redisURL != "" {
		logging.Disable() // go-redis logs each attempt; the limiter logs changes
		client, err := limiter.ClientFromURL(*redisURL)
		if err != nil {
			return err
		}
		defer client.Close()
		cfg.Redis = client
	}
	l, err := limiter.New(cfg)
	if err != nil {
		return err
	}
	defer l.Close() // reports the last usage to the fleet
	if *debugAddr != "" {
		operators := &http.Server{Addr: *debugAddr, Handler: httplimit.Debug(l), ReadHeaderTimeout: 10 * time.Second}
		defer operators.Close()
		go func() { log.Print("page for operators: ", operators.ListenAndServe()) }()
		log.Printf("http://%s for operators", *debugAddr)
	}
	log.Printf("http://%s, %v per client", *listen, cfg.Limit)
	return serve(&http.Server{Addr: *listen, Handler: newHandler(l, trusted), ReadHeaderTimeout: 10 * time.Second})
}

// serve serves until the process is asked to stop.
func serve(s *http.Server) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- s.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		stop() // a second signal ends the process
		end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return s.Shutdown(end)
	}
}

// newHandler returns a handler that limits all requests except those for the limiter's
// health.
func newHandler(l *limiter.Limiter, trusted []netip.Prefix) http.Handler {
	app := http.NewServeMux()
	app.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })

	mux := http.NewServeMux()
	mux.Handle("GET /healthz/limiter", httplimit.Health(l))
	mux.Handle("/", httplimit.New(l, httplimit.Options{TrustedProxies: trusted})(app))
	return mux
}
