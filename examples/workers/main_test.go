package main

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
)

// TestWorkersKeepPace: jobs start at the pace of the limit, whatever they
// take, and each is either done or put back.
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
