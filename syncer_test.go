package limiter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/longtest"
	"github.com/seed-e56e777b/limiter/internal/simnet"
)

// logText is what was logged so far.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// TestLogSaysOnceAMinuteThatRedisIsGone: an outage is logged when it begins,
// or when it is found at the start, once a minute while it lasts, and when it
// ends. What is logged says why.
func TestLogSaysOnceAMinuteThatRedisIsGone(t *testing.T) {
	for name, reachedFirst := range map[string]bool{"never reached": false, "reached": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out logText
				f := newFleet(t, 0, Config{})
				defer f.close()
				f.Down.Store(!reachedFirst)
				m := f.join(Config{Limit: busy, Processes: 1, Logger: slog.New(slog.NewTextHandler(&out, nil))})
				run := func(d time.Duration) {
					for range d / (10 * time.Millisecond) {
						m.Allow("k")
						m.Sleep(10 * time.Millisecond)
					}
				}
				run(2 * time.Second)
				f.Down.Store(true)
				run(150 * time.Second)
				f.Down.Store(false)
				run(2 * time.Second)
				synctest.Wait()
				warnings := strings.Count(out.String(), "level=WARN")
				if warnings != 3 || strings.Count(out.String(), simnet.ErrCut.Error()) != warnings {
					t.Errorf("want three warnings in 150 s, each with its reason:\n%s", out.String())
				}
				want := 1
				if reachedFirst {
					want = 2
				}
				if got := strings.Count(out.String(), "in step with the fleet"); got != want {
					t.Errorf("in step %d times, want %d:\n%s", got, want, out.String())
				}
			})
		})
	}
}

// TestLogDoesNotFollowAFlappingRedis: where Redis comes and goes many times a
// second the log says so now and then, not each time, and when it has come to stay.
func TestLogDoesNotFollowAFlappingRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out logText
		f := newFleet(t, 0, Config{})
		defer f.close()
		changes := 0
		m := f.join(Config{
			Limit: busy, Processes: 1, Logger: slog.New(slog.NewTextHandler(&out, nil)), OnChange: func(Status) { changes++ },
		})
		for i := range 3000 {
			f.Down.Store(i/50%2 == 1)
			m.Allow("k")
			m.Sleep(10 * time.Millisecond)
		}
		f.Down.Store(false)
		m.Sleep(2 * time.Second)
		synctest.Wait()
		if changes < 30 {
			t.Fatalf("only %d changes of state", changes)
		}
		if lines := strings.Count(out.String(), "\n"); lines < 4 || lines > 8 {
			t.Errorf("%d lines for %d changes in 30 s:\n%s", lines, changes, out.String())
		}
		if last := out.String()[strings.LastIndex(strings.TrimSpace(out.String()), "\n")+1:]; !strings.Contains(last, "in step") {
			t.Errorf("the last line is %s", last)
		}
	})
}

// TestLogTellsOfARedisThatNeverAnswers: a first call that hangs is an outage
// too; it is given time to say why.
func TestLogTellsOfARedisThatNeverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out logText
		f := newFleetOn(t, 0, Config{}, simnet.Path{Trip: time.Hour})
		defer time.Sleep(time.Hour) // until the call ends
		defer f.close()
		m := f.join(Config{Limit: busy, Processes: 1, Logger: slog.New(slog.NewTextHandler(&out, nil))})
		m.Sleep(time.Second)
		synctest.Wait()
		if st := m.Status(); st.State != Connecting || st.Err == nil || out.String() != "" {
			t.Errorf("after a second: %+v, logged %q", st, out.String())
		}
		m.Sleep(10 * time.Second)
		synctest.Wait()
		if got := strings.Count(out.String(), strings.TrimPrefix(errNoAnswer.Error(), "limiter: ")); got != 1 {
			t.Errorf("said %d times, want once:\n%s", got, out.String())
		}
	})
}

// gate blocks each goroutine that passes it until it is opened, and counts those
// inside.
type gate struct {
	open   chan struct{}
	inside atomic.Int64
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) pass() {
	g.inside.Add(1)
	<-g.open
	g.inside.Add(-1)
}

