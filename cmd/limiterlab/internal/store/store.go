// Package store provides the Redis of a run, which the lab can take away from the
// fleet and bring back.
package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter/internal/redisstore"
)

// Store is a Redis that the lab can end and start. Its methods are called by one
// goroutine at a time.
type Store interface {
	Endpoint() Endpoint
	String() string                 // name for the reader of a report
	Fate() (dies, returns string)   // verbs for the reader: "is killed", "is started again, empty"
	Down(ctx context.Context) error // returns when it is out of reach
	Up(ctx context.Context) error   // returns when it answers again
	Wipe(ctx context.Context) error // deletes all data of the fleet, while it is up
	Close() error                   // deletes all traces; may be called at any time
}

// Endpoint is the address of the Redis of a run. It is sent to the processes of a
// fleet through a pipe, because it may hold a password.
type Endpoint struct {
	URL string // of Redis
	Via string // address of a proxy to dial in its place; empty for none
}

// Options returns the options of a client of the endpoint. Time-outs, retries and
// pools in the URL are dropped: limiter.Tune sets them.
func (e Endpoint) Options() (*redis.UniversalOptions, error) {
	o, err := ParseURL(e.URL)
	if err != nil {
		return nil, err
	}
	addr := o.Addrs[0]
	if e.Via != "" {
		addr = e.Via
	}
	return &redis.UniversalOptions{
		Addrs:     []string{addr},
		Username:  o.Username,
		Password:  o.Password,
		DB:        o.DB,
		Protocol:  o.Protocol,
		TLSConfig: o.TLSConfig,
	}, nil
}

// ParseURL returns the options of a client of one server, which is all that a proxy can
// stand before, or the fault of the URL.
func ParseURL(url string) (*redis.UniversalOptions, error) {
	o, err := redisstore.OptionsFromURL(url)
	switch {
	case err != nil:
		return nil, err
	case o.MasterName != "":
		return nil, errors.New("want the URL of one server, not of Sentinels")
	case o.IsClusterMode:
		return nil, errors.New("want the URL of one server, not of a Cluster")
	}
	return o, nil
}

// networkOf returns the network of an address.
func networkOf(addr string) string {
	if strings.HasPrefix(addr, "/") {
		return "unix"
	}
	return "tcp"
}

// once calls a function with a client of the endpoint that does not retry.
func (e Endpoint) once(do func(redis.UniversalClient) error) error {
	o, err := e.Options()
	if err != nil {
		return err
	}
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.DialTimeout = 2 * time.Second
	client := redis.NewUniversalClient(o)
	defer client.Close()
	if err := do(client); err != nil {
		return fmt.Errorf("no answer from Redis: %w", err)
	}
	return nil
}

// ping sends one PING, as a client of the fleet would.
func (e Endpoint) ping(ctx context.Context) error {
	return e.once(func(c redis.UniversalClient) error { return c.Ping(ctx).Err() })
}
