package limits_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/limits"
)

func Example() {
	path := os.TempDir() + "/limits.json"
	defer os.Remove(path)
	_ = os.WriteFile(path, []byte(`{
		"*":       "100/1m",
		"user:*":  "10/s burst 50",
		"user:42": "1000/1m shadow"
	}`), 0o600)

	ctx := context.Background()
	ls, err := limits.Open(ctx, limits.File(path), limits.Options{Interval: 10 * time.Second})
	if err != nil {
		panic(err)
	}
	defer ls.Close()
	l, err := limiter.New(limiter.Config{Limit: ls.Default(), LimitFor: ls.LimitFor, Shadow: ls.Shadow})
	if err != nil {
		panic(err)
	}
	defer l.Close()
	ls.Watch(l)
	for _, key := range []string{"user:7", "user:42", "tenant:1"} {
		fmt.Println(key, l.Take(key).Limit)
	}
	// Output:
	// user:7 10/s burst 50
	// user:42 1000/m
	// tenant:1 100/m
}

// From a hash in Redis: HSET limits '*' '100/1m' 'user:*' '10/s burst 50'.
func ExampleHash() {
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{"localhost:6379"}}))
	defer client.Close()
	ls, err := limits.Open(context.Background(), limits.Hash(client, "limits"), limits.Options{})
	if err != nil {
		fmt.Println(err) // a program may go on with limits of its own
		return
	}
	defer ls.Close()
	fmt.Println(ls.Default())
}

// loadOf returns the load of a database, from 0 to 1.
func loadOf(context.Context) (float64, error) { return 0.9, nil }

// Limits that follow the load of a database that all processes share.
func ExampleSource() {
	ctx := context.Background()
	adaptive := func(ctx context.Context) ([]limits.Rule, error) {
		load, err := loadOf(ctx) // of the database: the same in all processes
		limit := "100/s"
		if load > 0.8 {
			limit = "20/s"
		}
		return []limits.Rule{{Pattern: "*", Limit: limit, Place: "load"}}, err
	}
	ls, err := limits.Open(ctx, adaptive, limits.Options{Interval: time.Second})
	if err != nil {
		panic(err)
	}
	defer ls.Close()
	fmt.Println(ls.Default())
	// Output: 20/s
}
