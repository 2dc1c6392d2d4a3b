package limiter

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
	"pgregory.net/rapid"

	"github.com/seed-e56e777b/limiter/internal/account"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/longtest"
)

// The laws are what holds whatever happens in whatever order. Each is checked
// on a rig (laws_rig_test.go). Laws of arithmetic alone are checked in
// internal/bucket and internal/account.

// draws are the random draws of one law's check.
type draws struct {
	normal int      // number in a normal run; at length, -rapid.checks is the number
	from   uint64   // seed of the first draw; 0: -rapid.seed
	failed []uint64 // seeds of draws that failed once, checked first
}

// check checks a property on draws.
func check(t *testing.T, d draws, property func(*rapid.T)) {
	t.Helper()
	if !testing.Short() { // with half of the steps a seed makes another draw
		for _, seed := range d.failed {
			checkFrom(t, seed, 1, property)
		}
	}
	n := d.normal
	if checks := flag.Lookup("rapid.checks"); longtest.Enabled() || flagValue(checks) != checks.DefValue {
		n = 0
	}
	checkFrom(t, d.from, n, property)
}

// rapidFlags guards the values of rapid's flags, which all laws share.
var rapidFlags sync.Mutex

func flagValue(f *flag.Flag) string {
	rapidFlags.Lock()
	defer rapidFlags.Unlock()
	return f.Value.String()
}

// checkFrom checks a property on n draws from a seed; for 0, rapid's own flag
// holds. Rapid reads both flags before the first draw.
func checkFrom(t *testing.T, seed uint64, n int, property func(*rapid.T)) {
	t.Helper()
	values := map[string]string{}
	if seed != 0 {
		values["rapid.seed"] = fmt.Sprint(seed)
	}
	if n != 0 {
		if testing.Short() {
			n = max(n/4, 5) // rapid divides it by five
		}
		values["rapid.checks"] = fmt.Sprint(n)
	}
	rapidFlags.Lock()
	for name, value := range values {
		v := flag.Lookup(name).Value
		values[name] = v.String()
		require.NoError(t, v.Set(value))
	}
	restore := sync.OnceFunc(func() {
		defer rapidFlags.Unlock()
		for name, value := range values {
			require.NoError(t, flag.Lookup(name).Value.Set(value))
		}
	})
	defer restore()
	rapid.Check(t, func(t *rapid.T) {
		restore()
		property(t)
	})
}

var hotKeys = []string{"a", "b", "c"}

// crowd are keys that a report has just room for; allKeys take two lanes.
var (
	crowd = func() (keys []string) {
		for i := range exchange.MaxRecords - len(hotKeys) + 1 {
			keys = append(keys, fmt.Sprint("crowd", i))
		}
		return keys
	}()
	allKeys = append(crowd, hotKeys...)
)

func (r *rig) proc() *proc { return r.procs[rapid.IntRange(0, len(r.procs)-1).Draw(r.t, "process")] }

func (r *rig) key() string { return rapid.SampledFrom(hotKeys).Draw(r.t, "key") }

func (r *rig) tokens() int { return rapid.SampledFrom([]int{1, 2, 3, 5, 17}).Draw(r.t, "tokens") }

// decisions are what callers do.
func (r *rig) decisions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"allow":  func(*rapid.T) { r.proc().allow(r.key(), r.tokens()) },
		"charge": func(*rapid.T) { r.proc().charge(r.key(), r.tokens()) },
		"all":    func(*rapid.T) { r.proc().allowEach(allKeys) },
		"sync":   func(*rapid.T) { r.proc().sync() },
	}
}

// giveBacks are what callers do that lowers TATs.
func (r *rig) giveBacks() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"refund": func(*rapid.T) { r.proc().refund(r.key(), r.tokens()) },
		"reset":  func(*rapid.T) { r.proc().reset(r.key()) },
	}
}

