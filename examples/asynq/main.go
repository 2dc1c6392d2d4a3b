// Asynq is a consumer of a queue of hibiken/asynq that limits the rate at which tasks
// start in all processes.
//
//	go run . -redis localhost:6379 -enqueue 10
//
// With -processes N each of N processes admits 1/N of the limit until it has
// reached Redis.
//
// Look at limited: a task above its limit holds no worker. It goes back to Redis until
// the limiter expects a token for it. That is no failure, and uses no retry.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
)

func main() {
	url := flag.String("redis", "localhost:6379", "`URL` or address of Redis")
	enqueue := flag.Int("enqueue", 0, "`tasks` to enqueue before consuming")
	processes := flag.Int("processes", 1, "`number` of processes that share the limit")
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
	at := server(*url)
	tasks := asynq.NewClient(at)
	defer tasks.Close()
	for range *enqueue {
		if _, err := tasks.Enqueue(asynq.NewTask("email:send", nil)); err != nil {
			log.Print(err)
			return
		}
	}
	mux := asynq.NewServeMux()
	mux.Use(limited(l))
	mux.HandleFunc("email:send", func(context.Context, *asynq.Task) error {
		fmt.Println(time.Now().Format("15:04:05.0"), "sent")
		return nil
	})
	log.Print(asynq.NewServer(at, settings()).Run(mux))
}

// server is a URL of Redis for asynq, each of whose parts has a client of its own.
type server string

// MakeRedisClient implements [asynq.RedisConnOpt].
func (url server) MakeRedisClient() any {
	client, err := limiter.ClientFromURL(string(url))
	if err != nil {
		panic(err)
	}
	return client
}

// overLimitError is the error of a task above its limit, which is repeated.
type overLimitError struct{ after time.Duration }

func (e *overLimitError) Error() string { return fmt.Sprintf("over the limit for %v", e.after) }

// limited starts the tasks of a type that the limiter admits.
func limited(l *limiter.Limiter) asynq.MiddlewareFunc {
	return func(next asynq.Handler) asynq.Handler {
		return asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
			if r := l.Take(task.Type()); !r.Allowed {
				return &overLimitError{after: r.RetryAfter}
			}
			return next.ProcessTask(ctx, task)
		})
	}
}

// settings returns asynq's settings, for which an overLimitError is no failure.
func settings() asynq.Config {
	return asynq.Config{
		Concurrency:              4,
		DelayedTaskCheckInterval: 200 * time.Millisecond,
		IsFailure:                func(err error) bool { return !errors.As(err, new(*overLimitError)) },
		RetryDelayFunc: func(n int, err error, task *asynq.Task) time.Duration {
			var over *overLimitError
			if errors.As(err, &over) && over.after != rate.InfDuration {
				return over.after
			}
			return asynq.DefaultRetryDelayFunc(n, err, task)
		},
	}
}
