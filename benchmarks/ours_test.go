package benchmarks_test

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// openLocal is limiter without Redis.
func openLocal(tb testing.TB, lim limiter.Limit, capacity int) opened {
	return open(tb, limiter.Config{Limit: lim, MaxKeys: capacity})
}

// openShared opens limiter as a fleet runs it: with a syncer that exchanges its usage.
func openShared(tb testing.TB, lim limiter.Limit, capacity int) opened {
	return open(tb, shared(tb, limiter.Config{Limit: lim, MaxKeys: capacity}))
}

// shared has a limiter share its limits through a Redis server of its own.
func shared(tb testing.TB, cfg limiter.Config) limiter.Config {
	cfg.Redis = tuned(tb, servertest.Server(tb, redisserver.Options{}))
	cfg.Processes = 1
	return cfg
}

func open(tb testing.TB, cfg limiter.Config) opened {
	l := newLimiter(tb, cfg)
	return opened{
		resident: func() int { return l.Stats().Keys },
		settle:   func() error { return l.Sync(context.Background()) },
		decide:   func(key string) (bool, error) { return l.Allow(key), nil },
	}
}

func newLimiter(tb testing.TB, cfg limiter.Config) *limiter.Limiter {
	tb.Helper()
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	l := must(limiter.New(cfg))(tb)
	tb.Cleanup(func() { _ = l.Close() })
	if err := l.Sync(context.Background()); err != nil {
		tb.Fatal(err)
	}
	return l
}

// tuned is the client that limiter recommends.
func tuned(tb testing.TB, server *redisserver.Server) redis.UniversalClient {
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{server.Addr()}}))
	tb.Cleanup(func() { _ = client.Close() })
	return client
}
