package store

import (
	"context"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/servertest"
)

func TestMain(m *testing.M) {
	logging.Disable()
	m.Run()
}

// do runs one command as a client of the store would, and returns the reply.
func do(t *testing.T, s Store, args ...any) (any, error) {
	o, err := s.Endpoint().Options()
	require.NoError(t, err)
	o.MaxRetries = -1
	o.DialerRetries = 1
	client := redis.NewUniversalClient(o)
	defer client.Close()
	return client.Do(context.Background(), args...).Result()
}

// checkComesAndGoes takes a store away and brings it back.
func checkComesAndGoes(t *testing.T, s Store, keepsData bool) {
	ctx := context.Background()
	_, err := do(t, s, "SET", "limiterlab-x:y", "1")
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, s.Down(ctx))
		_, err = do(t, s, "PING")
		require.Error(t, err)
		require.NoError(t, s.Up(ctx))
		_, err = do(t, s, "PING")
		require.NoError(t, err)
	}
	n, err := do(t, s, "EXISTS", "limiterlab-x:y")
	require.NoError(t, err)
	require.Equal(t, keepsData, n == int64(1))

	require.NoError(t, s.Close())
	_, err = do(t, s, "PING")
	require.Error(t, err)
	require.NoError(t, s.Close())
}

func TestEmbedded(t *testing.T) {
	s, err := NewEmbedded()
	require.NoError(t, err)
	checkComesAndGoes(t, s, false)
}

func TestServer(t *testing.T) {
	servertest.Need(t)
	s, err := NewServer()
	require.NoError(t, err)
	checkComesAndGoes(t, s, false)
}

func TestRemoteIsNotHarmed(t *testing.T) {
	theirs := miniredis.RunT(t)
	require.NoError(t, theirs.Set("limiterlab-xy", "theirs"))
	s, err := NewRemote(context.Background(), "redis://"+theirs.Addr(), "limiterlab-x")
	require.NoError(t, err)
	checkComesAndGoes(t, s, true)
	require.Equal(t, []string{"limiterlab-xy"}, theirs.Keys())
}

func TestRemoteBreaksWhatIsOpen(t *testing.T) {
	ctx := context.Background()
	s, err := NewRemote(ctx, "redis://"+miniredis.RunT(t).Addr(), "limiterlab-x")
	require.NoError(t, err)
	defer s.Close()
	o, err := s.Endpoint().Options()
	require.NoError(t, err)
	o.MaxRetries = -1
	o.DialerRetries = 1
	client := redis.NewUniversalClient(o)
	defer client.Close()
	require.NoError(t, client.Ping(ctx).Err())
	require.NoError(t, s.Down(ctx))
	require.Error(t, client.Ping(ctx).Err())
	require.NoError(t, s.Up(ctx))
	require.NoError(t, client.Ping(ctx).Err())
}

func TestRemoteMustAnswer(t *testing.T) {
	gone := miniredis.NewMiniRedis()
	require.NoError(t, gone.Start())
	addr := gone.Addr()
	gone.Close()
	_, err := NewRemote(context.Background(), "redis://"+addr, "limiterlab-x")
	require.ErrorContains(t, err, "no answer from Redis")
	_, err = NewRemote(context.Background(), "ftp://"+addr, "limiterlab-x")
	require.Error(t, err)
}

func TestEndpointOptions(t *testing.T) {
	o, err := Endpoint{URL: "rediss://user:secret@redis.example:6380/3", Via: "127.0.0.1:1"}.Options()
	require.NoError(t, err)
	require.Equal(t, []string{"127.0.0.1:1"}, o.Addrs)
	require.Equal(t, "user", o.Username)
	require.Equal(t, "secret", o.Password)
	require.Equal(t, 3, o.DB)
	require.Equal(t, "redis.example", o.TLSConfig.ServerName) // whoever is dialled, this is who must answer
}
