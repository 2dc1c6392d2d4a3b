package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
)

// TestQueueIsConsumedWithinTheLimit: of a full queue no more jobs are taken
// than the limit has tokens, the rest waits in the queue, and a job that failed
// is done again.
func TestQueueIsConsumedWithinTheLimit(t *testing.T) {
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(5, 1000*time.Hour)})
	require.NoError(t, err)
	for i := range 8 {
		require.NoError(t, client.LPush(t.Context(), "jobs", fmt.Sprint(i)).Err())
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var done []string
	err = consume(ctx, client, l, "jobs", func(job string) error {
		done = append(done, job)
		if len(done) == 5 {
			cancel() // with the limit used up; the job in hand is still finished
		}
		if job == "1" {
			return errors.New("out of paper")
		}
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	if want := []string{"0", "1", "2", "3", "4"}; !slices.Equal(done, want) {
		t.Errorf("done %v, want %v", done, want)
	}
	left, err := client.LRange(t.Context(), "jobs", 0, -1).Result()
	require.NoError(t, err)
	if want := []string{"1", "7", "6", "5"}; !slices.Equal(left, want) {
		t.Errorf("the queue holds %v, want %v: the one that failed goes last", left, want)
	}
	if server.Exists("jobs:busy") {
		t.Error("something is still busy")
	}
	if r := l.Peek("jobs"); r.Remaining != 0 {
		t.Errorf("%d tokens left, want 0", r.Remaining)
	}
}

// TestEmptyQueueCostsNothing: a turn with no job is given back.
func TestEmptyQueueCostsNothing(t *testing.T) {
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(5, 1000*time.Hour)})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Error(t, consume(ctx, client, l, "jobs", func(string) error { return nil }))
	if r := l.Peek("jobs"); r.Remaining != 5 {
		t.Errorf("%d tokens left, want 5", r.Remaining)
	}
}
