package store

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// Remote is a running Redis that the lab must not harm. The fleet reaches it
// through a proxy of the lab's own, which is cut instead. The fleet's keys are
// deleted at the end.
type Remote struct {
	endpoint Endpoint
	addr     string
	prefix   string // of the fleet's keys
	proxy    *proxy
}

// NewRemote returns the Redis at url, that of one server, which must answer. Keys that begin with prefix must be the lab's own.
func NewRemote(ctx context.Context, url, prefix string) (*Remote, error) {
	o, err := ParseURL(url)
	if err != nil {
		return nil, err
	}
	if err := (Endpoint{URL: url}).ping(ctx); err != nil {
		return nil, err
	}
	p, err := newProxy(networkOf(o.Addrs[0]), o.Addrs[0])
	if err != nil {
		return nil, err
	}
	return &Remote{endpoint: Endpoint{URL: url, Via: p.addr}, addr: o.Addrs[0], prefix: prefix, proxy: p}, nil
}

// Endpoint implements [Store].
func (r *Remote) Endpoint() Endpoint { return r.endpoint }

func (r *Remote) String() string {
	return "the Redis at " + r.addr + ", through a proxy of the lab's own"
}

// Fate implements [Store].
func (r *Remote) Fate() (dies, returns string) {
	return "is cut off at the proxy (it runs on)", "is let through again, with its data"
}

// Down implements [Store].
func (r *Remote) Down(context.Context) error {
	r.proxy.cut()
	return nil
}

// Up implements [Store].
func (r *Remote) Up(context.Context) error { return r.proxy.restore() }

// Wipe implements [Store]: it deletes the fleet's keys and no others.
func (r *Remote) Wipe(ctx context.Context) error {
	return Endpoint{URL: r.endpoint.URL}.once(func(client redis.UniversalClient) error {
		keys := client.Scan(ctx, 0, r.prefix+":*", 1000).Iterator()
		for keys.Next(ctx) {
			if err := client.Unlink(ctx, keys.Val()).Err(); err != nil {
				return err
			}
		}
		return keys.Err()
	})
}

// Close implements [Store]. Keys that it can't delete expire.
func (r *Remote) Close() error {
	r.proxy.cut()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return r.Wipe(ctx)
}
