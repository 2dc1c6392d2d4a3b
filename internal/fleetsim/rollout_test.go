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
	admitted float64 // tokens
}

// ask has every process ask for a token every 2 ms, for so long.
func (r *rollout) ask(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		for _, m := range r.running {
			if m.Allow("k") {
				r.admitted++
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

// step is the part of a rollout between two replacements: tokens admitted in it.
func (r *rollout) step(d time.Duration) float64 {
	before := r.admitted
	r.ask(d)
	return r.admitted - before
}

// TestRolloutOfAnotherLimit: while processes of an old and a new limit are side by side,
// the fleet admits between the smaller and the larger limit. Once all are replaced, it
// admits the new one.
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
				r := &rollout{Fleet: f, running: append([]*Member{}, f.Members...)}
				r.ask(stretch)
				f.Down.Store(tc.down)
				r.ask(stretch)
				for i := range n {
					r.replace(i, limiter.Config{Limit: tc.new, Processes: n})
					tokens := r.step(stretch)
					least, most := float64(small.Rate)*stretch.Seconds(), float64(large.Rate)*stretch.Seconds()+float64(large.Burst)
					if i == n-1 {
						least, most = float64(tc.new.Rate)*stretch.Seconds(), float64(tc.new.Rate)*stretch.Seconds()+float64(tc.new.Burst)
					}
					t.Logf("%d of %d replaced: %.0f tokens of %.0f to %.0f", i+1, n, tokens, least, most)
					if tokens < 0.97*least || tokens > 1.01*most {
						t.Errorf("%d of %d replaced: %.0f tokens, want %.0f to %.0f", i+1, n, tokens, least, most)
					}
				}
			})
		})
	}
}

// TestRolloutLosesNothing: every token that a process admitted before it was
// replaced is charged once, whichever limit it was admitted by, and every second of
// refill counts once.
func TestRolloutLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, burst, rate = 3, 1 << 30, 1024 // never full again, so that nothing is left unused
		old, next := perSecond(rate, burst), perSecond(rate, 2*burst)
		f := New(t, n, limiter.Config{Limit: old, Processes: n, SyncInterval: time.Second}) // no process is ever silent
		defer f.Close()
		f.Members[0].Charge("k", 1e6)
		for _, m := range f.Members {
			m.Charge("k", 1)
			Until(t, "exchanged", func() bool { return Sync(m.Limiter) == nil })
		}
		level := func(burst float64) float64 { return burst - f.ToGo("k").Seconds()*rate }
		begin, before := time.Now(), level(burst)
		r := &rollout{Fleet: f, running: append([]*Member{}, f.Members...)}
		for i := range n {
			r.ask(1234 * time.Millisecond)
			r.replace(i, limiter.Config{Limit: next, Processes: n, SyncInterval: time.Second})
		}
		r.ask(1234 * time.Millisecond)
		f.Close()
		refill := time.Since(begin).Seconds() * rate
		if got, want := level(2*burst), before+refill-r.admitted; math.Abs(got-want) > 1 {
			t.Errorf("%.3f tokens are left, want %.3f: %.0f were admitted", got, want, r.admitted)
		}
	})
}
