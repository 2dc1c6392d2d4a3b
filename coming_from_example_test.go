package limiter_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
)

// visitors is a map of limiters, as it is often seen: it grows without a bound.
type visitors struct {
	mu    sync.Mutex
	byKey map[string]*rate.Limiter
}

func (v *visitors) allow(key string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	l, ok := v.byKey[key]
	if !ok {
		l = rate.NewLimiter(10, 20)
		v.byKey[key] = l
	}
	return l.Allow()
}

// What comes in place of a map of x/time/rate limiters, and decides alike.
func Example_comingFromXTime() {
	before := visitors{byKey: map[string]*rate.Limiter{}}
	l, err := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 10, Burst: 20}, MaxKeys: 100_000})
	if err != nil {
		panic(err)
	}
	defer l.Close()
	same := true
	for range 21 {
		same = same && before.allow("user:42") == l.Allow("user:42")
	}
	fmt.Println(same)
	// Output: true
}

func ExampleLimiter_Wait_errors() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 1, Burst: 1}})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	fmt.Println(errors.Is(l.WaitN(ctx, "key", 2), limiter.ErrExceedsBurst))
	fmt.Println(l.Wait(ctx, "key"))
	fmt.Println(errors.Is(l.Wait(ctx, "key"), context.DeadlineExceeded))
	// Output:
	// true
	// <nil>
	// true
}

// What comes in place of redis_rate.
func Example_comingFromRedisRate() {
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{"localhost:6379"}}))
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(10, time.Second), Redis: client, Processes: 4})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	defer l.Close()

	res := l.Take("project:123")
	if !res.Allowed {
		fmt.Println("too many requests, again in", res.RetryAfter)
	}
}

// TestTimeStandsInABubble: code that uses a limiter is tested in a bubble,
// whose clock is the limiter's.
func TestTimeStandsInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := limiter.New(limiter.Config{Limit: limiter.Per(2, time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []bool{true, true, false} {
			if got := l.Allow("user:42"); got != want {
				t.Errorf("request %d: %v, want %v", i, got, want)
			}
		}
		time.Sleep(30 * time.Second) // takes no time
		if !l.Allow("user:42") {
			t.Error("a token is back after half a minute")
		}
	})
}
