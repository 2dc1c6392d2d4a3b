package main

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// TestWorkersKeepPace: jobs of any length start at the rate of the limit, and each is
// either done or put back.
func TestWorkersKeepPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 5, Burst: 1}})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 1100*time.Millisecond)
		defer cancel()
		jobs := make(chan int, 10)
		for job := range 10 {
			jobs <- job
		}
		close(jobs)
		begin := time.Now()
		var mu sync.Mutex
		var done []int
		var at []time.Duration
		left := work(ctx, l, 4, jobs, func(job int) {
			mu.Lock()
			done, at = append(done, job), append(at, time.Since(begin))
			mu.Unlock()
			time.Sleep(500 * time.Millisecond)
		})
		for i, d := range at {
			if want := time.Duration(i) * 200 * time.Millisecond; d != want {
				t.Errorf("job %d of 6 began at %v, want %v", i, d, want)
			}
		}
		all := slices.Sorted(slices.Values(slices.Concat(done, left)))
		if len(done) != 6 || !slices.Equal(all, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) {
			t.Errorf("done %v, put back %v", done, left)
		}
	})
}

// TestWorkersThroughAKilledRedis: two processes of 20 workers each start no more
// jobs than one bucket allows, in any second, while Redis is killed and comes back
// without its data; beyond that, as many as come late on a busy machine. The test logs
// the jobs by second.
func TestWorkersThroughAKilledRedis(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 6 s of real time")
	}
	server := servertest.Server(t, redisserver.Options{})
	lim := limiter.Limit{Rate: 20, Burst: 1}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var started []time.Duration
	begin := time.Now()
	var processes sync.WaitGroup
	lateness := servertest.Lateness(ctx)
	for range 2 {
		client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{server.Addr()}}))
		t.Cleanup(func() { _ = client.Close() })
		l, err := limiter.New(limiter.Config{Limit: lim, Redis: client, Processes: 2})
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		require.NoError(t, l.Sync(t.Context()))
		jobs := make(chan int, 1000)
		for job := range 1000 {
			jobs <- job
		}
		close(jobs)
		processes.Go(func() {
			work(ctx, l, 20, jobs, func(int) {
				mu.Lock()
				defer mu.Unlock()
				started = append(started, time.Since(begin))
			})
		})
	}
	time.Sleep(2 * time.Second)
	require.NoError(t, server.Kill())
	time.Sleep(2 * time.Second)
	require.NoError(t, server.Restart(false))
	time.Sleep(2 * time.Second)
	cancel()
	processes.Wait()
	late := lateness()
	seconds := make([]int, 7)
	for i, at := range started {
		if second := int(at / time.Second); second < len(seconds) {
			seconds[second]++
		}
		in := slices.IndexFunc(started[i:], func(d time.Duration) bool { return d > at+time.Second })
		if most := 1.25*(float64(lim.Rate)+float64(lim.Burst)) + late.Seconds()*float64(lim.Rate); at > time.Second && float64(in) > most {
			t.Errorf("%d jobs in the second after %v, want %v at most", in, at, most)
		}
	}
	t.Log("jobs by second, Redis killed in the third and back in the fifth: ", seconds, "late by up to", late)
}
