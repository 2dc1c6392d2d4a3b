package store

import (
	"context"

	"github.com/alicebob/miniredis/v2"

	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// Embedded is a miniredis inside this program, so that the lab needs no installed
// Redis. It loses its data when it dies: a new one comes back at the same
// address.
type Embedded struct {
	addr string
	srv  *miniredis.Miniredis // nil while down
}

// NewEmbedded starts a miniredis on a free loopback port.
func NewEmbedded() (*Embedded, error) {
	addr, err := redisserver.FreeAddr()
	if err != nil {
		return nil, err
	}
	e := &Embedded{addr: addr}
	if err := e.Up(context.Background()); err != nil {
		return nil, err
	}
	return e, nil
}

// Endpoint implements [Store].
func (e *Embedded) Endpoint() Endpoint { return Endpoint{URL: "redis://" + e.addr} }

func (e *Embedded) String() string { return "a miniredis inside this program" }

// Fate implements [Store].
func (e *Embedded) Fate() (dies, returns string) { return "is stopped", "is started again, empty" }

// Down implements [Store].
func (e *Embedded) Down(context.Context) error { return e.Close() }

// Up implements [Store].
func (e *Embedded) Up(context.Context) error {
	srv := miniredis.NewMiniRedis()
	if err := redisserver.Patiently(func() error { return srv.StartAddr(e.addr) }); err != nil {
		return err
	}
	e.srv = srv
	return nil
}

// Wipe implements [Store].
func (e *Embedded) Wipe(context.Context) error {
	e.srv.FlushAll()
	return nil
}

// Close implements [Store].
func (e *Embedded) Close() error {
	if e.srv != nil {
		e.srv.Close()
		e.srv = nil
	}
	return nil
}
