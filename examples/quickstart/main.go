// Quickstart is a loop over Allow with a limit shared through Redis, or a local one
// without Redis.
package main

import (
	"fmt"
	"log"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter"
)

func main() {
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{"localhost:6379"}}))
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(5, time.Second), Redis: client, Processes: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	defer l.Close()
	for i := range 20 {
		fmt.Println(i, l.Allow("user:42"), l.Status().State)
		time.Sleep(100 * time.Millisecond)
	}
}
