package servertest_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

func client(t *testing.T, s *redisserver.Server) *redis.Client {
	rdb := s.Client()
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

func TestServerLosesOrKeepsItsData(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := servertest.Server(t, redisserver.Options{Password: "secret", MaxMemory: "64mb"})
	rdb := client(t, s)
	require.NoError(t, rdb.Set(ctx, "a", "b", 0).Err())

	require.NoError(t, s.Restart(true))
	require.Equal(t, "b", rdb.Get(ctx, "a").Val())

	require.NoError(t, s.Kill())
	require.Error(t, rdb.Ping(ctx).Err())
	require.NoError(t, s.Kill(), "killing the dead is no fault")
	require.Error(t, s.Freeze(), "freezing the dead is")

	require.NoError(t, s.Restart(false))
	require.Zero(t, rdb.Exists(ctx, "a").Val())
}

func TestAppendOnlyServerSurvivesAKill(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := servertest.Server(t, redisserver.Options{AppendOnly: true})
	rdb := client(t, s)
	require.NoError(t, rdb.Set(ctx, "a", "b", 0).Err())
	require.NoError(t, s.Kill())
	require.NoError(t, s.Restart(true))
	require.Equal(t, "b", rdb.Get(ctx, "a").Val())
}

func TestFrozenServerHangs(t *testing.T) {
	t.Parallel()
	s := servertest.Server(t, redisserver.Options{})
	rdb := client(t, s)
	require.NoError(t, rdb.Ping(t.Context()).Err())
	require.NoError(t, s.Freeze())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var timeout net.Error
	require.ErrorAs(t, rdb.Ping(ctx).Err(), &timeout)
	require.True(t, timeout.Timeout())
	require.NoError(t, s.Thaw())
	require.NoError(t, rdb.Ping(t.Context()).Err())
}

func TestCloseLeavesNothing(t *testing.T) {
	t.Parallel()
	servertest.Need(t)
	s, err := redisserver.Start(redisserver.Options{})
	require.NoError(t, err)
	require.NoError(t, s.Freeze())
	require.NoError(t, s.Close(), "a frozen server can be closed too")
	require.NoError(t, s.Close())
	require.NoDirExists(t, s.Dir())
	require.Error(t, client(t, s).Ping(t.Context()).Err())
	require.Error(t, s.Restart(false))
}

func TestStartReportsWhatTheServerSaid(t *testing.T) {
	t.Parallel()
	servertest.Need(t)
	_, err := redisserver.Start(redisserver.Options{Args: []string{"--no-such-option", "1"}})
	require.ErrorContains(t, err, "ended")
}
