package redisstore

import (
	"context"
	"net"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// guarded is a connection on which no reply claims more than a limiter's client
// has a use for. go-redis allocates what a reply claims before it has come, and
// a number of absurd size ends the process, in its handshake already.
type guarded struct {
	net.Conn
	stream stream
	err    error // what was wrong, for good
}

// checked is a guarded connection whose socket go-redis can look at, to see
// whether an idle connection has been closed meanwhile.
type checked struct {
	*guarded
	syscall.Conn
}

// guard guards a connection that has not been read from. As on a bare one,
// go-redis may look at the socket if, and only if, nothing is between.
func guard(c net.Conn) net.Conn {
	g := &guarded{Conn: c}
	if s, ok := c.(syscall.Conn); ok {
		return &checked{g, s}
	}
	return g
}

// Read implements net.Conn. Like that of the connection below, it is not for
// concurrent use. What is wrong in a stream ends the connection.
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

// NetConn is the connection below, as with tls.Conn.
func (g *guarded) NetConn() net.Conn { return g.Conn }

// dialer dials as go-redis itself would by these options, and guards the
// connection. It reads them when it dials: TLS is often configured after Tune.
func dialer(o *redis.UniversalOptions) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		dial := redis.NewDialer(&redis.Options{DialTimeout: o.DialTimeout, TLSConfig: o.TLSConfig})
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return guard(c), nil
	}
}