// pipe is a log that nobody reads until its gate is opened.
type pipe struct {
	*gate
	logText
}

func (p *pipe) Write(b []byte) (int, error) {
	p.pass()
	return p.logText.Write(b)
}

// wantWorking checks that a limiter of a fleet decides, exchanges, says how it
// stands, and follows Redis as it goes and comes back.
func (f *fleet) wantWorking(m *member) {
	f.t.Helper()
	f.Down.Store(false)
	until(f.t, "synced", func() bool { return m.Status().State == Synced })
	before := m.Stats()
	for range 200 {
		m.Allow("k")
		m.Sleep(10 * time.Millisecond)
	}
	after := m.Stats()
	if rounds := after.Rounds - before.Rounds; rounds < 15 || after.KeysExchanged == before.KeysExchanged {
		f.t.Errorf("%d rounds in two seconds, %d keys exchanged", rounds, after.KeysExchanged-before.KeysExchanged)
	}
	if err := syncNow(m.Limiter); err != nil {
		f.t.Errorf("Sync: %v", err)
	}
	f.Down.Store(true)
	until(f.t, "the outage is noticed", func() bool { return m.Status().State == Degraded && m.Status().Err != nil })
	f.Down.Store(false)
	until(f.t, "synced again", func() bool { return m.Status().State == Synced })
}

// wantClosed checks that Close returns in its time.
func (f *fleet) wantClosed(m *member) {
	f.t.Helper()
	begin := time.Now()
	if err := m.Close(); err != nil || time.Since(begin) > 2*time.Second {
		f.t.Errorf("Close: %v after %v", err, time.Since(begin))
	}
}

// TestBlockedLoggerStopsNothing: a Logger that blocks from the first line on, as
// a full pipe does, stops neither New nor rounds, Status or Close. When it is
// read again it has the newest lines, and how many are missing. The bubble's
// end shows that no goroutine is left.
func TestBlockedLoggerStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 0, Config{})
		out := &pipe{gate: newGate()}
		m := f.join(Config{Limit: busy, Logger: slog.New(slog.NewTextHandler(out, nil))})
		f.wantWorking(m)
		if out.inside.Load() != 1 {
			t.Errorf("%d goroutines write", out.inside.Load())
		}
		for range 50 {
			f.wantWorking(m)
			m.Sleep(warnPause)
		}
		f.wantClosed(m)
		close(out.open)
		synctest.Wait()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) < 10 || len(lines) > 80 || !strings.Contains(lines[1], "lines_dropped=") || !strings.Contains(lines[len(lines)-1], "in step") {
			t.Errorf("%d lines:\n%s", len(lines), out.String())
		}
		time.Sleep(time.Second) // for the last call to end
	})
}

// TestCloseWaitsForTheLastLines: what was logged is written when Close returns,
// if the Logger takes a moment and no more.
func TestCloseWaitsForTheLastLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 0, Config{})
		out := &pipe{gate: newGate()}
		m := f.join(Config{Limit: busy, Logger: slog.New(slog.NewTextHandler(out, nil))})
		time.AfterFunc(closeLines/2, func() { close(out.open) })
		_ = m.Close()
		if !strings.Contains(out.String(), "Config.Processes is not set") {
			t.Errorf("written by then: %q", out.String())
		}
		f.close()
	})
}

// TestBlockedOnChangeStopsNothing: an OnChange that blocks stops neither rounds,
// Status nor Close. When it goes on it is called for the newest changes.
func TestBlockedOnChangeStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 0, Config{})
		g, last := newGate(), Status{}
		m := f.join(Config{Limit: busy, OnChange: func(st Status) {
			g.pass()
			last = st
		}})
		for range 50 {
			f.wantWorking(m)
		}
		if g.inside.Load() != 1 {
			t.Errorf("OnChange runs %d times at once", g.inside.Load())
		}
		f.wantClosed(m)
		close(g.open)
		synctest.Wait()
		if last.State != Synced {
			t.Errorf("the last change was to %v", last.State)
		}
		f.close()
	})
}

