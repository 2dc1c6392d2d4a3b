package store

import (
	"context"
	"fmt"
	"time"
)

// Mode is the behaviour of the Redis behind a [Rig].
type Mode string

// The modes of a Redis.
const (
	Up     Mode = "up"
	Slow   Mode = "slow"   // every answer takes Delay more
	Frozen Mode = "frozen" // connections stay open, nothing is answered
	Dead   Mode = "dead"
)

// Delay is the additional time of a slow Redis's answer. It is less than the
// time-out of limiter.Tune, so that the fleet keeps exchanging.
const Delay = 100 * time.Millisecond

// Rig is a store behind a proxy, so that it can also hang and be slow. Its methods
// are called by one goroutine at a time.
type Rig struct {
	store Store
	proxy *proxy
	mode  Mode
}

// NewRig returns the rig of a store that is up. Close closes the store too.
func NewRig(st Store) (*Rig, error) {
	e := st.Endpoint()
	network, addr := "tcp", e.Via
	if addr == "" {
		o, err := ParseURL(e.URL)
		if err != nil {
			return nil, err
		}
		network, addr = networkOf(o.Addrs[0]), o.Addrs[0]
	}
	p, err := newProxy(network, addr)
	if err != nil {
		return nil, err
	}
	return &Rig{store: st, proxy: p, mode: Up}, nil
}

// Endpoint returns the address of the Redis for the fleet.
func (r *Rig) Endpoint() Endpoint {
	return Endpoint{URL: r.store.Endpoint().URL, Via: r.proxy.addr}
}

// String returns the name of the store.
func (r *Rig) String() string { return r.store.String() }

// Fate returns the store's.
func (r *Rig) Fate() (dies, returns string) { return r.store.Fate() }

// Mode returns the present mode.
func (r *Rig) Mode() Mode { return r.mode }

// Set changes the mode. After an error the Redis may be dead.
func (r *Rig) Set(ctx context.Context, m Mode) error {
	if m == Dead {
		return r.kill(ctx)
	}
	if r.mode == Dead {
		if err := r.revive(ctx); err != nil {
			return err
		}
	}
	switch m {
	case Frozen:
		r.proxy.freeze()
	case Slow:
		r.proxy.thaw(Delay)
	default:
		r.proxy.thaw(0)
	}
	r.mode = m
	return nil
}

func (r *Rig) kill(ctx context.Context) error {
	if r.mode == Dead {
		return nil
	}
	r.mode = Dead
	r.proxy.cut()
	return r.store.Down(ctx)
}

func (r *Rig) revive(ctx context.Context) error {
	if err := r.store.Up(ctx); err != nil {
		return err
	}
	if err := r.proxy.restore(); err != nil {
		return fmt.Errorf("the proxy can't listen again: %w", err)
	}
	return nil
}

// Wipe deletes all data of the fleet. The Redis must not be dead.
func (r *Rig) Wipe(ctx context.Context) error { return r.store.Wipe(ctx) }

// Close ends the proxy and the store.
func (r *Rig) Close() error {
	r.proxy.cut()
	return r.store.Close()
}
