package fleetsim

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/longtest"
	"github.com/seed-e56e777b/limiter/internal/simnet"
)

// requireTargets runs scenarios of docs/accuracy.md and requires their targets: the first ones in
// a short run, some in a usual one, all at length.
func requireTargets(t *testing.T, short, usual int, names ...string) {
	t.Helper()
	for _, name := range names[:longtest.Choose(short, usual, len(names))] {
		t.Run(name, func(t *testing.T) {
			sc := scenario(t, name)
			sc.Run(t)
			for _, r := range sc.Results {
				if !r.Met() {
					t.Errorf("%s: %v, want %s", r.Name, r, r.Bounds())
				}
			}
		})
	}
}

// scenario returns the scenario of a name.
func scenario(t *testing.T, name string) *Scenario {
	for _, g := range Groups() {
		for i := range g.Scenarios {
			if g.Scenarios[i].Name == name {
				return &g.Scenarios[i]
			}
		}
	}
	t.Fatalf("there is no scenario %q", name)
	return nil
}

// TestWorkersThatWaitKeepTheLimit: pools of many more workers than the burst
// that loop over Wait pass the limit in no window of a few seconds, through an
// outage, and in no second after it. Pools get tokens by their numbers, and waiters that
// give up cost nothing. Workers that reserve keep the limit too.
func TestWorkersThatWaitKeepTheLimit(t *testing.T) {
	requireTargets(t, 3, 5,
		"P=2 W=100, 10/s b=1, away for 8 s",
		"P=2 W=40 and 120, 50/s b=5",
		"500 waiters of one of two give up after 1 s, 10/s burst 10: the next token elsewhere",
		"P=2 W=20 that reserve, 10/s b=1, Redis away for a while",
		"P=4 W=50, 20/s b=5, stopped for 8 s",
		"P=4 W=50, 20/s b=5, back empty after 8 s",
		"100 wait in one of two, 40/s Allow in the other, 20/s burst 20",
		"P=4 W=50, 20/s b=1",
		"P=4 W=50, each gives up after 3 s on the mean, 20/s b=1",
	)
}

// TestTicksShareOneBucket: processes that all ask at the same instants of a clock share
// one bucket from the third time on, and none goes without.
func TestTicksShareOneBucket(t *testing.T) {
	requireTargets(t, 2, 4,
		"5 × 25 every 1s, of 100 per 1s",
		"2 × 40 every 10s, of 60 per 10s",
		"6 × 11 every 10s, of 60 per 10s",
		"6 × 100 every 10s, of 100 per 10s",
		"6 × 11 every 1s, of 60 per 10s",
		"20 × 4 every 10s, of 60 per 10s",
		"5 × 9 every 4s, of 40 per 4s",
	)
}

// TestDeploysCostNothing: processes that are replaced, or come and go, without Close take
// nothing from the others beyond their own traffic.
func TestDeploysCostNothing(t *testing.T) {
	requireTargets(t, 1, 3,
		"3 of 4 crash, their traffic moves, 1/s b=10",
		"all 4 replaced at once, killed, 3 r",
		"1 of 4 crashes, its traffic moves",
		"4 replaced, killed after 15s in which old and new each ask for 3 r",
		"ten jobs of one second beside one process, killed",
		"4 replaced one by one every 5 s, killed",
		"an idle process is started and killed every second",
	)
}

// TestBrownoutKeepsTheLimit: while a part of the calls get through, late, or those of a
// part of the fleet, and after it, the fleet admits the limit, in every second.
func TestBrownoutKeepsTheLimit(t *testing.T) {
	requireTargets(t, 1, 5,
		"N=4 3 r, each packet late by 0 to 300ms for 20s",
		"N=4 3 r, 2 lose 80 % of their replies for 2 min",
		"N=4 3 r, after 20 s 1.2 r, all lose 10 % of their packets for 2 min",
		"N=10 3 r, Redis answers for 1.5 s of each 2 s",
		"N=4 3 r, Redis answers for 0.3 s of each second",
		"N=4 3 r, 3 lose 80 % of their replies for 2 min",
		"N=6 0.9 r, each packet late by 0 to 350ms for 22s",
		"N=10 3 r, each packet late by 0 to 350ms for 45s",
	)
}

// TestLosingRedisInTurnKeepsTheLimit: processes that lose Redis one after the other
// admit the limit together, also if the first is out of touch for minutes.
func TestLosingRedisInTurnKeepsTheLimit(t *testing.T) {
	requireTargets(t, 1, 1, "N=5, 5s apart", "N=4, 1m10s apart", "N=10, 5s apart")
}