// TestBlockedLimitForStopsNothing: a LimitFor or a Shadow that blocks for one
// key holds up those that ask for this key. Other keys, rounds, Status, Stats
// and Close go on. A timer of the key's waiters blocks one goroutine, however
// often it fires.
func TestBlockedLimitForStopsNothing(t *testing.T) {
	for _, name := range []string{"LimitFor", "Shadow"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				var blocked atomic.Bool
				check := func(key string) {
					if blocked.Load() && strings.HasPrefix(key, "stuck") {
						g.pass()
					}
				}
				cfg := Config{Limit: busy, Processes: 1, LimitFor: func(key string) (Limit, bool) { check(key); return Per(1, time.Minute), key == "stuck" }}
				if name == "Shadow" {
					cfg.Shadow = func(key string) bool { check(key); return false }
					cfg.LimitFor = func(key string) (Limit, bool) { return Per(1, time.Minute), key == "stuck" }
				}
				f := newFleet(t, 0, Config{})
				m := f.join(cfg)
				f.wantWorking(m)

				m.Allow("stuck")
				ctx, cancel := context.WithCancel(context.Background())
				const waiters = 20
				var all sync.WaitGroup
				for range waiters {
					all.Go(func() { _ = m.Wait(ctx, "stuck") })
				}
				synctest.Wait()
				blocked.Store(true)
				callers := []func(){
					m.Reload,
					func() { m.Allow("stuck 1") },
					func() { m.Peek("stuck 2") },
					func() { _ = m.Reset(context.Background(), "stuck 3") },
					func() { TakeAll(m.Part("k", 1), m.Part("stuck 4", 1)) },
				}
				for _, call := range callers {
					all.Go(call)
				}
				time.Sleep(time.Second)
				if got := int(g.inside.Load()); got != len(callers) {
					t.Errorf("%d callers block, want %d", got, len(callers))
				}
				f.wantWorking(m)
				for range 20 {
					_ = m.SetLimit(busy) // wakes the timers of all queues
					m.Sleep(10 * time.Millisecond)
				}
				cancel() // and so does each first waiter that leaves
				time.Sleep(2 * time.Minute)
				if got := int(g.inside.Load()); got != len(callers)+1 {
					t.Errorf("%d goroutines block, want those of the callers and of one timer: %d", got, len(callers)+1)
				}
				f.wantWorking(m)
				if st := m.Stats(); st.Keys == 0 || m.Status().State != Synced {
					t.Errorf("%+v, %+v", st, m.Status())
				}
				f.wantClosed(m)
				close(g.open)
				all.Wait()
				f.close()
			})
		})
	}
}

// TestLogSaysWhatIsGoneOnWith: the last shares are named only where there are
// any. Where Redis was never reached it is 1/N of each limit, and for N = 1 the
// log warns of that, whether Processes is 1 or not set. Every line names the
// limiter.
func TestLogSaysWhatIsGoneOnWith(t *testing.T) {
	for _, tc := range []struct {
		name      string
		processes int
		reached   bool
		asked     bool
		want      string
	}{
		{"never, four", 4, false, true, "never reached: going on with 1/N of each limit, N = Processes\" prefix=api processes=4"},
		{"never, one", 1, false, true, "each process admits the full limit by itself\" prefix=api processes=1"},
		{"never, not set", 0, false, true, "each process admits the full limit by itself\" prefix=api processes=1"},
		{"reached, no key exchanged", 4, true, false, "can't be used: going on with 1/N of each limit, N = Processes\" prefix=api processes=4"},
		{"reached", 4, true, true, "can't be used: going on with the last shares\" prefix=api processes=4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out logText
				f := newFleet(t, 0, Config{})
				f.Down.Store(!tc.reached)
				m := f.join(Config{Limit: busy, Processes: tc.processes, Prefix: "api", Logger: slog.New(slog.NewTextHandler(&out, nil))})
				for range 100 {
					if tc.asked {
						m.Allow("k")
					}
					m.Sleep(10 * time.Millisecond)
				}
				f.Down.Store(true)
				m.Sleep(time.Second)
				synctest.Wait()
				if got := out.String(); strings.Count(got, "going on with") != 1 || !strings.Contains(got, tc.want) {
					t.Errorf("want %q in\n%s", tc.want, got)
				}
				if got, lines := out.String(), strings.Count(out.String(), "\n"); strings.Count(got, "prefix=api") != lines {
					t.Errorf("not every line names the limiter:\n%s", got)
				}
				if err := m.Status().Err; err == nil || !strings.HasPrefix(err.Error(), `limiter "api": sync: `) {
					t.Errorf("Status.Err: %v", err)
				}
				f.close()
			})
		})
	}
}

