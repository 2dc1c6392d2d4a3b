package redisstore

import (
	"context"
	"net"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// guarded is a connection that ends at a reply of an absurd size. go-redis allocates
// the size that a reply claims before it has arrived. An absurd one ends the
// process, even during the handshake.
type guarded struct {
	net.Conn
	stream stream
	err    error // first error of the stream, which stays
}

// checked is a guarded connection whose socket go-redis can check: an idle
// connection may have been closed meanwhile.
type checked struct {
	*guarded
	syscall.Conn
}

// guard guards a connection that has not been read from. go-redis can check its
// socket if c itself is one.
func guard(c net.Conn) net.Conn {
	g := &guarded{Conn: c}
	if s, ok := c.(syscall.Conn); ok {
		return &checked{g, s}
	}
	return g
}

// Read implements net.Conn. It is not for concurrent use. A stream error closes the
// connection.
func (g *guarded) Read(p []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	n, err := g.Conn.Read(p)
	n, g.err = g.stream.follow(p[:n])
	if g.err != nil {
		_ = g.Close()
		return n, g.err
	}
	return n, err
}

// NetConn returns the underlying connection, as [tls.Conn.NetConn] does.
func (g *guarded) NetConn() net.Conn { return g.Conn }

// dialer returns a function that dials as go-redis itself does by these options, and
// guards the connection. It reads the options at each dial, because TLS is often
// configured after Tune.
func dialer(options func() *redis.Options) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		o := options()
		dial := redis.NewDialer(&redis.Options{DialTimeout: max(0, o.DialTimeout), TLSConfig: o.TLSConfig}) // below 0, as in a URL, it is none
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return guard(c), nil
	}
}
