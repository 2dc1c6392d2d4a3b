package fleetsim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/simnet"
)

var renew = flag.Bool("renew", false, "write testdata/fingerprints.txt anew: decisions are meant to have changed")

const fingerprintFile = "testdata/fingerprints.txt"

// TestGoldenFingerprints: no decision of these runs has changed, to the nanosecond
// and the token. With -short the longer runs are left out. A change that is meant to
// change decisions renews the file:
//
//	go test -run GoldenFingerprints ./internal/fleetsim -renew
func TestGoldenFingerprints(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("fingerprints are those of amd64: other processors fuse multiplications with additions, and round otherwise")
	}
	var mu sync.Mutex
	got := map[string]string{}
	t.Run("runs", func(t *testing.T) {
		for name, run := range goldenRuns() {
			t.Run(name, func(t *testing.T) {
				if testing.Short() && !*renew && slices.Contains(longGolden, name) {
					t.Skip("runs without -short")
				}
				t.Parallel()
				print := strconv.FormatUint(run(t), 16)
				mu.Lock()
				defer mu.Unlock()
				got[name] = print
			})
		}
	})
	if *renew {
		var text strings.Builder
		for _, name := range slices.Sorted(maps.Keys(got)) {
			fmt.Fprintf(&text, "%s\t%s\n", got[name], name)
		}
		require.NoError(t, os.WriteFile(fingerprintFile, []byte(text.String()), 0o600))
		return
	}
	data, err := os.ReadFile(fingerprintFile)
	require.NoError(t, err)
	want := map[string]string{}
	for line := range strings.Lines(string(data)) {
		print, name, _ := strings.Cut(strings.TrimSpace(line), "\t")
		want[name] = print
	}
	for name, print := range got {
		if print != want[name] {
			t.Errorf("%s: decisions have changed: fingerprint %s, was %q", name, print, want[name])
		}
	}
	for name := range want {
		if got[name] == "" && flag.Lookup("test.run").Value.String() == "" && !(testing.Short() && slices.Contains(longGolden, name)) {
			t.Errorf("%s has a fingerprint, and no run", name)
		}
	}
}

// longGolden names the runs that take longest: four fifths of the time of all.
var longGolden = []string{
	"operations, one process", "operations, three processes, no faults", "steady above the limit", "jumping", "on and off",
	"burst smaller than a round", "slow key, in turn", "costs of b/2", "costs of 1 and b", "outage, then a rise",
	"outage of idle keys", "far from the limit, and an outage", "half cut off", "far away",
}

