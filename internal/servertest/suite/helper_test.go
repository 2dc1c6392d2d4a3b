package suite_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
)

// slow refills so slowly that only the burst is admitted.
var slow = limiter.Limit{Rate: 0.001, Burst: 100}

// tuned and untuned are the two kinds of client that users bring.
func tuned(addrs ...string) *redis.UniversalOptions {
	return limiter.Tune(&redis.UniversalOptions{Addrs: addrs})
}

func untuned(addrs ...string) *redis.UniversalOptions { return &redis.UniversalOptions{Addrs: addrs} }

// start makes a limiter with a client of its own.
func start(t testing.TB, o *redis.UniversalOptions, cfg limiter.Config) *limiter.Limiter {
	t.Helper()
	client := redis.NewUniversalClient(o)
	cfg.Redis = client
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	l, err := limiter.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = l.Close()
		_ = client.Close()
	})
	return l
}

func syncOnce(l *limiter.Limiter) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return l.Sync(ctx)
}

// exchanged waits for a whole exchange. On a busy machine a first one may run
// into the time-out of the client.
func exchanged(t testing.TB, l *limiter.Limiter) {
	t.Helper()
	eventually(t, "an exchange", func() bool { return syncOnce(l) == nil })
}

// eventually asks again and again, as the limiter's own rounds go on, for at
// most half a minute.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// fails tries again and again until the error contains the words, for at most
// half a minute: on a busy machine a time-out may come first.
func fails(t testing.TB, what, words string, try func() error) {
	t.Helper()
	var last error
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-tick.C {
		err := try()
		if err != nil && strings.Contains(err.Error(), words) {
			return
		}
		last = err
	}
	t.Fatalf("%s: no %q within 30 s, but %v", what, words, last)
}

func synced(l *limiter.Limiter) func() bool {
	return func() bool { return l.Status().State == limiter.Synced }
}

// seen returns a process's view of the tokens in the shared bucket of a key.
func seen(l *limiter.Limiter, key string) int {
	return slow.Burst - int(l.Peek(key).ResetAfter.Seconds()*float64(slow.Rate)+0.5)
}
