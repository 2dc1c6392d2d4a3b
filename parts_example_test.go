package limiter_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter"
)

// Two windows on one key are two limiters, which share a client under prefixes
// of their own.
func ExampleTakeAll() {
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{"localhost:6379"}}))
	defer client.Close()
	second, err := limiter.New(limiter.Config{Limit: limiter.Per(10, time.Second), Redis: client, Prefix: "api:second", Processes: 1})
	if err != nil {
		panic(err)
	}
	defer second.Close()
	hour, err := limiter.New(limiter.Config{Limit: limiter.Per(1000, time.Hour), Redis: client, Prefix: "api:hour", Processes: 1})
	if err != nil {
		panic(err)
	}
	defer hour.Close()

	user := "user:42"
	r, i := limiter.TakeAll(second.Part(user, 1), hour.Part(user, 1))
	fmt.Println(r.Allowed, "tightest:", []string{"second", "hour"}[i], r.Limit, r.Remaining)
	// Output: true tightest: second 10/1s 9
}

func ExampleWaitAll() {
	requests, err := limiter.New(limiter.Config{Limit: limiter.Per(60, time.Minute)})
	if err != nil {
		panic(err)
	}
	tokens, err := limiter.New(limiter.Config{Limit: limiter.Per(10_000, time.Minute)})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	if err := limiter.WaitAll(ctx, requests.Part("tenant:7", 1), tokens.Part("tenant:7", 2500)); err != nil {
		fmt.Println(err) // nothing was taken of either
		return
	}
	fmt.Println(requests.Peek("tenant:7").Remaining, tokens.Peek("tenant:7").Remaining)
	// Output: 59 7500
}

func ExampleConfig_shadow() {
	l, err := limiter.New(limiter.Config{
		Limit:  limiter.Per(2, time.Hour),
		Shadow: func(key string) bool { return strings.HasPrefix(key, "partner:") },
	})
	if err != nil {
		panic(err)
	}
	defer l.Close()
	for range 3 {
		r := l.Take("partner:acme")
		fmt.Println(r.Allowed, r.Shadow, r.Remaining)
	}
	s := l.Stats()
	fmt.Println("allowed", s.Allowed, "of these over the limit", s.Shadowed)
	// Output:
	// true false 1
	// true false 0
	// true true 0
	// allowed 3 of these over the limit 1
}