// goldenRuns are runs whose decisions are fixed, by name.
func goldenRuns() map[string]func(*testing.T) uint64 {
	runs := map[string]func(*testing.T) uint64{
		"operations, alone":                      func(t *testing.T) uint64 { return operations(t, 0, false) },
		"operations, one process":                func(t *testing.T) uint64 { return operations(t, 1, false) },
		"operations, three processes":            func(t *testing.T) uint64 { return operations(t, 3, false) },
		"operations, three processes, no faults": func(t *testing.T) uint64 { return operations(t, 3, true) },
	}
	const dur = 12 * sec
	add := func(sc Scenario) {
		sc.Load.Dur, sc.Load.Weight = max(dur, sc.Load.Dur), either(sc.Load.Weight, Equal)
		runs[sc.Name] = func(t *testing.T) uint64 {
			sc.Run(t)
			return sc.Tally.Print
		}
	}
	away := func(f *Fleet) []Event { return withoutRedis(f, 4*sec, 8*sec) }
	lost := simnet.Path{Trip: 20 * time.Millisecond, Jitter: 0.8, LoseRequest: 0.05, LoseReply: 0.05, Duplicate: 0.1, Timeout: 300 * time.Millisecond}
	add(Scenario{Name: "steady below the limit", N: 10, Lim: busy, Load: Load{Total: Steady(900), Weight: Skewed}})
	add(Scenario{Name: "steady above the limit", N: 10, Lim: busy, Load: Load{Total: Steady(2000)}})
	add(Scenario{Name: "one process", N: 1, Lim: busy, Load: Load{Total: Steady(1500)}})
	add(Scenario{Name: "jumping", N: 10, Lim: busy, Load: Load{Total: Steady(2000), Weight: Jumping}})
	add(Scenario{Name: "on and off", N: 5, Lim: busy, Load: Load{Total: OnOff(5000, 500*time.Millisecond, 2*sec)}})
	add(Scenario{Name: "burst smaller than a round", N: 10, Lim: perSecond(1000, 10), Load: Load{Total: Steady(1200)}})
	add(Scenario{Name: "slow key, in turn", N: 10, Lim: limiter.Per(5, time.Minute), Load: Load{Dur: 3 * time.Minute, Total: Steady(10), Robin: true, Regular: true}})
	add(Scenario{Name: "costs of b/2", N: 5, Lim: busy, Load: Load{Dur: 30 * sec, Total: Steady(40), Cost: func(*rand.Rand) int { return 50 }}})
	add(Scenario{Name: "costs of 1 and b", N: 5, Lim: busy, Load: Load{Total: Steady(1000), Cost: func(r *rand.Rand) int { return 1 + 99*b2i(r.IntN(100) == 0) }}})
	add(Scenario{Name: "outage", N: 5, Lim: busy, Load: Load{Total: Steady(2000), Weight: Skewed}, During: away})
	add(Scenario{Name: "outage, then a rise", N: 5, Lim: busy, Load: Load{Total: Stepped(500, 3000, 6*sec, time.Hour)}, During: away})
	add(Scenario{Name: "outage of idle keys", N: 2, Lim: perSecond(0.5, 5), Load: Load{
		Dur: 120 * sec, Total: func(at time.Duration) float64 { return 5 * float64(b2i(at < 20*sec || at > 50*sec)) },
	}, During: func(f *Fleet) []Event { return withoutRedis(f, 50*sec, 110*sec) }})
	add(Scenario{Name: "far from the limit, and an outage", N: 3, Lim: perSecond(1, 100), Load: Load{
		Dur: 12 * time.Minute, Total: Steady(0.3),
	}, During: func(f *Fleet) []Event { return withoutRedis(f, 5*time.Minute, 8*time.Minute) }})
	add(Scenario{Name: "half cut off", N: 6, Lim: busy, Load: Load{Dur: 90 * sec, Total: Steady(300)}, During: func(f *Fleet) []Event {
		return []Event{{5 * sec, f.CutOff(true, f.Members[:3]...)}, {80 * sec, f.CutOff(false, f.Members[:3]...)}}
	}})
	add(Scenario{Name: "state wiped and rolled back", N: 5, Lim: perSecond(1000, 1000), Load: Load{Total: Steady(2500), Weight: Skewed}, During: func(f *Fleet) []Event {
		var old exchange.Snapshot
		return []Event{{3 * sec, f.State.Wipe}, {5 * sec, func() { old = f.State.Snapshot() }}, {9 * sec, func() { f.State.Restore(old) }}}
	}})
	add(Scenario{Name: "workers that wait, through an outage", N: 3, Lim: perSecond(50, 5), Drive: loops(pools(3, 10), 0, 0), During: away})
	add(Scenario{Name: "requests and replies lost", N: 5, Lim: busy, Path: lost, Load: Load{Total: Steady(2000), Weight: Skewed}})
	add(Scenario{Name: "far away", N: 5, Lim: busy, Path: simnet.Path{Trip: 200 * time.Millisecond, Jitter: 0.1}, Load: Load{Total: Steady(2000)}})
	add(Scenario{Name: "T = 1 s", N: 5, Lim: busy, Cfg: limiter.Config{SyncInterval: sec}, Load: Load{Total: Steady(2000)}})
	add(Scenario{Name: "processes come and go", N: 3, Lim: busy, Load: Load{Total: Steady(2000), Weight: alive}, During: func(f *Fleet) []Event {
		return []Event{
			{3 * sec, func() { f.Join(limiter.Config{Limit: busy}) }},
			{5 * sec, func() { go func() { _ = f.Members[0].Close() }() }},
			{7 * sec, func() { f.Members[1].Kill() }},
		}
	}})
	return runs
}

func either(a, b func(int, time.Duration) float64) func(int, time.Duration) float64 {
	if a != nil {
		return a
	}
	return b
}

func b2i(b bool) int { return int(b2u(b)) }

// alive spreads a load over the processes that live in "processes come and go".
func alive(process int, at time.Duration) float64 {
	gone := []time.Duration{5 * sec, 7 * sec, time.Hour, time.Hour}
	came := []time.Duration{0, 0, 0, 3 * sec}
	return float64(b2i(at > came[process] && at < gone[process]))
}

// operationLimits are those of keys in a run of operations; a key's first letter
// says which it has.
var operationLimits = []limiter.Limit{
	busy, limiter.Per(5, time.Minute), perSecond(10, 1), limiter.Per(100, time.Hour), {Rate: rate.Inf}, {}, perSecond(100, 1000),
}

