// Outgoing compares three ways in which four processes call a server that has a limit
// of its own: without [httplimit.Transport], with it in each process alone, and with it
// in a fleet that shares its holds through Redis.
//
//	go run ./examples/outgoing
//	go run ./examples/outgoing -redis redis://localhost:6379
//
// Look at newClient: the limiter's limit is twice the server's, and Transport does
// the rest. With -headers the server reports its limit in RateLimit before it denies.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/httplimit"
)

const (
	processes = 4
	workers   = 4  // in each process
	served    = 10 // requests a second that the server admits
	called    = 20 // requests a second that the limiters of all processes admit
)

// The ways to call.
const (
	plain = "plain" // a Transport of net/http behind Wait
	alone = "alone" // httplimit.Transport
	fleet = "fleet" // httplimit.Transport, with Redis
)

func main() {
	addr := flag.String("redis", "", "`URL` or address of the Redis through which the processes share their holds; empty: none")
	headers := flag.Bool("headers", false, "the server reports its limit in RateLimit")
	period := flag.Duration("for", 10*time.Second, "`duration` of each way")
	child := flag.String("call", "", "`URL` to call, in one of the four processes")
	way := flag.String("way", plain, "plain, alone or fleet, with -call")
	flag.Parse()
	if *child != "" {
		if err := call(*child, *way, *addr, *period); err != nil {
			log.Fatal(err)
		}
		return
	}
	if err := compare(os.Stdout, *addr, *headers, *period); err != nil {
		log.Fatal(err)
	}
}

// compare runs the four processes in each way, and prints the server's counts.
func compare(out io.Writer, addr string, headers bool, period time.Duration) error {
	ways := []struct{ name, title string }{
		{plain, "without Transport"},
		{alone, "Transport, each process alone"},
		{fleet, "Transport, one fleet"},
	}
	fmt.Fprintf(out, "%-30s %8s %8s %s\n", "", "200", "429", "served")
	for _, way := range ways {
		if way.name == fleet && addr == "" {
			fmt.Fprintf(out, "%-30s needs -redis\n", way.title)
			continue
		}
		admitted, denied, err := serveAndCall(way.name, addr, headers, period)
		if err != nil {
			return fmt.Errorf("%s: %w", way.title, err)
		}
		fmt.Fprintf(out, "%-30s %8d %8d %.1f/s\n", way.title, admitted, denied, float64(admitted)/period.Seconds())
	}
	return nil
}

// serveAndCall starts a server and four processes that call it, and returns the
// number of requests that the server has admitted and denied.
func serveAndCall(way, addr string, headers bool, period time.Duration) (admitted, denied int64, err error) {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(served, time.Second)})
	if err != nil {
		return 0, 0, err
	}
	defer l.Close()
	var counts [2]atomic.Int64
	limit := httplimit.New(l, httplimit.Options{
		Key:       func(*http.Request) string { return "everybody" },
		NoHeaders: !headers,
		Denied: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { // Retry-After is set
			counts[1].Add(1)
			w.WriteHeader(http.StatusTooManyRequests)
		}),
	})
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		return 0, 0, err
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: limit(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		counts[0].Add(1)
		time.Sleep(20 * time.Millisecond) // work
	}))}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()

	program, err := os.Executable()
	if err != nil {
		return 0, 0, err
	}
	children := make([]*exec.Cmd, processes)
	for i := range children {
		children[i] = exec.Command(program, "-call", "http://"+listener.Addr().String(), "-way", way, "-redis", addr, "-for", period.String())
		children[i].Stderr = os.Stderr
		if err := children[i].Start(); err != nil {
			return 0, 0, err
		}
	}
	for _, child := range children {
		if e := child.Wait(); e != nil {
			err = e
		}
	}
	return counts[0].Load(), counts[1].Load(), err
}

// call is one of the four processes: it calls the server for a period.
func call(url, way, addr string, period time.Duration) error {
	client, end, err := newClient(way, addr)
	if err != nil {
		return err
	}
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), period)
	defer cancel()
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for ctx.Err() == nil {
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
				if err != nil {
					log.Print(err)
					return
				}
				resp, err := client.Do(r)
				if err != nil {
					return // the period is over, or would be before a token comes
				}
				resp.Body.Close()
			}
		})
	}
	all.Wait()
	return nil
}

// newClient returns the client of one process, with a function that ends its limiter.
func newClient(way, addr string) (client *http.Client, end func(), err error) {
	cfg := limiter.Config{Limit: limiter.Limit{Rate: called / processes, Burst: 1}}
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	closeClient := func() {}
	if way == fleet {
		shared, err := limiter.ClientFromURL(addr)
		if err != nil {
			return nil, nil, err
		}
		closeClient = func() { _ = shared.Close() }
		cfg.Limit = limiter.Limit{Rate: called, Burst: processes} // of all together
		cfg.Redis, cfg.Processes, cfg.Prefix = shared, processes, "outgoing"
	}
	l, err := limiter.New(cfg)
	if err != nil {
		closeClient()
		return nil, nil, err
	}
	transport := http.RoundTripper(&httplimit.Transport{Limiter: l})
	if way == plain {
		transport = waiting{l}
	}
	return &http.Client{Transport: transport}, func() { _ = l.Close(); closeClient() }, nil
}

// waiting keeps to a limit, and to nothing that the server says.
type waiting struct{ l *limiter.Limiter }

func (w waiting) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := w.l.Wait(r.Context(), r.URL.Host); err != nil {
		return nil, err
	}
	return http.DefaultTransport.RoundTrip(r)
}
