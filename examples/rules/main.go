// Rules is limits from a file, or from a hash in Redis, that change while the program
// runs. One of them is in shadow mode.
//
//	echo '{"*": "2/s", "partner:*": "1/s shadow"}' > limits.json
//	go run ./examples/rules
//
// Then change limits.json, and break it. Or: redis-cli hset limits '*' 2/s,
// and run it with -redis localhost:6379.
//
// Look at follow: one Limits serves any number of limiters. If a new version has an
// error, the last good one stays, and Err and the log have the error.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/limits"
)

func main() {
	path := flag.String("file", "limits.json", "`path` of the rules")
	url := flag.String("redis", "", "`URL` or address of a Redis whose hash limits holds the rules, in place of a file")
	flag.Parse()
	source := limits.File(*path)
	if *url != "" {
		client, err := limiter.ClientFromURL(*url)
		if err != nil {
			log.Fatal(err)
		}
		defer client.Close()
		source = limits.Hash(client, "limits")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, source); err != nil {
		log.Print(err)
	}
}

// run makes four requests of each of two clients every second, and writes the results.
func run(ctx context.Context, source limits.Source) error {
	ls, l, err := follow(ctx, source, time.Second)
	if err != nil {
		return err
	}
	defer l.Close()
	defer ls.Close()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		for _, key := range []string{"user:42", "partner:7"} {
			fmt.Println(ask(l, key, 4))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// follow opens a source, and has a limiter follow it.
func follow(ctx context.Context, source limits.Source, interval time.Duration) (*limits.Limits, *limiter.Limiter, error) {
	ls, err := limits.Open(ctx, source, limits.Options{Interval: interval})
	if err != nil {
		return nil, nil, err
	}
	l, err := limiter.New(limiter.Config{Limit: ls.Default(), LimitFor: ls.LimitFor, Shadow: ls.Shadow})
	if err != nil {
		return nil, nil, err
	}
	ls.Watch(l)
	return ls, l, nil
}

// ask makes n requests of a key.
func ask(l *limiter.Limiter, key string, n int) string {
	var limit limiter.Limit
	admitted, over := 0, 0
	for range n {
		r := l.Take(key)
		limit = r.Limit
		if r.Allowed {
			admitted++
		}
		if r.Shadow {
			over++
		}
	}
	text := fmt.Sprintf("%-10s limit %v: %d of %d admitted", key, limit, admitted, n)
	if over > 0 {
		text += fmt.Sprintf(", %d only in shadow mode", over)
	}
	return text
}