// operations calls everything that a limiter offers, at random, in so many
// processes (0: without Redis), and returns the fingerprint of all results.
func operations(t *testing.T, processes int, calm bool) (print uint64) {
	synctest.Test(t, func(t *testing.T) {
		sum := fnv.New64a()
		var mu sync.Mutex
		waited := uint64(0) // results of Wait, in any order
		cfg := limiter.Config{
			Limit: perSecond(50, 20), MaxKeys: 512, Processes: max(1, processes), Logger: quiet,
			LimitFor: func(key string) (limiter.Limit, bool) {
				i := int(key[0] - 'a')
				return operationLimits[i%len(operationLimits)], i < len(operationLimits)
			},
			Shadow: func(key string) bool { return key == "a1" },
		}
		f := NewOn(t, processes, cfg, simnet.Near, 7)
		defer f.Close()
		list := []*limiter.Limiter{}
		for _, m := range f.Members {
			list = append(list, m.Limiter)
		}
		if processes == 0 {
			l, err := limiter.New(cfg)
			require.NoError(t, err)
			list = append(list, l)
		}
		rng := rand.New(rand.NewPCG(uint64(processes), 3))
		begin := time.Now().Truncate(time.Microsecond)
		var waiting sync.WaitGroup
		for i := range 12000 {
			time.Sleep(time.Until(begin.Add(time.Duration(i) * 5 * time.Millisecond)))
			l := list[rng.IntN(len(list))]
			key := string(rune('a'+rng.IntN(len(operationLimits)+1))) + strconv.Itoa(rng.IntN(3))
			n := []int{0, 1, 1, 1, 2, 3, 10, -1, 200}[rng.IntN(9)]
			switch op := rng.IntN(24); op {
			default:
				fmt.Fprint(sum, l.AllowN(key, n))
			case 10, 11, 12:
				fmt.Fprintf(sum, "%#v", printed(l.TakeN(key, n)))
			case 13:
				fmt.Fprintf(sum, "%#v", printed(l.Peek(key)))
			case 14, 15:
				r := l.ReserveN(key, n)
				fmt.Fprint(sum, r.OK(), r.Delay())
				if op == 15 {
					r.Cancel()
				}
			case 16:
				l.Charge(key, n)
			case 17:
				l.Refund(key, n)
			case 18:
				fmt.Fprint(sum, limiter.AllowAll(l.Part(key, n), l.Part("b1", 1)))
				res, tightest := limiter.TakeAll(l.Part(key, 1), l.Part("h1", n))
				fmt.Fprintf(sum, "%#v %d", printed(res), tightest)
			case 19:
				if processes > 0 { // several that wait wake with one grant, in any order
					ctx, cancel := context.WithTimeout(t.Context(), 1)
					fmt.Fprint(sum, l.WaitN(ctx, key, n) == nil)
					cancel()
					break
				}
				waiting.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond+700) // at no instant of the driver
					defer cancel()
					err := l.WaitN(ctx, key, n)
					one := fnv.New64a()
					fmt.Fprint(one, i, err == nil, errors.Is(err, limiter.ErrExceedsBurst))
					mu.Lock()
					defer mu.Unlock()
					waited += one.Sum64()
				})
			case 20:
				k := l.Key(key)
				fmt.Fprint(sum, k.AllowN(n), k.Peek().Remaining)
			case 21:
				if rng.IntN(20) == 0 {
					go func() { _ = l.Reset(t.Context(), key) }()
				}
			case 22:
				if rng.IntN(100) == 0 {
					lim := perSecond(rate.Limit(20+rng.IntN(100)), 10+rng.IntN(40))
					for _, l := range list {
						require.NoError(t, l.SetLimit(lim))
					}
				}
			case 23:
				fmt.Fprint(sum, l.Status().State)
			}
			if !calm {
				f.makeFault(i)
			}
		}
		waiting.Wait()
		for _, l := range list {
			s := l.Stats()
			fmt.Fprint(sum, s.Allowed, s.Denied, s.Shadowed)
		}
		print = sum.Sum64() ^ waited
	})
	return print
}

// printed is a result as fingerprints have it: "never" is a RetryAfter of -1, as
// it was when they were taken.
func printed(r limiter.Result) limiter.Result {
	if r.RetryAfter == rate.InfDuration {
		r.RetryAfter = -1
	}
	return r
}

// makeFault changes the faults of the state before the i-th operation of a run.
func (f *Fleet) makeFault(i int) {
	switch i {
	case 3000, 7000:
		f.Down.Store(true)
	case 5000, 8000:
		f.Down.Store(false)
	case 9000:
		f.State.Wipe()
	}
}
