// Quickstart is the server at the top of the README: its requests are limited
// by client address, through Redis or, where there is none, without.
//
//	go run ./examples/quickstart
//	curl -i localhost:8080
package main

import (
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/httplimit"
)

func main() {
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{"localhost:6379"}}))
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(100, time.Minute), Redis: client, Processes: 4})
	if err != nil {
		log.Fatal(err)
	}
	limit := httplimit.New(l, httplimit.Options{}) // by client address

	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
	log.Fatal(http.ListenAndServe("localhost:8080", limit(mux)))
}
