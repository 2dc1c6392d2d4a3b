package main

import (
	"context"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// TestTasksOverTheLimitComeAgain: tasks above the limit go back as retries that
// cost none of their retries, and one that is let in later is done.
func TestTasksOverTheLimitComeAgain(t *testing.T) {
	at := asynq.RedisClientOpt{Addr: servertest.Server(t, redisserver.Options{}).Addr()}
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(2, 1000*time.Hour)})
	require.NoError(t, err)
	client := asynq.NewClient(at)
	defer client.Close()
	for range 5 {
		_, err := client.Enqueue(asynq.NewTask("email:send", nil), asynq.MaxRetry(1))
		require.NoError(t, err)
	}
	done := make(chan struct{}, 5)
	mux := asynq.NewServeMux()
	mux.Use(limited(l))
	mux.HandleFunc("email:send", func(context.Context, *asynq.Task) error {
		done <- struct{}{}
		return nil
	})
	cfg := settings()
	cfg.LogLevel = asynq.FatalLevel
	server := asynq.NewServer(at, cfg)
	require.NoError(t, server.Start(mux))
	defer server.Shutdown()
	inspector := asynq.NewInspector(at)
	defer inspector.Close()

	<-done
	<-done
	eventually(t, "three tasks put off", func() bool {
		q, err := inspector.GetQueueInfo("default")
		return err == nil && q.Retry == 3
	})
	tasks, err := inspector.ListRetryTasks("default")
	require.NoError(t, err)
	for _, task := range tasks {
		if wait := time.Until(task.NextProcessAt); task.Retried != 0 || wait < 400*time.Hour || wait > 500*time.Hour {
			t.Errorf("a task comes again in %v and has been retried %d times, want 500h and 0", wait, task.Retried)
		}
	}
	l.Refund("email:send", 1)
	require.NoError(t, inspector.RunTask("default", tasks[0].ID))
	<-done
}

// eventually asks again and again for at most half a minute.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}
