package limiter

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

// fleet is several limiters that share a state in memory, in virtual time.
//
// A run replays from its seed to the last decision: whatever happens at one
// instant happens in one process, since the i-th wakes only at nanoseconds
// 3i+1 … 3i+3 of a microsecond, and what drives the run at the full one. That
// has room for 333 processes.
type fleet struct {
	t       testing.TB
	state   *exchange.Memory
	down    atomic.Bool // nobody reaches the state
	without mechanism   // taken out, to see what they earn
	path    path
	members []*member
}

// path is how a process reaches the state.
type path struct {
	trip    time.Duration // both ways together
	jitter  float64       // part of a trip's way by which it varies, up and down
	loseAsk float64       // chance that a request gets lost,
	loseAns float64       // that a reply does,
	twice   float64       // that a request arrives twice
	timeout time.Duration // when a call whose answer is lost fails
}

var near = path{trip: 2 * time.Millisecond}

// mechanism is a part of the design that a run can do without. Most are taken
// out on the way to the state and back, where they are seen; none is a switch
// in the limiter.
type mechanism uint8

const (
	shares     mechanism = 1 << iota // naive delta sync: no reply tells of others' demand
	ages                             // charges begin when they arrive
	floors                           // nobody tells a state what it has lost
	newsOfKeys                       // nobody says which keys run low
	threshold                        // θ = 1
)

// member is one limiter of a fleet and its way to the state.
type member struct {
	*Limiter
	fleet *fleet
	slot  time.Duration // nanosecond of a microsecond at which this process wakes
	seed  uint64
	path  path
	cut   atomic.Bool   // it does not reach the state
	hung  chan struct{} // calls wait until this is closed; nil: they don't

	mu     sync.Mutex
	wakeUp map[time.Time]bool // instants that are taken
}

const testPartitions = 16

func newFleet(t testing.TB, n int, cfg Config) *fleet {
	t.Helper()
	return newFleetOn(t, n, cfg, near, 0, 0)
}

func newFleetOn(t testing.TB, n int, cfg Config, way path, without mechanism, seed uint64) *fleet {
	t.Helper()
	f := &fleet{t: t, state: exchange.NewMemory(testPartitions, time.Now), path: way, without: without}
	for i := range n {
		f.join(cfg, seed<<32+uint64(i))
	}
	return f
}

func (f *fleet) join(cfg Config, seed uint64) *member {
	f.t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	cfg, err := cfg.checked()
	if err != nil {
		f.t.Fatal(err)
	}
	m := &member{fleet: f, seed: seed, path: f.path, slot: time.Duration(3*len(f.members) + 1), wakeUp: map[time.Time]bool{}}
	m.sleep(0, 0)
	m.Limiter = newLimiter(cfg, m, testPartitions, seed)
	f.members = append(f.members, m)
	return m
}

func (f *fleet) close() {
	for _, m := range f.members {
		_ = m.Close()
	}
	time.Sleep(time.Second) // for calls that were under way
}

// sleep wakes after about d, at an instant that is this process's alone.
func (m *member) sleep(d, phase time.Duration) {
	now := time.Now()
	at := now.Add(d).Truncate(time.Microsecond).Add(m.slot + phase)
	m.mu.Lock()
	for !at.After(now) || m.wakeUp[at] {
		at = at.Add(time.Microsecond)
	}
	m.wakeUp[at] = true
	m.mu.Unlock()
	time.Sleep(at.Sub(now))
	m.mu.Lock()
	delete(m.wakeUp, at)
	m.mu.Unlock()
}

var errCut = errors.New("cut off")

// fate is what chance does to one call.
type fate struct {
	there, back                  time.Duration
	askLost, answerLost, doubled bool
}

// fateOf draws a call's fate from what names the call, so that it does not
// depend on which of two goroutines comes first.
func (m *member) fateOf(chunks []*exchange.Chunk) fate {
	name := m.seed<<1 + 1
	if len(chunks) > 0 {
		name += uint64(chunks[0].Partition)<<48 + uint64(chunks[0].Seq)<<8 + uint64(chunks[0].ID[8])<<56
	}
	rng := rand.New(rand.NewPCG(name, uint64(time.Now().UnixNano())))
	way := func() time.Duration {
		return time.Duration(float64(m.path.trip) / 2 * (1 + m.path.jitter*(2*rng.Float64()-1)))
	}
	return fate{
		there: way(), back: way(),
		askLost:    rng.Float64() < m.path.loseAsk,
		answerLost: rng.Float64() < m.path.loseAns,
		doubled:    rng.Float64() < m.path.twice,
	}
}

// Exchange implements exchange.Exchanger.
func (m *member) Exchange(ctx context.Context, fl *exchange.FleetCall, chunks []*exchange.Chunk) {
	call := m.fateOf(chunks)
	m.sleep(call.there, 1)
	if m.hung != nil {
		<-m.hung
	}
	if m.cut.Load() || m.fleet.down.Load() {
		fail(fl, chunks)
		return
	}
	if !call.askLost {
		m.fleet.reach(ctx, fl, chunks)
		if call.doubled {
			m.fleet.reach(ctx, fl, chunks)
		}
	}
	if call.askLost || call.answerLost {
		m.sleep(max(call.back, m.path.timeout-call.there), 2)
		fail(fl, chunks)
		return
	}
	m.sleep(call.back, 2)
}

// reach has a call arrive at the state, but for the mechanisms that a run does
// without.
func (f *fleet) reach(ctx context.Context, fl *exchange.FleetCall, chunks []*exchange.Chunk) {
	for _, c := range chunks {
		for i := range c.Records {
			if f.without&ages != 0 {
				c.Records[i].Age = 0
			}
			if f.without&floors != 0 {
				c.Records[i].Floor = 0
			}
		}
	}
	if fl != nil && f.without&newsOfKeys != 0 {
		fl.Tell = nil
	}
	f.state.Exchange(ctx, fl, chunks)
	for _, c := range chunks {
		for i := range c.Reply.Keys {
			if f.without&shares != 0 {
				c.Reply.Keys[i].Demand = 0
			}
		}
	}
}

func fail(fl *exchange.FleetCall, chunks []*exchange.Chunk) {
	if fl != nil {
		fl.Err = errCut
	}
	for _, c := range chunks {
		c.Err = errCut
	}
}

// allow is AllowN, but for the mechanisms that a run does without.
func (m *member) allow(key string, n int) bool {
	if m.fleet.without&threshold != 0 {
		if e := m.local.find(key); e != nil {
			e.threshold = 1
			e.mu.Unlock()
		}
	}
	return m.AllowN(key, n)
}

// toGo is how far ahead of now the shared state has a key's TAT.
func (f *fleet) toGo(key string) time.Duration {
	field := "k" + key
	c := &exchange.Chunk{
		Partition: exchange.Partition(field, testPartitions), ID: exchange.ID{0xff}, Seq: 1, Floors: true,
		Tau: time.Second, Records: []exchange.Record{{Field: field}},
	}
	f.state.Exchange(context.Background(), nil, []*exchange.Chunk{c})
	return time.Duration(c.Reply.Keys[0].ToGo) * time.Microsecond
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

func (f *fleet) wantState(want State) {
	f.t.Helper()
	for i, m := range f.members {
		if st := m.Status(); st.State != want || (st.Err != nil) != (want == Degraded) {
			f.t.Errorf("process %d: %+v, want %v", i, st, want)
		}
	}
}

// cutOff takes the way to the state from some, or gives it back.
func (f *fleet) cutOff(away bool, members ...*member) func() {
	return func() {
		for _, m := range members {
			m.cut.Store(away)
		}
	}
}