// TestSyncTellsAll: when Sync returns nil, nothing is left untold, of keys
// whose partition was failing when it began, and of evicted ones.
func TestSyncTellsAll(t *testing.T) {
	for name, maxKeys := range map[string]int{"resident": 0, "evicted": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lim := Limit{Rate: 0.001, Burst: 1000}
				l, p, f := tapped(t, Config{Limit: lim, SyncInterval: time.Second, MaxKeys: maxKeys})
				defer f.close()
				var once sync.Once
				p.listen(nil, func(_ *exchange.FleetCall, chunks []*exchange.Chunk) {
					for _, c := range chunks {
						if len(c.Records) > 0 {
							once.Do(func() { c.Err = simnet.ErrCut })
						}
					}
				})
				l.AllowN("k", 10)
				if err := syncNow(l); !errors.Is(err, simnet.ErrCut) {
					t.Fatalf("the fault is not told: %v", err)
				}
				l.AllowN("k", 100)
				l.Allow("other")
				if err := syncNow(l); err != nil {
					t.Fatal(err)
				}
				if got := math.Round(f.ToGo("k").Seconds() * float64(lim.Rate)); got != 110 || l.Status().Pending != 0 {
					t.Errorf("%v tokens are told of 110, %d keys pending", got, l.Status().Pending)
				}
			})
		})
	}
}

// TestSyncOfSeveralChunks: one that fails is told, though another of its
// partition succeeds after it.
func TestSyncOfSeveralChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p, f := tapped(t, Config{Limit: Limit{Rate: 0.001, Burst: 1000}, SyncInterval: time.Second})
		defer f.close()
		for key := "k"; l.Stats().Keys <= exchange.MaxRecords; key = neighbour(key) {
			l.Allow(key)
		}
		p.listen(nil, func(_ *exchange.FleetCall, chunks []*exchange.Chunk) {
			if len(chunks) > 1 {
				chunks[0].Err = simnet.ErrCut
			}
		})
		if err := syncNow(l); !errors.Is(err, simnet.ErrCut) {
			t.Errorf("Sync, of which a chunk failed: %v", err)
		}
	})
}

// TestCloseAnswersAll: nobody who waits for a Sync or Reset waits for ever,
// where the call that they wait for hangs.
func TestCloseAnswersAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p, _ := tapped(t, Config{Limit: busy})
		release := make(chan struct{})
		p.listen(func(*exchange.FleetCall, []*exchange.Chunk) error { <-release; return nil }, nil)
		answers := make(chan error, 2)
		go func() { answers <- l.Sync(context.Background()) }()
		go func() { answers <- l.Reset(context.Background(), "k") }()
		time.Sleep(50 * time.Millisecond)
		_ = l.Close()
		synctest.Wait()
		if len(answers) != 2 {
			t.Errorf("%d of 2 calls were answered by Close", len(answers))
		}
		close(release)
		time.Sleep(time.Second) // for the call to end
	})
}

// TestFloorsGrowOld: what is to heal a state that has lost everything is the
// time to go at arrival, however late that is.
func TestFloorsGrowOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p, f := tapped(t, Config{Limit: Limit{Rate: 1, Burst: 1000}})
		defer f.close()
		l.AllowN("k", 1000)
		_ = syncNow(l)
		p.state.Wipe()
		p.listen(nil, func(_ *exchange.FleetCall, chunks []*exchange.Chunk) {
			for _, c := range chunks {
				if c.Reply.Status == exchange.Lost {
					go p.cut()
				}
			}
		})
		l.Allow("k")
		until(t, "cut off", func() bool { return l.Status().State == Degraded })
		time.Sleep(10 * time.Minute)
		p.listen(nil, nil)
		until(t, "all is told", func() bool { return syncNow(l) == nil })
		if got := f.ToGo("k"); got > 402*time.Second {
			t.Errorf("%v to go, ten minutes after 1000s", got)
		}
	})
}