// TestIntervalsThatDifferAreSaid: processes with different SyncIntervals share one
// bucket, and say that they differ for as long as they do.
func TestIntervalsThatDifferAreSaid(t *testing.T) {
	requireTargets(t, 0, 1, "T = 100 ms in three processes, 2 s in three others")
	synctest.Test(t, func(t *testing.T) {
		f := New(t, 1, limiter.Config{Limit: busy})
		defer f.Close()
		slow := f.Join(limiter.Config{Limit: busy, SyncInterval: 2 * time.Second})
		said := func() bool { return f.Members[0].Status().Err != nil && slow.Status().Err != nil }
		Until(t, "both say so", said)
		if st := f.Members[0].Status(); st.State != limiter.Synced {
			t.Errorf("%v", st)
		}
		if err := slow.Close(); err != nil {
			t.Error(err)
		}
		Until(t, "all is well", func() bool { return f.Members[0].Status().Err == nil })
	})
}

// textLog is the text of a log.
type textLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *textLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *textLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestLimitsThatDifferAreSaid: two limiters under one prefix that have different limits
// are one fleet, as in a rollout, and the log says so: at once of one that comes to others,
// later of those that it came to.
func TestLimitsThatDifferAreSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logs [2]textLog
		logger := func(i int) *slog.Logger { return slog.New(slog.NewTextHandler(&logs[i], nil)) }
		said := func(i int) int {
			synctest.Wait()
			return strings.Count(logs[i].String(), "another limiter under this prefix has another limit")
		}
		f := New(t, 1, limiter.Config{Limit: limiter.Per(50, time.Second), Logger: logger(0)})
		defer f.Close()
		f.WaitFor(1)
		other := f.Join(limiter.Config{Limit: limiter.Per(5, time.Second), Logger: logger(1)})
		time.Sleep(2 * time.Second)
		if got := []int{said(0), said(1)}; !slices.Equal(got, []int{0, 1}) {
			t.Errorf("after 2 s said %v times, want 0 and 1", got)
		}
		time.Sleep(10 * time.Second)
		if got := []int{said(0), said(1)}; !slices.Equal(got, []int{1, 1}) {
			t.Errorf("after 12 s said %v times, want once each:\n%s%s", got, &logs[0], &logs[1])
		}
		if s := logs[1].String(); !strings.Contains(s, "own=5/s other=50/s") {
			t.Errorf("%s", s)
		}
		for range 3 {
			time.Sleep(2 * time.Minute)
			for i, m := range []*Member{f.Members[0], other} { // a change that comes to all in turn
				if err := m.SetLimit(limiter.Per(20, time.Second)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Duration(i+1) * 3 * time.Second)
			}
		}
		if got := []int{said(0), said(1)}; !slices.Equal(got, []int{1, 1}) {
			t.Errorf("of a change that came to all within 10 s: said %v times", got)
		}
	})
}

// TestRoundingStarvesNoKey: a bucket that holds one request is full again in time,
// though a token is no whole number of microseconds.
func TestRoundingStarvesNoKey(t *testing.T) {
	for _, n := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			lim := perSecond(3, 1)
			f := New(t, n, limiter.Config{Limit: lim})
			defer f.Close()
			y := f.Run(lim, Load{Seed: 3, Dur: 2 * time.Minute, Total: Steady(1.5), Weight: Equal})
			if fleet, central := y.Admitted(0, 2*time.Minute); fleet < 0.95*central {
				t.Errorf("N=%d: admitted %v, one central bucket %v", n, fleet, central)
			}
		})
	}
}

// TestLimitChangeReachesRedisAtOnce: a spent key whose limit is lowered is not refilled by
// the old limit until its next request, even if a report was under way.
func TestLimitChangeReachesRedisAtOnce(t *testing.T) {
	for _, underWay := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := NewOn(t, 2, limiter.Config{Limit: limiter.Per(100, time.Second), Processes: 2}, simnet.Path{Trip: 100 * time.Millisecond}, 1)
			defer f.Close()
			f.WaitFor(2)
			a, b := f.Members[0], f.Members[1]
			a.Charge("k", 100)
			if told := f.ToGo("k"); underWay {
				Until(t, "applied, and not answered", func() bool { return f.ToGo("k") != told })
			} else {
				Until(t, "told", func() bool { return Sync(a.Limiter) == nil })
			}
			lim := limiter.Per(100, 15*time.Minute)
			for _, m := range f.Members {
				if err := m.SetLimit(lim); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(5 * time.Second)
			b.Allow("k") // from a full bucket, if it has received no news
			if err := Sync(b.Limiter); err != nil {
				t.Fatal(err)
			}
			if got := b.Peek("k").ResetAfter; got < 9*time.Minute { // a third of a second goes by on the way
				t.Errorf("a report under way: %v; full in %v, want 9 to 15 m", underWay, got)
			}
		})
	}
}

