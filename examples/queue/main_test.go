package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// TestQueueIsConsumedWithinTheLimit: of a full queue no more jobs are taken
// than the limit has tokens, the rest waits in the queue, and a job that failed
// is done again.
func TestQueueIsConsumedWithinTheLimit(t *testing.T) {
	server := servertest.Server(t, redisserver.Options{})
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
	if client.Exists(t.Context(), "jobs:busy").Val() != 0 {
		t.Error("something is still busy")
	}
	if r := l.Peek("jobs"); r.Remaining != 0 {
		t.Errorf("%d tokens left, want 0", r.Remaining)
	}
}

// TestEmptyQueueCostsNothing: a turn with no job is given back.
func TestEmptyQueueCostsNothing(t *testing.T) {
	server := servertest.Server(t, redisserver.Options{})
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

// TestQueueThroughAKilledRedis: two consumers of a queue in a Redis that is
// killed, and comes back with its data, take no more jobs than one bucket allows in
// any second, except that jobs may come late on a busy machine, and no job is lost. The
// test logs the jobs by second.
func TestQueueThroughAKilledRedis(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 7 s of real time")
	}
	server := servertest.Server(t, redisserver.Options{AppendOnly: true})
	lim := limiter.Limit{Rate: 20, Burst: 1}
	queue := server.Client()
	defer queue.Close()
	const jobs = 200
	for i := range jobs {
		require.NoError(t, queue.LPush(t.Context(), "mail", fmt.Sprint(i)).Err())
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var taken []time.Duration
	begin := time.Now()
	lateness := servertest.Lateness(ctx)
	var consumers sync.WaitGroup
	for range 2 {
		shared := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{server.Addr()}}))
		t.Cleanup(func() { _ = shared.Close() })
		l, err := limiter.New(limiter.Config{Limit: lim, Redis: shared, Processes: 2})
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		require.NoError(t, l.Sync(t.Context()))
		consumers.Go(func() {
			_ = consume(ctx, queue, l, "mail", func(string) error {
				mu.Lock()
				defer mu.Unlock()
				taken = append(taken, time.Since(begin))
				return nil
			})
		})
	}
	time.Sleep(2 * time.Second)
	require.NoError(t, server.Kill())
	time.Sleep(2 * time.Second)
	require.NoError(t, server.Restart(true))
	time.Sleep(3 * time.Second)
	cancel()
	consumers.Wait()
	late := lateness()
	seconds := make([]int, 8)
	for i, at := range taken {
		if second := int(at / time.Second); second < len(seconds) {
			seconds[second]++
		}
		in := slices.IndexFunc(taken[i:], func(d time.Duration) bool { return d > at+time.Second })
		if most := 1.25*(float64(lim.Rate)+float64(lim.Burst)) + late.Seconds()*float64(lim.Rate); at > time.Second && float64(in) > most {
			t.Errorf("%d jobs in the second after %v, want %v at most", in, at, most)
		}
	}
	t.Log("jobs by second, Redis killed in the third and back in the fifth: ", seconds, "late by up to", late)
	left := queue.LLen(t.Context(), "mail").Val() + queue.LLen(t.Context(), "mail:busy").Val()
	if all := int(left) + len(taken); all < jobs {
		t.Errorf("%d jobs are taken or left, of %d", all, jobs)
	}
}