// calls are what becomes of messages, one by one.
func (r *rig) calls() map[string]func(*rapid.T) {
	pick := func(t *rapid.T, arrived bool) (*proc, *batch) {
		for _, p := range r.procs {
			for _, b := range p.calls() {
				if p.arrived[b] == arrived {
					return p, b
				}
			}
		}
		t.Skip("no such call")
		return nil, nil
	}
	return map[string]func(*rapid.T){
		"step": func(*rapid.T) { r.proc().step() },
		"arrive": func(t *rapid.T) {
			p, b := pick(t, false)
			p.arrive(b, allFates)
		},
		"answer": func(t *rapid.T) {
			p, b := pick(t, true)
			p.answer(b)
		},
		"stray": func(t *rapid.T) {
			if len(r.stray) == 0 {
				t.Skip("none")
			}
			i := rapid.IntRange(0, len(r.stray)-1).Draw(t, "which")
			r.deliver(r.stray[i])
		},
	}
}

// lives are the comings and goings of processes.
func (r *rig) lives() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"crash": func(*rapid.T) { r.proc().crash(); r.join() },
		"leave": func(*rapid.T) { r.proc().leave(); r.join() },
	}
}

func (r *rig) passing(spans ...time.Duration) map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"time": func(t *rapid.T) { time.Sleep(rapid.SampledFrom(spans).Draw(t, "passes")) },
	}
}

// repeat does what may happen in any order.
func (r *rig) repeat(sets ...map[string]func(*rapid.T)) { r.t.Repeat(r.actions(sets...)) }

// actions puts together what may happen; "" is checked after each.
func (r *rig) actions(sets ...map[string]func(*rapid.T)) map[string]func(*rapid.T) {
	all := map[string]func(*rapid.T){"": func(t *rapid.T) { r.checkNumbers(t) }}
	for _, set := range sets {
		maps.Copy(all, set)
	}
	return all
}