// TestDebtsHeardOfOutliveALoss: a debt known by news alone, or of an evicted key, is
// reported again after a loss, with all other debts.
func TestDebtsHeardOfOutliveALoss(t *testing.T) {
	for _, evicted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := New(t, 2, limiter.Config{Limit: limiter.Per(10, 10*time.Second), Processes: 2, MaxKeys: 1})
			defer f.Close()
			f.WaitFor(2)
			a, b := f.Members[0], f.Members[1]
			if evicted {
				b = a
			}
			a.Charge("k", 300)
			Until(t, "told, and heard", func() bool { return Sync(a.Limiter) == nil && b.Peek("k").ResetAfter > 4*time.Minute })
			if !evicted {
				if err := a.Close(); err != nil {
					t.Fatal(err)
				}
			}
			b.Allow("another") // evicts the key in memory
			Until(t, "in step", func() bool { return Sync(b.Limiter) == nil })
			f.State.Wipe()
			for range 20 {
				b.Allow("another")
				time.Sleep(100 * time.Millisecond)
			}
			for range 2 { // first by the local state, then by Redis's
				if got := b.Peek("k").ResetAfter; b.Allow("k") || got < 4*time.Minute {
					t.Errorf("evicted %v: full in %v after the loss, want almost 5 m", evicted, got)
				}
				Until(t, "in step", func() bool { return Sync(b.Limiter) == nil })
			}
		})
	}
}

// TestDebtsHeardOfByIdleProcessesOutliveALoss: also if the whole partition had expired for
// this process, so that it sees no loss there, and the key is in memory.
func TestDebtsHeardOfByIdleProcessesOutliveALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, 2, limiter.Config{Limit: limiter.Per(10, 10*time.Second), Processes: 2})
		defer f.Close()
		f.WaitFor(2)
		a, b := f.Members[0], f.Members[1]
		b.Allow("k")
		Until(t, "told", func() bool { return Sync(b.Limiter) == nil })
		time.Sleep(100 * time.Second)
		a.Charge("k", 300)
		Until(t, "heard", func() bool { return b.Peek("k").ResetAfter > 9*time.Second })
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		f.State.Wipe()
		time.Sleep(2 * time.Second)
		b.Allow("k")
		Until(t, "in step", func() bool { return Sync(b.Limiter) == nil })
		if got := b.Peek("k").ResetAfter; got < 290*time.Second {
			t.Errorf("full in %v after the loss, want almost 5 m", got)
		}
	})
}

// TestSlowestBucketsAreEnforced: also those that take longer to fill than Redis can store,
// by Config.Limit, SetLimit and LimitFor.
func TestSlowestBucketsAreEnforced(t *testing.T) {
	const year = 365 * 24 * 3600
	slow := limiter.Limit{Rate: 10. / (1000 * year), Burst: 10}
	for name, cfg := range map[string]limiter.Config{
		"Config.Limit": {Limit: slow},
		"SetLimit":     {Limit: busy},
		"LimitFor":     {Limit: busy, LimitFor: func(string) (limiter.Limit, bool) { return slow, true }},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := New(t, 1, cfg)
			defer f.Close()
			f.WaitFor(1)
			l := f.Members[0].Limiter
			if err := l.SetLimit(slow); err != nil {
				t.Fatal(err)
			}
			admitted := 0
			for range 100 {
				if l.Allow("k") {
					admitted++
				}
				if err := Sync(l); err != nil {
					t.Fatal(err)
				}
			}
			if admitted != slow.Burst {
				t.Errorf("%s: %d admitted, want %d", name, admitted, slow.Burst)
			}
		})
	}
}

// TestIdleProcessesHealALoss: usage that is no news, because most of its bucket is left,
// outlives a loss of Redis too, though its process is idle: within a minute, or at once
// if the fleet's news is lost.
func TestIdleProcessesHealALoss(t *testing.T) {
	idle := longtest.Choose(3, 10, 10) // minutes
	for name, tc := range map[string]struct {
		before func(a *limiter.Limiter)
		after  time.Duration
	}{
		"within a minute":     {func(*limiter.Limiter) {}, 62 * time.Second},
		"at once, after news": {func(a *limiter.Limiter) { a.AllowN("low", 100) }, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := New(t, 2, limiter.Config{Limit: limiter.Per(100, time.Hour), Processes: 2})
				defer f.Close()
				f.WaitFor(2)
				a, b := f.Members[0], f.Members[1]
				a.AllowN("k", 40)
				tc.before(a.Limiter)
				time.Sleep(time.Duration(idle) * time.Minute)
				f.State.Wipe()
				time.Sleep(tc.after)
				admitted := 0
				for range 300 {
					if b.Allow("k") {
						admitted++
					}
					time.Sleep(20 * time.Millisecond)
				}
				if left := 60 + idle*100/60; admitted < left-1 || admitted > left+4 {
					t.Errorf("%d admitted after 40 and %d minutes, want %d or a few more of 100 an hour", admitted, idle, left)
				}
			})
		})
	}
}
