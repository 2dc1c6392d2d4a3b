// Package fleetsim runs fleets of real limiters in virtual time, and counts their
// decisions beside those of one central bucket. Their shared state is in memory, by
// the same rules as the scripts in Redis.
//
// [Groups] returns the scenarios of docs/accuracy.md. All functions need a
// testing/synctest bubble around them.
package fleetsim

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/outage"
	"github.com/seed-e56e777b/limiter/internal/simnet"
)

// Fleet is a number of limiters with a shared state in memory.
type Fleet struct {
	*simnet.Net
	Members []*Member

	t    testing.TB
	seed uint64
}

// Member is one limiter of a fleet, and its link to the state.
type Member struct {
	*limiter.Limiter
	*simnet.Link
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// New returns a fleet of n processes on a network without faults.
func New(t testing.TB, n int, cfg limiter.Config) *Fleet {
	t.Helper()
	return NewOn(t, n, cfg, simnet.Near, 0)
}

// NewOn returns a fleet of n processes on a network. All random choices come from the
// seed.
func NewOn(t testing.TB, n int, cfg limiter.Config, path simnet.Path, seed uint64) *Fleet {
	t.Helper()
	return newWithout(t, n, cfg, path, 0, 0, seed)
}

// newWithout returns a fleet without some mechanisms and rules.
func newWithout(t testing.TB, n int, cfg limiter.Config, path simnet.Path, without simnet.Mechanism, rules outage.Rules, seed uint64) *Fleet {
	t.Helper()
	f := &Fleet{Net: simnet.New(path, without, rules), t: t, seed: seed << 32}
	for range n {
		f.Join(cfg)
	}
	return f
}

// Join starts another process.
func (f *Fleet) Join(cfg limiter.Config) *Member {
	f.t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	m := &Member{Link: f.Link(f.seed + uint64(len(f.Members)))}
	cfg.Redis = m.Link
	var err error
	if m.Limiter, err = limiter.New(cfg); err != nil {
		f.t.Fatal(err)
	}
	f.Members = append(f.Members, m)
	return m
}

// Kill ends a process without Close, as SIGKILL does.
func (m *Member) Kill() {
	m.Cut.Store(true)
	go func() { _ = m.Close() }() // its goroutines end; nothing gets out
}

// Close closes all limiters, and lets calls end that are under way.
func (f *Fleet) Close() {
	for _, m := range f.Members {
		_ = m.Close()
	}
	time.Sleep(time.Second)
}

// WantState fails the test if a process is in another state.
func (f *Fleet) WantState(want limiter.State) {
	f.t.Helper()
	for i, m := range f.Members {
		if st := m.Status(); st.State != want || (st.Err != nil) != (want == limiter.Degraded) {
			f.t.Errorf("process %d: %+v, want %v", i, st, want)
		}
	}
}

// WaitFor waits until every process counts n processes.
func (f *Fleet) WaitFor(n int) {
	f.t.Helper()
	for _, m := range f.Members {
		Until(f.t, "all see each other", func() bool { return m.Status().Processes == n })
	}
}

// CutOff cuts the links of some processes, or restores them.
func (f *Fleet) CutOff(away bool, members ...*Member) func() {
	return func() {
		for _, m := range members {
			m.Cut.Store(away)
		}
	}
}

// Until waits, in virtual time, until a condition holds: for a minute at most.
func Until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for begin := time.Now(); !holds(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("after a minute still not so: %s", what)
		}
	}
}

// Sync makes one full round of a limiter. The test fails if that takes 10 s.
func Sync(l *limiter.Limiter) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return l.Sync(ctx)
}
