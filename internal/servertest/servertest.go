// Package servertest starts real Redis servers for tests and benchmarks.
package servertest

import (
	"os"
	"testing"

	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// Need skips a test if there is no redis-server on the PATH. In continuous integration
// (environment variable CI) the test fails, because a skip would go unseen.
func Need(t testing.TB) {
	t.Helper()
	err := redisserver.Find()
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

// Server starts a server, which ends with the test.
func Server(t testing.TB, opts redisserver.Options) *redisserver.Server {
	t.Helper()
	return lend(t, func() (*redisserver.Server, error) { return redisserver.Start(opts) })
}

// Cluster starts a Cluster, which ends with the test.
func Cluster(t testing.TB) *redisserver.Cluster {
	t.Helper()
	return lend(t, func() (*redisserver.Cluster, error) { return redisserver.StartCluster(redisserver.Options{}) })
}

// Sentinel starts a primary, a replica and their Sentinels, which end with the test.
func Sentinel(t testing.TB) *redisserver.Sentinel {
	t.Helper()
	return SentinelWith(t, redisserver.Options{})
}

// SentinelWith is [Sentinel] with options.
func SentinelWith(t testing.TB, opts redisserver.Options) *redisserver.Sentinel {
	t.Helper()
	return lend(t, func() (*redisserver.Sentinel, error) { return redisserver.StartSentinel(opts) })
}

func lend[S interface{ Close() error }](t testing.TB, start func() (S, error)) S {
	t.Helper()
	Need(t)
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
