package suite_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// TestCloseReturnsThoughRedisHangs: a Redis that has stopped with its
// connections open delays Close by its bound at most, for any timeouts of the client.
// Unreported keys are in Pending, and reported usage is in Redis.
func TestCloseReturnsThoughRedisHangs(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]func(...string) *redis.UniversalOptions{"tuned": tuned, "default": untuned} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servertest.Server(t, redisserver.Options{})
			l := start(t, options(s.Addr()), limiter.Config{Limit: slow})
			eventually(t, "synced", func() bool { return l.Status().State == limiter.Synced })
			require.True(t, l.AllowN("k", 40))
			exchanged(t, l)
			require.NoError(t, s.Freeze())
			require.True(t, l.AllowN("k", 20))
			eventually(t, "it has something to tell", func() bool { return l.Status().Pending > 0 })

			begin := time.Now()
			require.NoError(t, l.Close())
			require.Less(t, time.Since(begin), 10*time.Second) // 2 s on a machine that has time; a default client hangs for longer
			require.Equal(t, 1, l.Status().Pending)
			require.ErrorIs(t, l.Sync(t.Context()), limiter.ErrClosed)
			require.True(t, l.AllowN("k", 20), "closed, it goes on with what it has")
			require.NoError(t, l.Close())

			require.NoError(t, s.Thaw())
			next := start(t, tuned(s.Addr()), limiter.Config{Limit: slow})
			eventually(t, "the next process knows", func() bool {
				next.AllowN("k", 0)
				return syncOnce(next) == nil && seen(next, "k") <= 60
			})
		})
	}
}

// TestCloseIsTheEndOfWaiting: Close ends the waits for a round while Redis hangs.
func TestCloseIsTheEndOfWaiting(t *testing.T) {
	t.Parallel()
	s := servertest.Server(t, redisserver.Options{})
	l := start(t, untuned(s.Addr()), limiter.Config{Limit: slow})
	eventually(t, "synced", func() bool { return l.Status().State == limiter.Synced })
	require.NoError(t, s.Freeze())
	l.AllowN("k", 20)
	answers := make(chan error, 2)
	go func() { answers <- l.Sync(context.Background()) }()
	go func() { answers <- l.Reset(context.Background(), "k") }()
	eventually(t, "degraded", func() bool { return l.Status().State == limiter.Degraded })
	require.NoError(t, l.Close())
	for range cap(answers) {
		err := <-answers
		require.Error(t, err)
		require.NotErrorIs(t, err, context.Canceled)
	}
	require.NoError(t, s.Thaw())
}

// hook is a hook of a client that blocks, as one that sends traces to a server
// that hangs.
type hook struct{ blocked, open chan struct{} }

func (h *hook) pass() {
	select {
	case <-h.blocked:
		<-h.open
	default:
	}
}

func (h *hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.pass()
		return next(ctx, cmds)
	}
}

// TestBlockedHookIsAnOutage: a hook of the client that blocks, before or after
// Redis was reached, is a call that hangs. Decisions, Status and Close go on,
// and so do rounds once it does.
func TestBlockedHookIsAnOutage(t *testing.T) {
	t.Parallel()
	s := servertest.Server(t, redisserver.Options{})
	for name, want := range map[string]limiter.State{"from the start": limiter.Connecting, "later": limiter.Degraded} {
		for _, closed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, closed meanwhile: %v", name, closed), func(t *testing.T) {
				t.Parallel()
				h := &hook{make(chan struct{}), make(chan struct{})}
				client := redis.NewUniversalClient(tuned(s.Addr()))
				defer client.Close()
				client.AddHook(h)
				if want == limiter.Connecting {
					close(h.blocked)
				}
				l, err := limiter.New(limiter.Config{Limit: slow, Redis: client, Prefix: t.Name(), Processes: 2, Logger: slog.New(slog.DiscardHandler)})
				require.NoError(t, err)
				defer l.Close()
				if want == limiter.Degraded {
					eventually(t, "synced", synced(l))
					close(h.blocked)
				}
				l.Allow("k")
				eventually(t, "the outage is noticed", func() bool { return l.Status().State == want && l.Status().Err != nil })
				require.True(t, l.Allow("other"))
				if closed {
					begin := time.Now()
					require.NoError(t, l.Close())
					require.Less(t, time.Since(begin), 10*time.Second) // 2 s on a machine that has time
				}
				close(h.open)
				if !closed {
					eventually(t, "synced", synced(l))
					exchanged(t, l)
				}
			})
		}
	}
}
