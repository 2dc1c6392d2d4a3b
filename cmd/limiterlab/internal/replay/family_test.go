package replay

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/logs"
)

// request is a request of a generated log.
type request struct {
	at  time.Duration
	key string
}

func requests(t *rapid.T) []request {
	var all []request
	at := time.Duration(0)
	for _, gap := range gaps().Draw(t, "gaps") {
		at += time.Duration(gap) * time.Millisecond
		all = append(all, request{at, fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "key"))})
	}
	return all
}

// deniedBy returns the denials of one limit, counted by a replay of its own.
func deniedBy(l limiter.Limit, all []request) int {
	r := New(Config{Limit: l, MaxKeys: 100, Processes: 1})
	for _, q := range all {
		feed(r, q.at, q.key)
	}
	return r.Result(0, 0).Denied
}

func suggest(all []request, l limiter.Limit, candidates []limiter.Limit, most float64) *Suggestion {
	r := New(Config{Limit: l, MaxKeys: 100, Processes: 1, Suggest: candidates})
	for _, q := range all {
		feed(r, q.at, q.key)
	}
	return r.Result(0, most).Suggestion
}

func TestTheSuggestionIsTheSmallestThatWillDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, all := limits().Draw(t, "limit"), requests(t)
		most := rapid.Float64Range(0, 0.5).Draw(t, "most")
		s := suggest(all, l, Coarse(l), most)
		passes := 0
		require.NoError(t, s.Refine(100, func(each func(*logs.Entry)) error {
			passes++
			for _, q := range all {
				each(&logs.Entry{At: start.Add(q.at).UnixNano(), Key: []byte(q.key), HasKey: true})
			}
			return nil
		}))
		require.LessOrEqual(t, passes, 6)
		require.True(t, s.Exact)
		require.Equal(t, len(all), s.Total)
		may := most * float64(len(all))
		require.LessOrEqual(t, float64(s.Best.Denied), may)
		require.Equal(t, deniedBy(s.Best.Limit, all), s.Best.Denied, "%v", s.Best.Limit)
		if s.Best.Limit.Burst == 1 {
			require.Nil(t, s.Below)
			return
		}
		require.Equal(t, s.Best.Limit.Burst-1, s.Below.Limit.Burst)
		require.Greater(t, float64(s.Below.Denied), may)
		require.Equal(t, deniedBy(s.Below.Limit, all), s.Below.Denied, "%v", s.Below.Limit)
	})
}

// TestALargerLimitNeverDeniesMore checks the property on which the search
// relies.
func TestALargerLimitNeverDeniesMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, all := limits().Draw(t, "limit"), requests(t)
		before := len(all)
		for burst := 1; burst < 30; burst++ {
			denied := deniedBy(withBurst(l, burst), all)
			require.LessOrEqual(t, denied, before, "burst %d", burst)
			before = denied
		}
	})
}

func TestAStreamIsSuggestedWhatWasTried(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, all := limits().Draw(t, "limit"), requests(t)
		most := rapid.Float64Range(0, 0.5).Draw(t, "most")
		s := suggest(all, l, Around(l), most)
		may := most * float64(len(all))
		for _, c := range s.Tried {
			require.Equal(t, deniedBy(c.Limit, all), c.Denied)
			if s.Best != nil && c.Limit.Burst < s.Best.Limit.Burst {
				require.Greater(t, float64(c.Denied), may)
			}
		}
		if s.Best != nil && s.Below != nil {
			require.LessOrEqual(t, float64(s.Best.Denied), may)
			require.LessOrEqual(t, s.Best.Limit.Burst, s.Below.Limit.Burst*2)
		}
	})
}

func TestCandidates(t *testing.T) {
	l := limiter.Per(100, time.Minute)
	coarse := Coarse(l)
	require.LessOrEqual(t, len(coarse), familySize)
	require.Equal(t, limiter.Per(1, time.Minute), coarse[0])
	require.Equal(t, limiter.Per(1<<30, time.Minute), coarse[len(coarse)-1])
	around := Around(l)
	require.Len(t, around, familySize)
	require.Contains(t, around, l)
	require.Equal(t, limiter.Per(2, time.Minute), around[0])
	require.Equal(t, limiter.Per(3200, time.Minute), around[len(around)-1])
	for i := range around[1:] {
		step := float64(around[i+1].Burst) / float64(around[i].Burst)
		require.True(t, step <= 1.34 || around[i+1].Burst == around[i].Burst+1, "%v to %v", around[i], around[i+1])
	}
	require.Equal(t, limiter.Per(1, time.Minute), Around(limiter.Per(1, time.Minute))[0])
	require.Empty(t, between(l, 7, 8))
	require.Equal(t, []limiter.Limit{limiter.Per(8, time.Minute)}, between(l, 7, 9))
	require.Len(t, between(l, 0, 1<<30), familySize)
}

func TestThePeriodIsKept(t *testing.T) {
	require.Equal(t, limiter.Per(7, 5*time.Second), withBurst(limiter.Limit{Rate: 10, Burst: 50}, 7))
	require.Equal(t, limiter.Per(7, 15*time.Minute), withBurst(limiter.Per(100, 15*time.Minute), 7))
}

func TestNoLimitWillDo(t *testing.T) {
	l := limiter.Per(1, time.Second)
	r := New(Config{Limit: l, MaxKeys: 10, Processes: 1, Suggest: []limiter.Limit{l}})
	for range 10 {
		feed(r, 0, "a")
	}
	s := r.Result(0, 0).Suggestion
	require.Nil(t, s.Best)
	require.Equal(t, Count{l, 9}, *s.Below)
	require.False(t, s.Exact)
}
