// Limiterlab puts a fleet of limiters in front of a Redis, takes the Redis away
// and brings it back, and shows what the fleet admitted beside what other ways
// of limiting would have admitted of the very same requests.
//
//	go run ./cmd/limiterlab -h
//
// Its subcommand replay says what a limit would have done to the requests of
// real logs (docs/replay.md), its subcommand inspect how a key of a real fleet
// stands in Redis; with -http it serves a live page (docs/lab.md).
//
// Its words (limit, burst, cost, share) are those of docs/design.md; what the
// fleet has to keep is promised there in section 1.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9/logging"
)

func main() {
	logging.Disable() // a client that can't dial is what the lab is about, not news
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second Ctrl-C ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
