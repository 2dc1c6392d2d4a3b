// Package store is the Redis of a run: one that the lab can take away from the
// fleet and bring back.
package store

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Store is a Redis that comes and goes at the lab's word. Its methods are
// called by one goroutine at a time.
type Store interface {
	Endpoint() Endpoint
	String() string                 // what it is, for the reader of a report
	Fate() (dies, returns string)   // how it goes and comes back, likewise: "is killed", "is started again, empty"
	Down(ctx context.Context) error // returns when nobody reaches it any more
	Up(ctx context.Context) error   // returns when it answers again
	Wipe(ctx context.Context) error // forgets, while it is up, all that the fleet has told it
	Close() error                   // leaves nothing behind; may be called at any time
}

// Endpoint is where a process finds the Redis of the run. It travels to the
// processes of a fleet, through a pipe, since it may hold a password.
type Endpoint struct {
	URL string // of Redis
	Via string // address of a proxy to dial in its place; empty: none
}

// Options returns what a client of the endpoint needs to know. What the URL
// says of timeouts, retries and pools is left out: that is for limiter.Tune.
func (e Endpoint) Options() (*redis.UniversalOptions, error) {
	o, err := redis.ParseURL(e.URL)
	if err != nil {
		return nil, err
	}
	addr := o.Addr
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

// once has a client of the endpoint, which repeats nothing, do one thing.
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

// ping asks the endpoint once, as a client of the fleet would.
func (e Endpoint) ping(ctx context.Context) error {
	return e.once(func(c redis.UniversalClient) error { return c.Ping(ctx).Err() })
}