// TestLateReplyIsNoLoss: a reply that was long on its way must not be taken
// for a clock that has jumped: the floors sent then would undo a Reset.
func TestLateReplyIsNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Limit: Limit{Rate: 1, Burst: 1000}}
		b, p, f := tapped(t, cfg)
		defer f.close()
		a := newTap()
		a.state = p.state
		first := a.join(f, cfg)
		until(t, "both see each other", func() bool { return first.Status().Processes == 2 && b.Status().Processes == 2 })
		first.AllowN("k", 900)
		_ = syncNow(first)
		b.Allow("k")
		_ = syncNow(b)
		if err := first.Reset(context.Background(), "k"); err != nil {
			t.Fatal(err)
		}
		other := neighbour("k")
		p.listen(nil, func(_ *exchange.FleetCall, chunks []*exchange.Chunk) {
			if len(chunks) > 0 {
				time.Sleep(1500 * time.Millisecond)
			}
		})
		b.AllowN(other, 600)
		time.Sleep(300 * time.Millisecond)
		p.listen(nil, nil)
		time.Sleep(3 * time.Second)
		b.AllowN(other, 300)
		time.Sleep(2 * time.Second)
		if got, losses := f.ToGo("k"), b.Stats().Losses; got > 0 || losses != 0 {
			t.Errorf("%d losses seen, and %v to go of a key that was reset", losses, got)
		}
	})
}

// TestResetCoversEvictedUsage: what an evicted key has yet to tell is reset
// with it.
func TestResetCoversEvictedUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, f := tapped(t, Config{Limit: Limit{Rate: 1, Burst: 1000}, MaxKeys: 1})
		defer f.close()
		l.AllowN("k", 500)
		l.Allow("other")
		if err := errors.Join(l.Reset(context.Background(), "k"), syncNow(l)); err != nil {
			t.Fatal(err)
		}
		if got := f.ToGo("k"); got > 0 {
			t.Errorf("%v to go of a key that was reset", got)
		}
	})
}

// TestPartitionsOutliveTheFleetKey: where only the fleet's own key does not
// answer, keys of every partition are exchanged all the same.
func TestPartitionsOutliveTheFleetKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p, f := tapped(t, Config{Limit: busy})
		defer f.close()
		p.listen(nil, func(fl *exchange.FleetCall, _ []*exchange.Chunk) {
			if fl != nil {
				fl.Err = simnet.ErrCut
			}
		})
		until(t, "the failure is noticed", func() bool { return l.Status().Err != nil })
		time.Sleep(time.Second)
		for i := range 100 {
			l.AllowN(fmt.Sprint(i), 60)
		}
		time.Sleep(10 * time.Second)
		if got := l.Stats().KeysExchanged; got < 100 {
			t.Errorf("%d of 100 keys were exchanged", got)
		}
	})
}

// TestCloseTellsWhatItCan: Close tells as much as fits into its time, and says
// what is left, also if calls take long or are not answered in time.
func TestCloseTellsWhatItCan(t *testing.T) {
	keys := longtest.Choose(3000, 30000, 30000)
	for _, tc := range []struct {
		name  string
		trip  time.Duration
		keys  int
		least int // keys told
	}{
		{"near", 2 * time.Millisecond, keys, keys},
		{"far", 300 * time.Millisecond, keys, keys},
		{"too far", 5 * time.Second, keys, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, p, f := tapped(t, Config{Limit: Per(10, time.Hour), SyncInterval: time.Second})
				time.Sleep(time.Second)
				p.listen(func(*exchange.FleetCall, []*exchange.Chunk) error {
					time.Sleep(tc.trip)
					return nil
				}, nil)
				for i := range tc.keys {
					m.Allow(fmt.Sprint(i))
				}
				begin := time.Now()
				if err := m.Close(); err != nil || time.Since(begin) > 2*time.Second {
					t.Errorf("Close: %v after %v", err, time.Since(begin))
				}
				took := time.Since(begin)
				left := m.Status().Pending
				told := 0
				for i := range tc.keys {
					if f.ToGo(fmt.Sprint(i)) > 0 {
						told++
					}
				}
				t.Logf("%d of %d keys told in %v, %d left", told, tc.keys, took, left)
				time.Sleep(tc.trip) // the call ends by itself
				if told < tc.least || told+left < tc.keys {
					t.Errorf("%d of %d keys told, %d left; want at least %d, and each told or left", told, tc.keys, left, tc.least)
				}
			})
		})
	}
}

