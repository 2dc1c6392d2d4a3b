// Windows applies two limits to each key at once: ten a second, and fifteen a minute.
//
//	go run ./examples/windows
//
// Look at request: one decision on both windows takes from both or from neither, so
// that a denial of one does not use up the other. Two windows are two limiters. With
// Config.Redis they may share a client, under different prefixes.
package main

import (
	"fmt"
	"log"
	"time"

	"github.com/seed-e56e777b/limiter"
)

func main() {
	second, minute := open("second", limiter.Per(10, time.Second)), open("minute", limiter.Per(15, time.Minute))
	defer second.Close()
	defer minute.Close()
	for i := range 30 {
		fmt.Printf("%2d  %s\n", i, request(second, minute, "user:42"))
		time.Sleep(30 * time.Millisecond)
	}
}

func open(prefix string, lim limiter.Limit) *limiter.Limiter {
	l, err := limiter.New(limiter.Config{Limit: lim, Prefix: prefix}) // with Redis: client, Processes: size of the fleet
	if err != nil {
		log.Fatal(err)
	}
	return l
}

// request writes the result of one request.
func request(second, minute *limiter.Limiter, user string) string {
	r, window := limiter.TakeAll(second.Part(user, 1), minute.Part(user, 1))
	name := []string{"second", "minute"}[window]
	if !r.Allowed {
		return fmt.Sprintf("denied by the %s (%v), again in %v", name, r.Limit, r.RetryAfter.Round(10*time.Millisecond))
	}
	return fmt.Sprintf("ok, %d left in the %s", r.Remaining, name)
}
