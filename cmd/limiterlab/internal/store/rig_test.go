package store

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/servertest"
)

// rigs are all kinds of stores on rigs.
func rigs(t *testing.T, test func(t *testing.T, r *Rig)) {
	for name, open := range map[string]func(t *testing.T) (Store, error){
		"embedded": func(*testing.T) (Store, error) { return NewEmbedded() },
		"server": func(t *testing.T) (Store, error) {
			servertest.Need(t)
			return NewServer()
		},
		"remote": func(t *testing.T) (Store, error) {
			return NewRemote(t.Context(), "redis://"+miniredis.RunT(t).Addr(), "limiterlab-x")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st, err := open(t)
			require.NoError(t, err)
			r, err := NewRig(st)
			require.NoError(t, err)
			defer r.Close()
			test(t, r)
		})
	}
}

// client is one of the fleet, which waits for an answer as long as it takes.
func client(t *testing.T, r *Rig) *redis.Client {
	c := redis.NewClient(&redis.Options{
		Addr: r.Endpoint().Via, MaxRetries: -1, DialerRetries: 1, ReadTimeout: -1, ContextTimeoutEnabled: true, DisableIdentity: true,
	})
	t.Cleanup(func() { c.Close() })
	return c
}

func TestRigKillsAndRevives(t *testing.T) {
	rigs(t, func(t *testing.T, r *Rig) {
		c := client(t, r)
		require.NoError(t, c.Ping(t.Context()).Err())
		for _, before := range []Mode{Up, Slow, Frozen} {
			require.NoError(t, r.Set(t.Context(), before))
			require.NoError(t, r.Set(t.Context(), Dead))
			require.NoError(t, r.Set(t.Context(), Dead), "again")
			require.Equal(t, Dead, r.Mode())
			require.Error(t, c.Ping(t.Context()).Err())
			require.NoError(t, r.Set(t.Context(), Up))
			require.NoError(t, c.Ping(t.Context()).Err())
		}
	})
}

// TestRigFreezes: what was asked of a frozen Redis is answered after its thaw,
// on the same connection.
func TestRigFreezes(t *testing.T) {
	rigs(t, func(t *testing.T, r *Rig) {
		c := client(t, r)
		require.NoError(t, c.Set(t.Context(), "limiterlab-x:a", "1", 0).Err())
		require.NoError(t, r.Set(t.Context(), Frozen))
		asked := make(chan error, 1)
		go func() { asked <- c.Get(context.Background(), "limiterlab-x:a").Err() }()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		require.Error(t, c.Ping(ctx).Err())
		require.Empty(t, asked)
		require.NoError(t, r.Set(t.Context(), Up))
		require.NoError(t, <-asked)
	})
}

func TestRigDelaysAnswers(t *testing.T) {
	rigs(t, func(t *testing.T, r *Rig) {
		c := client(t, r)
		require.NoError(t, c.Ping(t.Context()).Err())
		require.NoError(t, r.Set(t.Context(), Slow))
		begun := time.Now()
		require.NoError(t, c.Ping(t.Context()).Err())
		require.GreaterOrEqual(t, time.Since(begun), Delay)
	})
}

func TestRigWipes(t *testing.T) {
	rigs(t, func(t *testing.T, r *Rig) {
		c := client(t, r)
		require.NoError(t, c.Set(t.Context(), "limiterlab-x:a", "1", 0).Err())
		require.NoError(t, r.Wipe(t.Context()))
		require.ErrorIs(t, c.Get(t.Context(), "limiterlab-x:a").Err(), redis.Nil)
	})
}

// TestLastWordsArrive has a server that answers and hangs up, behind a slow proxy.
func TestLastWordsArrive(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	go func() {
		if conn, err := ln.Accept(); err == nil {
			_, _ = conn.Write([]byte("bye"))
			_ = conn.Close()
		}
	}()
	p, err := newProxy("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer p.cut()
	p.thaw(Delay)
	conn, err := net.Dial("tcp", p.addr)
	require.NoError(t, err)
	defer conn.Close()
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "bye", string(got))
}