// lies are the worst that a server can say; each is told for a second.
var lies = map[string]struct {
	fleet func(*exchange.FleetReply)
	reply func(*exchange.Reply)
	debt  time.Duration // that may be found in the next server's state
}{
	"everything is lost":      {reply: func(r *exchange.Reply) { r.Status = exchange.Lost }},
	"nothing was ever known":  {reply: func(r *exchange.Reply) { r.Prev = 0 }},
	"the clock runs away":     {reply: func(r *exchange.Reply) { r.Now = 1 << 52 }},
	"all is duplicate":        {reply: func(r *exchange.Reply) { r.Status = exchange.Duplicate }},
	"everybody asks for more": {reply: eachKey(func(k *exchange.KeyState) { k.Demand = 1 << 52 })},
	"all is full":             {reply: eachKey(func(k *exchange.KeyState) { k.ToGo = exchange.LongAgo })},
	"a debt of 142 years":     {reply: eachKey(func(k *exchange.KeyState) { k.ToGo = 1 << 52 }), debt: bucket.LongestDebt},
	"a fleet beyond counting": {fleet: func(r *exchange.FleetReply) { r.Members = exchange.MaxMembers }},
	"a fleet that is silent": {fleet: func(r *exchange.FleetReply) {
		r.Members, r.Silent = exchange.MaxMembers, exchange.MaxMembers
	}},
	"a debt of 142 years, and a fleet to match": {
		fleet: func(r *exchange.FleetReply) { r.Members = exchange.MaxMembers },
		reply: eachKey(func(k *exchange.KeyState) { k.ToGo = 1 << 52 }),
		debt:  bucket.LongestDebt,
	},
}

func eachKey(lie func(*exchange.KeyState)) func(*exchange.Reply) {
	return func(r *exchange.Reply) {
		for i := range r.Keys {
			lie(&r.Keys[i])
		}
	}
}

// TestLiesAreForgotten: ten seconds after a server that lied for one has made
// room for one that knows nothing and doesn't lie, the fleet is one bucket
// again; all that may be left of a lie is a debt of an hour beyond an empty
// bucket, which a Reset ends.
func TestLiesAreForgotten(t *testing.T) {
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && lie.debt == 0 && lie.fleet == nil {
				t.Skip("runs without -short")
			}
			synctest.Test(t, func(t *testing.T) {
				p := newTap()
				var calls atomic.Int64
				f := &fleet{t: t, Net: &simnet.Net{State: p.state}}
				defer f.close()
				for range 2 {
					p.join(f, Config{Limit: busy, Processes: 2})
				}
				f.askFor(2 * time.Second)
				p.listen(nil, func(fl *exchange.FleetCall, chunks []*exchange.Chunk) {
					calls.Add(1)
					if fl != nil && lie.fleet != nil {
						lie.fleet(&fl.Reply)
					}
					for _, c := range chunks {
						if lie.reply != nil {
							lie.reply(&c.Reply)
						}
					}
				})
				f.askFor(time.Second)
				if most := int64(2 * time.Second / urgentEvery); calls.Load() > most {
					t.Errorf("%d calls in a second of lies, want at most %d", calls.Load(), most)
				}
				p.listen(nil, nil)
				p.state.Wipe()
				f.askFor(10 * time.Second)
				f.wantState(Synced)
				for i, m := range f.members {
					if n := m.Status().Processes; n != 2 {
						t.Errorf("process %d counts %d", i, n)
					}
				}
				debt := f.ToGo("k")
				t.Logf("time to full: %v", debt)
				if debt > lie.debt+time.Second {
					t.Errorf("a debt of %v in the state of a server that doesn't lie, want at most %v", debt, lie.debt)
				}
				if lie.debt > 0 {
					if err := f.members[0].Reset(t.Context(), "k"); err != nil {
						t.Error(err)
					}
					f.askFor(time.Second)
				}
				const span = 5 * time.Second
				ideal := float64(busy.Rate) * span.Seconds()
				if over := (float64(f.askFor(span)) - ideal) / ideal; math.Abs(over) > 0.03 {
					t.Errorf("admitted %+.1f %% against one bucket", 100*over)
				}
			})
		})
	}
}