func (r *rig) checkNumbers(t *rapid.T) {
	for _, p := range r.procs {
		for sh := range p.local.eachShard() {
			if err := errors.Join(sh.checkKeys(false), sh.checkOrphans(false)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// checkConserved checks that what is due is charged, in reports, or yet to be
// told, and that what was dropped is counted.
func (r *rig) checkConserved(tolerance float64) {
	charged, underWay, untold := r.spent, r.underWay(), r.untold()
	for _, field := range r.fields {
		if off := charged[field] + underWay[field] + untold[field] - r.due[field]; math.Abs(off) > tolerance {
			r.t.Fatalf("%q: %v µs are due; %v are charged, %v in reports, %v untold: off by %v", field, r.due[field], charged[field], underWay[field], untold[field], off)
		}
	}
	counted := uint64(0)
	for _, p := range r.procs {
		counted += p.Stats().DroppedTokens
	}
	if dropped := r.dropped(); dropped > counted { // a reset may bring back an entry that was dropped
		r.t.Fatalf("%d tokens were dropped, %d counted", dropped, counted)
	}
}

// onRig has a property hold on a rig of one to three processes.
func onRig(t *testing.T, d draws, cfg Config, property func(*rapid.T, *rig)) {
	t.Helper()
	check(t, d, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			cfg := cfg
			if cfg.MaxKeys == 0 {
				cfg.MaxKeys = rapid.SampledFrom([]int{2, 1000}).Draw(t, "resident keys")
			}
			r := newRig(t, cfg)
			defer func() {
				for _, end := range r.asking {
					end()
				}
			}()
			for range rapid.IntRange(1, 3).Draw(t, "processes") {
				r.join()
			}
			property(t, r)
		})
	})
}

// vast is a burst that is never used up.
var vast = int(min(float64(math.MaxInt), 1e11))

// conserve checks law 1 with limits of some rates.
func conserve(t *testing.T, d draws, rates *rapid.Generator[float64], tolerance float64) {
	t.Parallel()
	onRig(t, d, Config{Limit: Limit{Rate: 1000, Burst: vast}}, func(t *rapid.T, r *rig) {
		r.blur = int64(tolerance) / 10
		relimit := func(t *rapid.T) {
			lim := Limit{Rate: rate.Limit(rates.Draw(t, "rate")), Burst: vast}
			if lim.Rate == 0 {
				lim.Burst = 0
			}
			r.proc().relimit(lim)
		}
		r.count(allKeys)
		actions := r.actions(
			r.decisions(), r.giveBacks(), r.calls(), r.lives(),
			r.passing(time.Millisecond, 11*time.Millisecond, 100*time.Millisecond, 500*time.Millisecond, 16*time.Second, account.IdleAfter+demoteEvery),
			map[string]func(*rapid.T){"relimit": relimit},
		)
		check := actions[""]
		actions[""] = func(t *rapid.T) {
			check(t)
			r.checkConserved(tolerance)
		}
		t.Repeat(actions)
		r.settle()
		r.checkConserved(tolerance)
		for field, left := range r.underWay() {
			if left != 0 {
				t.Fatalf("settled, %v µs of %q are still in reports", left, field)
			}
		}
	})
}

// TestLawConservation: what was admitted and charged, less what was given back,
// is charged in the shared state, in a report, or still to be told, each token
// once, whatever is lost, doubled or late, and whatever is dropped is counted. Tokens
// stay what they are when the limit changes, but for a part that microseconds don't
// tell, each time that a process of another limit reports.
func TestLawConservation(t *testing.T) {
	t.Parallel()
	t.Run("exact", func(t *testing.T) {
		conserve(t, draws{normal: 40}, rapid.Just(1000.), 0)
	})
	t.Run("changing limits", func(t *testing.T) {
		conserve(t, draws{normal: 40}, rapid.SampledFrom([]float64{500, 1000, 2000, 0, float64(rate.Inf)}), 50)
	})
	t.Run("any rate", func(t *testing.T) {
		conserve(t, draws{normal: 40, failed: []uint64{
			15280670668571177231, // a Reset of an idle key
			15280670668571177232, // a change of the limit before an eviction
			102082521,            // a Reset before an eviction
		}}, rapid.Float64Range(100, 5000), 300)
	})
}

// TestLawsOfIdleKeys: tokens are conserved by each call of a key that has lost
// its account while it was idle.
func TestLawsOfIdleKeys(t *testing.T) {
	for name, call := range map[string]func(*proc){
		"allow":      func(p *proc) { p.allow("a", 3) },
		"deny":       func(p *proc) { p.allow("a", vast+1) },
		"charge":     func(p *proc) { p.charge("a", 3) },
		"refund":     func(p *proc) { p.refund("a", 3) },
		"reset":      func(p *proc) { p.reset("a") },
		"relimit":    func(p *proc) { p.relimit(Limit{Rate: 500, Burst: vast}) },
		"other keys": func(p *proc) { p.allowEach(allKeys[1:]) },
	} {
		t.Run(name, func(t *testing.T) {
			onRig(t, draws{normal: 1}, Config{Limit: Limit{Rate: 1000, Burst: vast}, MaxKeys: 2}, func(t *rapid.T, r *rig) {
				p := r.procs[0]
				p.allow("a", 3)
				r.settleNow()
				time.Sleep(account.IdleAfter + demoteEvery)
				p.exchange()
				if k := p.find("a"); k == nil || k.flags.is(hasAccount) {
					t.Fatal("the key has kept its account")
				}
				r.count(hotKeys)
				call(p)
				r.checkNumbers(t)
				r.checkConserved(0)
				r.settleNow()
				p.allow("a", 2)
				r.settleNow()
				r.checkNumbers(t)
				r.checkConserved(0)
			})
		})
	}
}

// losses are what a state may forget.
func (r *rig) losses() map[string]func(*rapid.T) {
	old, applied := r.state.Snapshot(), maps.Clone(r.applied)
	return map[string]func(*rapid.T){
		"wipe":     func(*rapid.T) { r.lose(r.state.Wipe, nil) },
		"snapshot": func(*rapid.T) { old, applied = r.state.Snapshot(), maps.Clone(r.applied) },
		"restore":  func(*rapid.T) { r.lose(func() { r.state.Restore(old) }, applied) },
	}
}

// rounds are exchanges with faults, in no time: so that what processes know of
// a TAT is exact.
func (r *rig) rounds(fates []string) map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){"round": func(*rapid.T) { r.proc().round(fates) }}
}

// checkHealed checks that the state has what processes know that it had.
func (r *rig) checkHealed() {
	now := time.Now().UnixMicro()
	for _, p := range r.procs {
		for _, field := range sorted(p.least) {
			if tat, least := r.tat(field), p.least[field]; tat < least && now < least {
				r.t.Fatalf("TAT of %q is %d, though a process knew of %d", field, tat, least)
			}
		}
	}
}

