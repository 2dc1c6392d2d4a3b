// Workers is a pool of workers that start no more jobs than a limit says; with
// Config.Redis, no more than that in all processes together.
//
//	go run ./examples/workers
//
// Look at work: a worker waits for its turn with the job in its hand, and puts
// the job back where the wait is called off (Ctrl-C).
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/seed-e56e777b/limiter"
)

func main() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 5, Burst: 1}})
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	jobs := make(chan int, 100)
	for job := range 10 {
		jobs <- job
	}
	close(jobs)
	begin := time.Now()
	left := work(ctx, l, 4, jobs, func(job int) {
		fmt.Printf("%4.1f s  job %d\n", time.Since(begin).Seconds(), job)
	})
	fmt.Println("put back:", left)
}

// work has workers do jobs, and returns those that were taken and not done.
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
