package limiter_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter"
)

// A Redis of one server: TLS, a user of the limiter's own.
func ExampleTune() {
	pem, err := os.ReadFile("/etc/redis/ca.pem")
	if err != nil {
		fmt.Println(err)
		return
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		fmt.Println("no certificate in /etc/redis/ca.pem")
		return
	}
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{
		Addrs:     []string{"redis.example.com:6380"},
		Username:  "limiter",
		Password:  os.Getenv("REDIS_PASSWORD"),
		TLSConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, // nil: no TLS
	}))
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(100, time.Minute), Redis: client, Processes: 8})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close() // runs after l.Close
	defer l.Close()
	fmt.Println(l.Allow("user:42"))
}

func ExampleTune_sentinel() {
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{
		MasterName:       "mymaster",
		Addrs:            []string{"sentinel-1:26379", "sentinel-2:26379", "sentinel-3:26379"},
		Username:         "limiter", // on the primary and its replicas
		Password:         os.Getenv("REDIS_PASSWORD"),
		SentinelUsername: "limiter", // on the Sentinels
		SentinelPassword: os.Getenv("SENTINEL_PASSWORD"),
		TLSConfig:        &tls.Config{MinVersion: tls.VersionTLS12}, // for both; nil: no TLS
	}))
	_ = client.Close()
}

func ExampleTune_cluster() {
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{
		Addrs:         []string{"node-1:6379", "node-2:6379", "node-3:6379"},
		IsClusterMode: true, // needed where there is but one address
		Username:      "limiter",
		Password:      os.Getenv("REDIS_PASSWORD"),
		TLSConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
	}))
	_ = client.Close()
}

func ExampleTune_ring() {
	o := limiter.Tune(&redis.UniversalOptions{
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12}, // for the Dialer; nil: no TLS
	})
	client := redis.NewRing(&redis.RingOptions{
		Addrs:    map[string]string{"one": "redis-1:6379", "two": "redis-2:6379"},
		Username: "limiter",
		Password: os.Getenv("REDIS_PASSWORD"),

		Dialer:   o.Dialer,
		PoolSize: o.PoolSize, PipelinePoolSize: o.PipelinePoolSize, PoolTimeout: o.PoolTimeout,
		MaxRetries: o.MaxRetries, DialerRetries: o.DialerRetries, DialTimeout: o.DialTimeout,
		ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		ContextTimeoutEnabled: o.ContextTimeoutEnabled, DisableIdentity: o.DisableIdentity,
	})
	_ = client.Close()
}

// What to log, or to answer a probe with.
func ExampleLimiter_Status() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(100, time.Minute)})
	if err != nil {
		panic(err)
	}
	st := l.Status()
	switch {
	case st.State == limiter.Local, st.State == limiter.Synced:
		fmt.Println("well, in a fleet of", st.Processes)
	case errors.Is(st.Err, limiter.ErrClosed):
		fmt.Println("closed")
	default: // Connecting or Degraded
		fmt.Println(st.State, "since", st.Since, "because of", st.Err)
	}
	// Output: well, in a fleet of 1
}