// TestLossSeenInAnotherLane: a report that finds what a loss has left, in a lane
// that was not used before and can't see it, counts on top of what is told
// again.
func TestLossSeenInAnotherLane(t *testing.T) {
	t.Parallel()
	for _, known := range [][]string{allKeys[1:], allKeys[:len(allKeys)-1]} { // one of them has the key that the other lane will take
		onRig(t, draws{normal: 10}, Config{Limit: Limit{Rate: 1000, Burst: vast}, MaxKeys: 1000}, func(_ *rapid.T, r *rig) {
			r.count(allKeys)
			p := r.procs[0]
			tell := func(keys []string) {
				p.allowEach(keys)
				p.sync()
				p.exchange()
			}
			tell(known)
			r.lose(r.state.Wipe, nil)
			tell(allKeys)
			r.checkHealed()
		})
	}
}

// TestLawLossIsHealed: after a wipe or a rollback, once every process has
// exchanged, the shared TAT is at least what any of them knew and has charged
// since, and at most what it were without loss, but for reports that the lost
// state had applied without an answer, which may count twice; from then on
// every token counts once again. One way to lose a TAT is known and open
// (docs/design.md §4, Loss: a lane that was never answered); about one draw in
// 3,000 finds it, so these have their seed.
func TestLawLossIsHealed(t *testing.T) {
	t.Parallel()
	onRig(t, draws{normal: 40, from: 1}, Config{Limit: Limit{Rate: 1000, Burst: vast}, MaxKeys: 1000}, func(t *rapid.T, r *rig) {
		r.count(allKeys)
		more := map[string]func(*rapid.T){
			"crash": r.lives()["crash"],
			"tell one lane": func(*rapid.T) {
				p := r.proc()
				p.allowEach(crowd)
				p.sync()
			},
			"tell two lanes": func(*rapid.T) {
				p := r.proc()
				p.allowEach(allKeys)
				p.sync()
			},
		}
		r.repeat(r.decisions(), r.rounds(mostFates), r.losses(), more, r.passing(11*time.Millisecond, time.Second, 16*time.Second))
		r.settle()
		r.checkHealed()
		charged := r.charged()
		for _, field := range r.fields {
			if over := charged[field] - r.due[field]; over > 0 {
				t.Fatalf("%q is charged with %v µs, %v more than it would be without loss", field, charged[field], over)
			}
		}
		r.count(allKeys)
		r.repeat(r.decisions(), r.rounds(mostFates), r.passing(time.Second))
		r.settle()
		r.checkConserved(0)
	})
}

// TestLawTATNeverGoesBack: but by a refund, which leaves no bucket above full,
// a reset, or a loss.
func TestLawTATNeverGoesBack(t *testing.T) {
	t.Parallel()
	onRig(t, draws{normal: 40, failed: []uint64{
		435154440264142116,   // a Reset of an idle key
		101429504,            // a loss that the last call finds once more
		13802392416610952683, // a late report, sent again a minute later
	}}, Config{Limit: Limit{Rate: 10, Burst: 20}}, func(_ *rapid.T, r *rig) {
		r.repeat(
			r.decisions(), r.giveBacks(), r.calls(), r.lives(), r.losses(),
			r.passing(time.Millisecond, 11*time.Millisecond, 100*time.Millisecond, time.Second, time.Minute, account.IdleAfter+demoteEvery),
		)
	})
}

// TestLawDenialConsumesNothing: a denial changes neither a bucket nor what is
// to be told of it but demand, and a report of denials moves no TAT.
func TestLawDenialConsumesNothing(t *testing.T) {
	t.Parallel()
	onRig(t, draws{normal: 40}, Config{Limit: Limit{Rate: 0.1, Burst: 3}}, func(_ *rapid.T, r *rig) {
		r.repeat(r.decisions(), r.rounds(allFates), r.passing(11*time.Millisecond, 500*time.Millisecond))
	})
}