// askFor has every process ask for four times what the limit admits.
func (f *fleet) askFor(d time.Duration) (admitted int) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for _, m := range f.members {
			for range 2 {
				if m.Allow("k") {
					admitted++
				}
			}
		}
	}
	return admitted
}

// TestStartedProcessKnowsAllThatRunsLow: as soon as its first Sync has returned, or
// within two seconds without one.
func TestStartedProcessKnowsAllThatRunsLow(t *testing.T) {
	for name, synced := range map[string]bool{"Sync": true, "two seconds": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := Config{Limit: Per(5, time.Minute), MaxKeys: 1 << 14}
				f := newFleet(t, 1, cfg)
				defer f.close()
				keys := longtest.Choose(2000, 5000, 5000)
				emptyKeys(f.members[0], keys)
				time.Sleep(time.Second)
				b := f.join(cfg)
				if !synced {
					time.Sleep(2 * time.Second)
				} else if err := b.Sync(context.Background()); err != nil {
					t.Fatal(err)
				}
				for i := range keys {
					if got := b.Peek(fmt.Sprint(i)).Remaining; got > 1 {
						t.Errorf("%d: %d remain, though the fleet has next to nothing left", i, got)
					}
				}
			})
		})
	}
}

// emptyKeys takes all tokens of so many keys.
func emptyKeys(m *member, keys int) {
	for i := range keys {
		for m.Allow(fmt.Sprint(i)) {
		}
	}
}

// TestNewsThatWasCutIsToldLater: of more keys than there is room for at once none is
// taken for announced, so that each is told of when it is next asked for.
func TestNewsThatWasCutIsToldLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Limit: Per(5, time.Minute), MaxKeys: 1 << 15}
		f := newFleet(t, 2, cfg)
		defer f.close()
		a, b := f.members[0], f.members[1]
		until(t, "all see each other", func() bool { return a.Status().Processes == 2 })
		const keys = exchange.NewsKept * 3 / 2
		until(t, "all is heard", func() bool {
			emptyKeys(a, keys)
			a.Sleep(500 * time.Millisecond)
			return b.Stats().NewsHeard >= keys
		})
		if got := b.Stats().NewsHeard; got > keys*11/10 {
			t.Errorf("heard %d pieces of news of %d keys", got, keys)
		}
	})
}

// TestJobsAreOneBucket: processes that live for one decision, one after the other, are
// admitted as one bucket admits them, where each syncs before it and closes after it.
func TestJobsAreOneBucket(t *testing.T) {
	for _, lim := range []Limit{Per(5, time.Minute), Per(20, time.Minute), Per(100, time.Minute)} {
		t.Run(lim.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, 0, Config{})
				defer f.close()
				jobs, admitted := 4*lim.Burst, 0
				begin := time.Now()
				for range jobs {
					m := f.join(Config{Limit: lim})
					if err := m.Sync(context.Background()); err != nil {
						t.Fatal(err)
					}
					if m.Allow("k") {
						admitted++
					}
					if err := m.Close(); err != nil {
						t.Fatal(err)
					}
				}
				want := float64(lim.Burst) + time.Since(begin).Seconds()*float64(lim.Rate)
				if float64(admitted) < 0.9*want-1 || float64(admitted) > want+2 {
					t.Errorf("%d of %d admitted, one bucket admits %.1f", admitted, jobs, want)
				}
			})
		})
	}
}
