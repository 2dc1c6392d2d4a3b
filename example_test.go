package limiter_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
)

func ExampleLimiter_Allow() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(3, time.Hour)})
	if err != nil {
		panic(err)
	}
	defer l.Close()
	for range 4 {
		fmt.Println(l.Allow("user:42"))
	}
	// Output:
	// true
	// true
	// true
	// false
}

// A pool of workers, in as many processes as you like, that together start no
// more jobs than the limit says.
func ExampleLimiter_Wait() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 100, Burst: 1}})
	if err != nil {
		panic(err)
	}
	defer l.Close()
	do, putBack := func(int) {}, func(int) {}
	ctx := context.Background()
	jobs := make(chan int)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for job := range jobs {
				if err := l.Wait(ctx, "jobs"); err != nil {
					putBack(job) // ctx is done, or its deadline would pass first
					return
				}
				do(job)
			}
		})
	}
	begin := time.Now()
	for job := range 11 {
		jobs <- job
	}
	close(jobs)
	workers.Wait()
	fmt.Println("11 jobs at 100/s took at least 100 ms:", time.Since(begin) >= 100*time.Millisecond)
	// Output: 11 jobs at 100/s took at least 100 ms: true
}

func ExampleLimiter_Take() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(100, time.Minute)})
	if err != nil {
		panic(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		res := l.Take(r.Header.Get("X-Api-Key"))
		if !res.Allowed {
			if res.RetryAfter > 0 { // -1: never
				w.Header().Set("Retry-After", strconv.Itoa(int(res.RetryAfter.Seconds())+1))
			}
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		fmt.Fprintln(w, "hello")
	})
	res := l.Take("key")
	fmt.Println(res.Allowed, res.Limit, res.Remaining)
	// Output: true 100/1m0s 99
}

// A token budget for a language model: take an estimate before the call, and
// settle the difference after it.
func ExampleLimiter_Charge() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(10_000, time.Minute)})
	if err != nil {
		panic(err)
	}
	settle := func(key string, estimate, used int) {
		l.Charge(key, used-estimate) // does nothing below 1
		l.Refund(key, estimate-used) // likewise
	}
	const estimate = 2000
	if l.AllowN("tenant:7", estimate) {
		settle("tenant:7", estimate, 3500)
	}
	fmt.Println(l.Peek("tenant:7").Remaining)
	// Output: 6500
}

func ExampleLimiter_Reserve() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 1, Burst: 1}})
	if err != nil {
		panic(err)
	}
	first, second := l.Reserve("crawl:example.org"), l.Reserve("crawl:example.org")
	fmt.Println(first.Delay(), second.Delay().Round(time.Second))
	second.Cancel()
	// Output: 0s 1s
}

func ExampleConfig_limitFor() {
	plans := map[string]limiter.Limit{"pro": limiter.Per(1000, time.Minute), "internal": {Rate: rate.Inf}}
	l, err := limiter.New(limiter.Config{
		Limit: limiter.Per(60, time.Minute),
		LimitFor: func(key string) (limiter.Limit, bool) {
			lim, ok := plans[key]
			return lim, ok
		},
	})
	if err != nil {
		panic(err)
	}
	for _, key := range []string{"free", "pro", "internal"} {
		fmt.Println(key, l.Take(key).Limit)
	}
	// Output:
	// free 60/1m0s
	// pro 1000/1m0s
	// internal unlimited
}

func ExampleParseLimit() {
	for _, s := range []string{"100/15m", "10/s burst 50", "unlimited"} {
		lim, err := limiter.ParseLimit(s)
		fmt.Println(lim, err)
	}
	// Output:
	// 100/15m0s <nil>
	// 50/5s <nil>
	// unlimited <nil>
}
