// Limiterlab runs a fleet of limiters in front of a Redis, takes the Redis away
// and brings it back. It compares the tokens that the fleet admitted with those
// that other ways of rate limiting would have admitted of the same requests.
//
//	go run ./cmd/limiterlab -h
//
// With -http it serves a live page (docs/lab.md). Its subcommand replay applies a
// limit to the requests of real logs (docs/replay.md). Its subcommand inspect
// prints the state of a key of a real fleet in Redis.
//
// Its terms (limit, burst, cost, share) are those of docs/design.md, whose
// section 1 has the promises that the fleet has to keep.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9/logging"
)

func main() {
	logging.Disable() // a client that can't dial is the lab's subject, not news
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second Ctrl-C ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
