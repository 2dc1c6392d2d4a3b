// Workers is a pool of workers that limits the rate at which jobs start; with -redis,
// in all processes together.
//
//	go run ./examples/workers
//	go run ./examples/workers -redis localhost:6379 -processes 2 -jobs 1000
//
// Look at work: a worker takes a job, waits for a token, and puts the job back if the
// wait is cancelled (Ctrl-C). Kill Redis meanwhile: the workers go on, all processes
// together at the limit.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/seed-e56e777b/limiter"
)

func main() {
	url := flag.String("redis", "", "`URL` or address of the Redis through which processes share the limit; empty: none")
	count := flag.Int("jobs", 10, "`number` of jobs")
	processes := flag.Int("processes", 1, "`number` of processes that you start")
	flag.Parse()
	cfg := limiter.Config{Limit: limiter.Limit{Rate: 5, Burst: 1}}
	if *url != "" {
		client, err := limiter.ClientFromURL(*url)
		if err != nil {
			log.Fatal(err)
		}
		cfg.Redis = client
		cfg.Processes = *processes
	}
	l, err := limiter.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	jobs := make(chan int, *count)
	for job := range *count {
		jobs <- job
	}
	close(jobs)
	begin := time.Now()
	left := work(ctx, l, 4, jobs, func(job int) {
		fmt.Printf("%4.1f s  job %d\n", time.Since(begin).Seconds(), job)
	})
	fmt.Println("put back:", left)
}

// work runs workers, and returns the jobs that were not done.
func work(ctx context.Context, l *limiter.Limiter, workers int, jobs <-chan int, do func(job int)) (left []int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for job := range jobs {
				if err := l.Wait(ctx, "jobs"); err != nil { // ctx is done, or its deadline would pass first
					mu.Lock()
					left = append(left, job)
					mu.Unlock()
					continue
				}
				do(job)
			}
		})
	}
	wg.Wait()
	return left
}