// TestLawDebtIsRepaid: without admissions TAT stands still, so that a debt is
// gone in debt/r and the bucket full b/r later; until it is gone nobody whose
// grant is fresh admits anything (one that asks seldom may use what its share
// has saved up since).
func TestLawDebtIsRepaid(t *testing.T) {
	lim := Limit{Rate: 2, Burst: 20}
	onRig(t, draws{normal: 100}, Config{Limit: lim}, func(t *rapid.T, r *rig) {
		for _, p := range r.procs {
			p.allow("a", 1)
			p.charge("a", rapid.IntRange(1, 500).Draw(t, "charged"))
		}
		r.procs[0].charge("a", 200)
		r.settleNow()
		full := r.tat("ka")
		gone := full - 1e6*int64(lim.Burst)/int64(lim.Rate)
		r.repeat(r.rounds([]string{reached, reachTwice}), r.passing(11*time.Millisecond, time.Second, 10*time.Second), map[string]func(*rapid.T){
			"allow": func(t *rapid.T) {
				p, n, now := r.proc(), r.tokens(), time.Now().UnixMicro()
				if age := p.Peek("a").Age; age >= 0 && age <= 2*defaultInterval && now < gone && p.allow("a", n) {
					t.Fatalf("%d tokens admitted %d µs before the debt is gone", n, gone-now)
				}
			},
			"": func(t *rapid.T) {
				if tat := r.tat("ka"); tat != full && time.Now().UnixMicro() < full {
					t.Fatalf("nothing was admitted, and TAT went from %d to %d", full, tat)
				}
			},
		})
	})
}

// TestLawBacklogMakesNoDebt: usage that is reported more than 7 s after it was taken
// empties the bucket, but puts it no further ahead than it was.
func TestLawBacklogMakesNoDebt(t *testing.T) {
	t.Parallel()
	lim := Limit{Rate: 10, Burst: 20}
	onRig(t, draws{normal: 40}, Config{Limit: lim, MaxKeys: 1000}, func(t *rapid.T, r *rig) {
		r.equal = false
		r.procs[0].charge("a", rapid.IntRange(1, 3*lim.Burst).Draw(t, "used before"))
		r.settleNow()
		r.down = true
		r.tick(time.Second) // what is in a report when that is noticed is told as it is
		r.repeat(r.decisions(), r.rounds(nil), r.passing(11*time.Millisecond, 500*time.Millisecond, 16*time.Second))
		r.tick(8 * time.Second)
		r.down, r.most = false, 1e6*int64(lim.Burst)/int64(lim.Rate)
		for i := 0; !r.idle(); i++ {
			r.mustEnd(i)
			time.Sleep(10 * time.Millisecond)
			r.proc().round(mostFates)
		}
	})
}

// TestLawChargesInAnyOrder: reports of any number of lanes, each of which sends
// one after the other, may arrive in any order and any number of times: a TAT
// that is ahead of now has been moved by the sum, and each report counted once.
func TestLawChargesInAnyOrder(t *testing.T) {
	check(t, draws{normal: 100}, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			r := newRig(t, Config{Limit: busy})
			r.count(hotKeys)
			var made []*exchange.Chunk
			seqs := map[exchange.ID]int64{}
			draw := func(t *rapid.T) *exchange.Chunk {
				c := &exchange.Chunk{ID: exchange.ID{1, 8: byte(rapid.IntRange(0, 3).Draw(t, "lane"))}, Tau: time.Second}
				for range rapid.IntRange(0, 4).Draw(t, "records") {
					c.Records = append(c.Records, exchange.Record{
						Field: "k" + r.key(),
						Delta: rapid.Int64Range(0, 1e9).Draw(t, "delta"), Age: rapid.Int64Range(0, 1e9).Draw(t, "age"),
					})
				}
				return c
			}
			r.repeat(r.passing(0, time.Microsecond, time.Hour), map[string]func(*rapid.T){
				"next": func(t *rapid.T) {
					c := draw(t)
					seqs[c.ID]++
					c.Seq = seqs[c.ID]
					made = append(made, c)
					r.due.add(r.change(c.Records), 1)
					r.sent[number{c.ID, c.Seq}] = c.Records
					r.deliver(c)
				},
				"again": func(t *rapid.T) {
					if len(made) == 0 {
						t.Skip("none")
					}
					r.deliver(rapid.SampledFrom(made).Draw(t, "which"))
				},
				"too soon": func(t *rapid.T) {
					c := draw(t)
					c.Seq = seqs[c.ID] + 2
					if r.deliver(c); c.Reply.Status != exchange.Lost {
						t.Fatalf("one after one that is missing: %v", c.Reply.Status)
					}
				},
				"": func(*rapid.T) { r.checkConserved(0) },
			})
		})
	})
}
