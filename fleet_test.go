package limiter

import (
	"context"
	"flag"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/seed-e56e777b/limiter/internal/simnet"
)

// TestMain keeps tests to one core: fleets in virtual time take half the CPU time
// there, most of all under the race detector. Tests of what happens on many cores
// ask for them (onAllCores), and benchmarks have what -cpu says.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() == "" {
		runtime.GOMAXPROCS(1)
	}
	os.Exit(m.Run())
}

// onAllCores runs a test on all cores.
func onAllCores(t *testing.T) {
	before := runtime.GOMAXPROCS(runtime.NumCPU())
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// busy is a limit that tests of fleets ask a lot of.
var busy = Limit{Rate: 1000, Burst: 100}

// fleet is several limiters that share a state in memory, in virtual time, for tests
// of the insides. What a fleet promises is tested in internal/fleetsim.
type fleet struct {
	*simnet.Net
	t       testing.TB
	members []*member
}

// member is one limiter of a fleet and its way to the state.
type member struct {
	*Limiter
	*simnet.Link
}

func newFleet(t testing.TB, n int, cfg Config) *fleet {
	t.Helper()
	return newFleetOn(t, n, cfg, simnet.Near)
}

func newFleetOn(t testing.TB, n int, cfg Config, path simnet.Path) *fleet {
	t.Helper()
	f := &fleet{t: t, Net: simnet.New(path, 0, 0)}
	for range n {
		f.join(cfg)
	}
	return f
}

func (f *fleet) join(cfg Config) *member {
	f.t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	m := &member{Link: f.Link(uint64(len(f.members)))}
	cfg.Redis = m.Link
	var err error
	if m.Limiter, err = New(cfg); err != nil {
		f.t.Fatal(err)
	}
	f.members = append(f.members, m)
	return m
}

// add makes a limiter on a store of its own one of the fleet.
func (f *fleet) add(l *Limiter) { f.members = append(f.members, &member{Limiter: l}) }

// close closes all limiters, and lets calls end that are under way.
func (f *fleet) close() {
	for _, m := range f.members {
		_ = m.Close()
	}
	time.Sleep(time.Second)
}

func (f *fleet) wantState(want State) {
	f.t.Helper()
	for i, m := range f.members {
		if st := m.Status(); st.State != want || (st.Err != nil) != (want == Degraded) {
			f.t.Errorf("process %d: %+v, want %v", i, st, want)
		}
	}
}

// until waits, in virtual time, until a condition holds.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for begin := time.Now(); !holds(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("after a minute still not so: %s", what)
		}
	}
}

// syncNow does one full round: within 10 s, or it fails.
func syncNow(l *Limiter) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return l.Sync(ctx)
}
