package fleetsim

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/longtest"
)

// rollout replaces the processes of a fleet one by one by others with another
// limit, under a load that keeps every bucket empty.
type rollout struct {
	*Fleet
	running  []*Member
	admitted map[limiter.Limit]float64 // tokens, by the limit of the process that admitted them
}

// ask has every process ask for a token every 2 ms, for so long.
func (r *rollout) ask(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		for _, m := range r.running {
			if res := m.Take("k"); res.Allowed {
				r.admitted[res.Limit]++
			}
		}
	}
}

// replace has a process leave and another come, while the rest go on.
func (r *rollout) replace(i int, cfg limiter.Config) {
	old := r.running[i]
	r.running[i] = r.Join(cfg)
	go func() { _ = old.Close() }()
}

// step is the part of a rollout between two replacements: tokens admitted in it
// and what they are worth in time, by the limits that admitted them.
func (r *rollout) step(d time.Duration) (tokens float64, worth time.Duration) {
	clear(r.admitted)
	r.ask(d)
	for lim, n := range r.admitted {
		tokens += n
		worth += time.Duration(n) * time.Duration(1e9/float64(lim.Rate))
	}
	return tokens, worth
}

// TestRolloutOfAnotherLimit: while processes of an old and a new limit are side
// by side, the fleet admits no less than the smaller limit and no more than the
// larger. They share time: a token costs its process 1/r of the one bucket's
// time, so that whoever admits it, all of them together spend a second in a
// second.
func TestRolloutOfAnotherLimit(t *testing.T) {
	const stretch = 10 * time.Second
	n := longtest.Choose(2, 4, 4)
	small, large := perSecond(100, 20), perSecond(300, 30)
	for _, tc := range []struct {
		name     string
		old, new limiter.Limit
		down     bool
	}{
		{"raised", small, large, false},
		{"lowered", large, small, false},
		{"raised in an outage", small, large, true},
		{"lowered in an outage", large, small, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := New(t, n, limiter.Config{Limit: tc.old, Processes: n})
				defer f.Close()
				r := &rollout{Fleet: f, running: append([]*Member{}, f.Members...), admitted: map[limiter.Limit]float64{}}
				r.ask(stretch)
				f.Down.Store(tc.down)
				r.ask(stretch)
				for i := range n {
					r.replace(i, limiter.Config{Limit: tc.new, Processes: n})
					tokens, worth := r.step(stretch)
					least, most := float64(small.Rate)*stretch.Seconds(), float64(large.Rate)*stretch.Seconds()+float64(large.Burst)
					t.Logf("%d of %d replaced: %.0f tokens of %.0f to %.0f, worth %.3f of the time", i+1, n, tokens, least, most, float64(worth)/float64(stretch))
					if tokens < 0.97*least || tokens > 1.01*most {
						t.Errorf("%d of %d replaced: %.0f tokens, want %.0f to %.0f", i+1, n, tokens, least, most)
					}
					if part := float64(worth) / float64(stretch); math.Abs(part-1) > 0.03 {
						t.Errorf("%d of %d replaced: what was admitted is worth %.3f of the time", i+1, n, part)
					}
				}
			})
		})
	}
}

// TestRolloutLosesNothing: every token that a process admitted before it was
// replaced is charged, at the rate of the limit that it had.
func TestRolloutLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, burst = 3, 1e9 // never full again, so that no time is lost
		old, next := perSecond(1000, burst), perSecond(250, burst)
		f := New(t, n, limiter.Config{Limit: old, Processes: n, SyncInterval: time.Second}) // nobody is ever taken for silent
		defer f.Close()
		f.Members[0].Charge("k", 1e6)
		for _, m := range f.Members {
			m.Charge("k", 1)
			Until(t, "exchanged", func() bool { return Sync(m.Limiter) == nil })
		}
		begin, debt := time.Now(), f.ToGo("k")
		r := &rollout{Fleet: f, running: append([]*Member{}, f.Members...), admitted: map[limiter.Limit]float64{}}
		want := time.Duration(0)
		for i := range n {
			_, worth := r.step(1234 * time.Millisecond)
			want += worth
			r.replace(i, limiter.Config{Limit: next, Processes: n, SyncInterval: time.Second})
		}
		_, worth := r.step(1234 * time.Millisecond)
		want += worth
		f.Close()
		if got := f.ToGo("k") - debt + time.Since(begin); (got - want).Abs() > time.Millisecond {
			t.Errorf("charged %v, want %v", got, want)
		}
	})
}
