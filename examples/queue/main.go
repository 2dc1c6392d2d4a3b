// Queue consumes jobs from a list in Redis, in any number of processes, which share
// one limit.
//
//	redis-cli lpush jobs a b c d e f g h
//	go run ./examples/queue -redis localhost:6379 -processes 2
//
// Look at consume: it waits for a token before it takes a job, so that jobs wait in the
// queue. It gives the token back if there was no job.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter"
)

func main() {
	url := flag.String("redis", "localhost:6379", "`URL` or address of one Redis server")
	processes := flag.Int("processes", 1, "`number` of processes that you start")
	flag.Parse()
	client, err := limiter.ClientFromURL(*url)
	if err != nil {
		log.Print(err)
		return
	}
	defer client.Close()
	l, err := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 2, Burst: 1}, Redis: client, Processes: *processes})
	if err != nil {
		log.Print(err)
		return
	}
	defer l.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err = consume(ctx, client, l, "jobs", func(job string) error {
		fmt.Println(time.Now().Format("15:04:05.0"), job)
		return nil
	})
	log.Print(err)
}

// consume does the jobs of a list until ctx is done. A job under way is in list:busy,
// where it stays after a crash. A failed one goes to the end of the list.
func consume(ctx context.Context, queue redis.UniversalClient, l *limiter.Limiter, list string, do func(job string) error) error {
	busy := list + ":busy"
	for {
		if err := l.Wait(ctx, list); err != nil {
			return err
		}
		job, err := queue.BLMove(ctx, list, busy, "right", "left", time.Second).Result()
		if err != nil {
			l.Refund(list, 1)
			if err := idle(ctx, err); err != nil {
				return err
			}
			continue
		}
		failed := do(job)
		_, err = queue.TxPipelined(context.WithoutCancel(ctx), func(p redis.Pipeliner) error {
			p.LRem(ctx, busy, 1, job)
			if failed != nil {
				p.LPush(ctx, list, job)
			}
			return nil
		})
		if err != nil {
			log.Printf("%q stays in %s: %v", job, busy, err)
		}
	}
}

// idle waits for a while if the call to Redis has failed.
func idle(ctx context.Context, err error) error {
	if errors.Is(err, redis.Nil) {
		return nil // there was none
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second):
		return nil
	}
}
