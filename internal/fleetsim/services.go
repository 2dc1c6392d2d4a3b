package fleetsim

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/simnet"
)

// services returns the scenarios of services: workers that wait, ticks of a clock,
// deploys, brownouts, changes of limits.
func services() []Group {
	return []Group{
		{"As services run it: workers that wait", waitingIntro, waitingWorkers()},
		{"As services run it: ticks of a clock", ticksIntro, clockTicks()},
		{"As services run it: deploys and crashes", deploysIntro, deploys()},
		{"As services run it: brownouts", brownoutsIntro, brownouts()},
		{"As services run it: losing Redis in turn", inTurnIntro, inTurn()},
		{"As services run it: limits that change", limitsIntro, changingLimits()},
		{"As services run it: many keys that run low", manyIntro, manyKeys()},
	}
}

const (
	waitingIntro = "P processes with W workers each call Wait, work for 10 ms, and call again. One central\n" +
		"bucket would admit what it refills.\n\n" +
		"- **4 s least** and **most**: windows of 4 s (of 40 tokens, if that is longer), from 10 s\n" +
		"  and the repayment of all bursts on, over the refill.\n" +
		"- **most in 1s** and **10s**: over what the rate and the burst give in that time.\n" +
		"- **5 s**: the first five seconds from the return of Redis on, over 5 r + b.\n" +
		"- **unfair**: the most less the least served process, by worker, over the mean.\n" +
		"- **longest**: the longest wait in one process over its median.\n\n" +
		"Workers of one process run in any order, so figures here may differ by a few tokens\n" +
		"from run to run."
	ticksIntro = "All processes request k tokens at the same instant, in every period, as cron jobs, polling\n" +
		"and aligned timers do. Figures are of one central bucket, from the third tick on."
	deploysIntro = "300/s, b = 30, demand 3 r unless a row says otherwise. Killed is without Close, as by\n" +
		"SIGKILL or by Go's default on SIGTERM. Figures are of one central bucket."
	brownoutsIntro = "300/s, b = 30, 3 r unless a row says otherwise; clients give a call up after 300 ms. Each\n" +
		"packet is late at random by up to the given time, so that some calls succeed.\n" +
		"**least second** is the worst of the 20 s after, of the refill."
	inTurnIntro = "300/s, b = 30, 3 r. The processes lose Redis one after the other, are without it together\nfor a minute, and get it back in turn."
	limitsIntro = "Tokens left stay left, at most the new burst, and debts stay in tokens. The central bucket\n" +
		"is x/time/rate's, with SetLimit and SetBurst. **to the first** is the time from the change\n" +
		"to the first token."
	manyIntro = "5 per minute. One process empties so many keys within a round and goes on requesting\n" +
		"them; another one then requests them for the first time. **unknown** is the part of the\n" +
		"keys whose bucket it takes for (nearly) full."
)

// label returns a limit as in the names of scenarios.
func label(lim limiter.Limit) string {
	rate, unit := float64(lim.Rate), "s"
	if rate < 1 {
		rate, unit = rate*3600, "h"
	}
	return fmt.Sprintf("%g/%s b=%d", math.Round(1000*rate)/1000, unit, lim.Burst)
}

// part is the admission of a phase, as a part of a central bucket's.
func part(phase string) Figure {
	return plain(phase, 2, "", func(y *Tally) float64 {
		p := y.phase(phase)
		fleet, central := y.Admitted(p.From, p.To)
		return fleet / central
	}).unsigned()
}

func (g Figure) unsigned() Figure {
	g.Plain = true
	return g
}

// mostIn is the largest admission of any window of a phase, as a part of r·t + b.
func mostIn(phase string, window time.Duration) Figure {
	return plain(fmt.Sprintf("%s: most in %v", phase, window), 2, "", func(y *Tally) float64 {
		p := y.phase(phase)
		return y.most(p.From, p.To, window) / (window.Seconds()*float64(y.lim.Rate) + float64(y.lim.Burst))
	}).unsigned()
}

// leastSecond is the least admission of a second of a phase, as a part of the refill.
func leastSecond(phase string) Figure {
	return plain(phase+": least second", 2, "", func(y *Tally) float64 {
		p := y.phase(phase)
		return slices.Min(y.windows(p.From, p.To, sec)) / float64(y.lim.Rate)
	}).unsigned()
}

// denialIn is the longest spell of a phase without an admission.
func denialIn(phase string) Figure { return spellIn(phase).unsigned() }

// paced is the least and the largest admission of the windows of a phase, as parts of
// the refill.
func paced(phase string, least, most float64) []Figure {
	of := func(pick func(y *Tally, list []float64) float64) func(*Tally) float64 {
		return func(y *Tally) float64 {
			p := y.phase(phase)
			window := paceOver(y.lim)
			return pick(y, y.windows(p.From, p.To, window)) / (window.Seconds() * float64(y.lim.Rate))
		}
	}
	return []Figure{
		plain(phase+": 4 s least", 2, "", of(func(_ *Tally, x []float64) float64 { return slices.Min(x) })).unsigned().atLeast(least),
		plain(phase+": most", 2, "", of(func(_ *Tally, x []float64) float64 { return slices.Max(x) })).unsigned().atMost(most),
	}
}

// paceOver is the window of paced: 4 s, or the time of 40 tokens.
func paceOver(lim limiter.Limit) time.Duration {
	return max(4*sec, time.Duration(40/float64(lim.Rate))*sec)
}

// unfair is the range, over processes, of the waits served per worker, over their mean.
var unfair = plain("unfair", 2, "", func(y *Tally) float64 {
	var served []float64
	for i, w := range y.waits {
		served = append(served, float64(len(w))/float64(y.workers[i]))
	}
	if len(served) == 0 {
		return math.Inf(1)
	}
	return (slices.Max(served) - slices.Min(served)) * float64(len(served)) / sum(served)
}).unsigned()

// longest is the worst ratio, over all processes, of the longest wait to the median.
var longest = plain("longest", 1, "", func(y *Tally) float64 {
	worst := 0.
	for _, w := range y.waits {
		if len(w) > 0 {
			worst = max(worst, quantile(w, 1)/max(quantile(w, 0.5), 0.001))
		}
	}
	return worst
}).unsigned()

func extra(name string, digits int, unit string) Figure {
	return plain(name, digits, unit, func(y *Tally) float64 {
		got, ok := y.extra[name]
		if !ok {
			return math.NaN()
		}
		return got
	}).unsigned()
}

// tuned is the path of a client with the timeouts of limiter.Tune.
var tuned = simnet.Path{Trip: simnet.Near.Trip, Timeout: 300 * time.Millisecond}

func waitingWorkers() (list []Scenario) {
	steady := func(name string, lim limiter.Limit, ps []pool, figures ...Figure) {
		debt := float64((len(ps)-1)*lim.Burst) / float64(lim.Rate) // time to repay all bursts at once, in seconds
		warm := 10*sec + time.Duration(math.Ceil(debt))*sec
		end := warm + max(48*sec, time.Duration(max(1600, 600*float64(len(ps)))/float64(lim.Rate))*sec)
		list = append(list, Scenario{
			Name: name + ", " + label(lim), N: len(ps), Lim: lim,
			Load: Load{Dur: end, Warm: warm, Phases: []Phase{{"steady", warm, end}}}, Drive: loops(ps, 0, 0),
			Figures: append(append(paced("steady", 0.95, 1.05), mostIn("steady", sec).atMost(1.25), mostIn("steady", 10*sec).atMost(1.05), denialIn("steady")), figures...),
		})
	}
	for _, tc := range []struct {
		p, w int
		lim  limiter.Limit
	}{
		{1, 50, perSecond(1000, 1)},
		{1, 50, perSecond(100, 10)},
		{2, 100, perSecond(10, 1)},
		{4, 5, perSecond(100, 100)},
		{4, 50, perSecond(20, 1)},
		{4, 50, perSecond(1, 5)},
		{20, 1, perSecond(20, 1)},
		{20, 50, perSecond(20, 1)},
		{3, 2, perSecond(50, 10)},
		{8, 25, perSecond(200, 50)},
		{2, 500, perSecond(1000, 1)},
		{10, 20, perSecond(100, 10)},
		{10, 50, perSecond(1000, 100)},
		{20, 500, perSecond(1000, 10)},
	} {
		fair := []Figure{unfair.atMost(0.15), longest.alone()} // with few workers in each, the next process is random
		if tc.w >= 20 {
			fair[1] = longest.atMost(2).alone()
		}
		steady(fmt.Sprintf("P=%d W=%d", tc.p, tc.w), tc.lim, pools(tc.p, tc.w), fair...)
	}
	for _, tc := range []struct {
		name    string
		workers []int
		lim     limiter.Limit
	}{
		{"P=2 W=40 and 120", []int{40, 120}, perSecond(50, 5)},
		{"P=4 W=10, 20, 40, 400", []int{10, 20, 40, 400}, perSecond(200, 10)},
		{"P=3 W=5, 5, 50", []int{5, 5, 50}, perSecond(100, 100)},
	} {
		ps := pools(len(tc.workers), 0)
		for i := range ps {
			ps[i].workers = tc.workers[i]
		}
		steady(tc.name, tc.lim, ps, unfair.atMost(0.3).alone(), longest.alone())
	}
	impatient := pools(4, 50)
	for i := range impatient {
		impatient[i].patience = 3 * sec
	}
	steady("P=4 W=50, each gives up after 3 s on the mean", perSecond(20, 1), impatient, unfair, longest)
	for _, tc := range []struct {
		name    string
		asking  float64
		waiting int
	}{{"100 wait in one of two, 40/s Allow in the other", 40, 100}, {"200 wait in one of two, 200/s Allow in the other", 200, 200}} {
		list = append(list, Scenario{
			Name: tc.name + ", 20/s burst 20", N: 2, Lim: perSecond(20, 20),
			Load:    Load{Dur: 60 * sec, Warm: 10 * sec, Phases: []Phase{{"steady", 10 * sec, 60 * sec}}},
			Drive:   loops([]pool{{process: 0, workers: tc.waiting, work: 10 * time.Millisecond}}, 1, tc.asking),
			Figures: []Figure{part("steady").within(0.95, 1.03), mostIn("steady", sec).atMost(1.05), mostIn("steady", 10*sec).atMost(1.05), denialIn("steady")},
		})
	}
	for _, tc := range []struct {
		name string
		p, w int
		lim  limiter.Limit
		at   func(*Fleet) []Event
	}{
		{"away for 8 s", 2, 100, perSecond(10, 1), func(f *Fleet) []Event { return withoutRedis(f, 20*sec, 28*sec) }},
		{"away for 8 s", 1, 100, perSecond(10, 1), func(f *Fleet) []Event { return withoutRedis(f, 20*sec, 28*sec) }},
		{"away for 8 s", 3, 20, perSecond(1000, 100), func(f *Fleet) []Event { return withoutRedis(f, 20*sec, 28*sec) }},
		{"away for 8 s", 10, 50, perSecond(100, 100), func(f *Fleet) []Event { return withoutRedis(f, 20*sec, 28*sec) }},
		{"stopped for 8 s", 4, 50, perSecond(20, 5), func(f *Fleet) []Event { return []Event{{20 * sec, f.Stop}, {28 * sec, f.Continue}} }},
		{"back empty after 8 s", 4, 50, perSecond(20, 5), func(f *Fleet) []Event {
			return append(withoutRedis(f, 20*sec, 28*sec), Event{28*sec + 1, f.State.Wipe})
		}},
	} {
		list = append(list, Scenario{
			Name: fmt.Sprintf("P=%d W=%d, %s, %s", tc.p, tc.w, label(tc.lim), tc.name), N: tc.p, Lim: tc.lim, Path: tuned,
			Load:   Load{Dur: 50 * sec, Warm: 10 * sec, Phases: []Phase{{"outage", 20 * sec, 28 * sec}, {"5 s", 28 * sec, 33 * sec}, {"from the return", 28 * sec, 50 * sec}}},
			During: tc.at, Drive: loops(pools(tc.p, tc.w), 0, 0),
			Figures: []Figure{
				part("outage").within(0.9, 1.08),
				plain("5 s", 2, "", func(y *Tally) float64 {
					fleet, central := y.Admitted(28*sec, 33*sec)
					return fleet / (central + float64(y.lim.Burst))
				}).unsigned().within(0.8, 1.05),
				mostIn("from the return", sec).atMost(1.25), mostIn("from the return", 10*sec).atMost(1.05), denialIn("from the return"),
			},
		})
	}
	list = append(list, Scenario{
		Name: "P=4 W=20, 100/s b=10, a round trip of 100 ms, away for 8 s", N: 4, Lim: perSecond(100, 10), Path: simnet.Path{Trip: 50 * time.Millisecond, Timeout: 300 * time.Millisecond},
		Load:   Load{Dur: 60 * sec, Warm: 10 * sec, Phases: []Phase{{"steady", 10 * sec, 40 * sec}, {"outage", 40 * sec, 48 * sec}, {"from the return", 48 * sec, 60 * sec}}},
		During: func(f *Fleet) []Event { return withoutRedis(f, 40*sec, 48*sec) }, Drive: loops(pools(4, 20), 0, 0),
		Figures: append(paced("steady", 0.95, 1.05), part("outage").within(0.9, 1.08), mostIn("from the return", sec).atMost(1.25), unfair.atMost(0.15)),
	})
	return append(append(list, reserving()...), cancelled())
}

// reserving is pools of workers that call Reserve and sleep.
func reserving() (list []Scenario) {
	for _, tc := range []struct {
		p, w int
		lim  limiter.Limit
		at   func(*Fleet) []Event
	}{
		{1, 20, perSecond(10, 1), func(f *Fleet) []Event { return withoutRedis(f, 30*sec, 32*sec) }},
		{2, 20, perSecond(10, 1), func(f *Fleet) []Event { return withoutRedis(f, 30*sec, 32*sec) }},
		{4, 10, perSecond(20, 20), func(f *Fleet) []Event { return withoutRedis(f, 30*sec, 38*sec) }},
		{4, 50, perSecond(100, 10), func(f *Fleet) []Event { return []Event{{30 * sec, f.Stop}, {38 * sec, f.Continue}} }},
	} {
		ps := pools(tc.p, tc.w)
		for i := range ps {
			ps[i].reserves = true
		}
		list = append(list, Scenario{
			Name: fmt.Sprintf("P=%d W=%d that reserve, %s, Redis away for a while", tc.p, tc.w, label(tc.lim)), N: tc.p, Lim: tc.lim, Path: tuned,
			Load: Load{Dur: 60 * sec, Warm: 10 * sec, Phases: []Phase{
				{"steady", 10 * sec, 30 * sec}, {"outage", 30 * sec, 32 * sec}, {"from the return", 32 * sec, 60 * sec},
			}},
			During: tc.at, Drive: loops(ps, 0, 0),
			Figures: append(paced("steady", 0.9, 1.1), part("outage").within(0.9, 1.08), part("from the return").within(0.95, 1.05),
				mostIn("from the return", sec).atMost(1.25), mostIn("from the return", 10*sec).atMost(1.05)),
		})
	}
	return list
}

// cancelled is a storm of waiters that all give up.
func cancelled() Scenario {
	return Scenario{
		Name: "500 waiters of one of two give up after 1 s, 10/s burst 10: the next token elsewhere", N: 2, Lim: perSecond(10, 10),
		Load: Load{Dur: 2 * time.Minute, Warm: sec, Phases: []Phase{{"all", 0, 2 * time.Minute}}},
		Drive: func(f *Fleet, y *Tally) {
			y.sleepUntil(sec)
			f.storm(500, sec)
			y.extra["to the next"] = 120
			for begin := y.now(); y.now() < y.dur; time.Sleep(10 * time.Millisecond) {
				ok := f.Members[1].Allow(key)
				y.add(y.now(), 1, 1, y.bucket.Allow(), ok)
				if ok {
					y.extra["to the next"] = (y.now() - begin).Seconds()
					break
				}
			}
		},
		Figures: []Figure{extra("to the next", 2, " s").atMost(0.35)},
	}
}

// storm returns an event in which waiters of the first process wait, and give up.
func (f *Fleet) storm(waiters int, after time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	var waiting sync.WaitGroup
	for range waiters {
		waiting.Go(func() { _ = f.Members[0].Wait(ctx, key) })
	}
	time.Sleep(after)
	cancel()
	waiting.Wait()
}

func clockTicks() (list []Scenario) {
	for _, tc := range []struct {
		n, k  int
		lim   limiter.Limit
		every time.Duration
	}{
		{6, 5, limiter.Per(60, 10*sec), 10 * sec},
		{6, 10, limiter.Per(60, 10*sec), 10 * sec},
		{6, 11, limiter.Per(60, 10*sec), 10 * sec},
		{6, 20, limiter.Per(60, 10*sec), 10 * sec},
		{6, 30, limiter.Per(60, 10*sec), 10 * sec},
		{5, 9, limiter.Per(40, 4*sec), 4 * sec},
		{2, 40, limiter.Per(60, 10*sec), 10 * sec},
		{20, 4, limiter.Per(60, 10*sec), 10 * sec},
		{6, 22, limiter.Per(60, 10*sec), 20 * sec},
		{2, 15, limiter.Per(60, 10*sec), 20 * sec},
		{3, 20, limiter.Per(60, 10*sec), 30 * sec},
		{6, 11, limiter.Per(60, 10*sec), 2 * sec},
		{6, 11, limiter.Per(60, 10*sec), sec},
		{6, 100, limiter.Per(100, 10*sec), 10 * sec},
		{5, 25, limiter.Per(100, sec), sec},
		{5, 50, limiter.Per(100, sec), sec},
	} {
		from := 2 * tc.every
		owed := float64(tc.n*tc.k - tc.lim.Burst)
		if debt := time.Duration(owed/float64(tc.lim.Rate)) * sec; owed > 2*float64(tc.lim.Burst) {
			from = debt.Truncate(tc.every) + 2*tc.every // the first tick's excess is repaid by then
		}
		name, least := "from the third tick", 0.9
		if from > 2*tc.every {
			name, least = "once repaid", 0.85
		}
		list = append(list, Scenario{
			Name: fmt.Sprintf("%d × %d every %v, of %d per %v", tc.n, tc.k, tc.every, tc.lim.Burst, time.Duration(float64(tc.lim.Burst)/float64(tc.lim.Rate)*1e9).Round(sec)), N: tc.n, Lim: tc.lim, Cfg: limiter.Config{Processes: tc.n},
			Load:    Load{Dur: from + 20*tc.every, Warm: from, Phases: []Phase{{name, from, from + 20*tc.every}}},
			Drive:   ticks(tc.k, tc.every),
			Figures: []Figure{part(name).within(least, 1.05), mostIn(name, sec), mostIn(name, 10*sec), denialIn(name)},
		})
	}
	return list
}

// lives spreads a load evenly over the live processes: each lives from came to went,
// or forever without an entry.
func lives(came, went map[int]time.Duration) func(int, time.Duration) float64 {
	return func(process int, at time.Duration) float64 {
		if end, ok := went[process]; at < came[process] || ok && at >= end {
			return 0
		}
		return 1
	}
}

func deploys() (list []Scenario) {
	lim := perSecond(300, 30)
	cfg := limiter.Config{Limit: lim, MaxKeys: 64}
	const start = 20 * sec
	add := func(name string, n int, demand func(time.Duration) float64, weight func(int, time.Duration) float64, during func(*Fleet) []Event, dur time.Duration, phases []Phase, figures ...Figure) {
		list = append(list, Scenario{
			Name: name, N: n, Lim: lim, Cfg: limiter.Config{Processes: n},
			Load:   Load{Dur: dur, Warm: 5 * sec, Total: demand, Weight: weight, Phases: phases},
			During: during, Figures: figures,
		})
	}
	minute := []Phase{{"first 5 s", start, start + 5*sec}, {"then, for a minute", start + 5*sec, start + 65*sec}}
	figures := func(least float64) []Figure {
		return []Figure{part("first 5 s"), part("then, for a minute").within(least, 1.05), mostIn("then, for a minute", sec), mostIn("then, for a minute", 10*sec), denialIn("then, for a minute")}
	}
	end := func(m *Member, clean bool) {
		if clean {
			go func() { _ = m.Close() }()
		} else {
			m.Kill()
		}
	}
	for _, clean := range []bool{false, true} {
		how := map[bool]string{false: "killed", true: "closed"}[clean]
		for _, d := range []float64{3, 0.9} {
			came, went := map[int]time.Duration{}, map[int]time.Duration{}
			for i := range 4 {
				went[i], came[4+i] = start, start
			}
			add(fmt.Sprintf("all 4 replaced at once, %s, %g r", how, d), 4, Steady(300*d), lives(came, went), func(f *Fleet) []Event {
				return []Event{{start - sec, func() {
					for range 4 {
						f.Join(cfg)
					}
				}}, {start, func() {
					for _, m := range f.Members[:4] {
						end(m, clean)
					}
				}}}
			}, start+65*sec, minute, figures(0.9)...)
		}
		came, went := map[int]time.Duration{}, map[int]time.Duration{}
		for i := range 4 {
			went[i], came[4+i] = start+time.Duration(i)*5*sec, start+time.Duration(i)*5*sec
		}
		add("4 replaced one by one every 5 s, "+how, 4, Steady(900), lives(came, went), func(f *Fleet) (list []Event) {
			for i := range 4 {
				list = append(list, Event{went[i], func() {
					f.Join(cfg)
					end(f.Members[i], clean)
				}})
			}
			return list
		}, start+65*sec, minute, figures(0.9)...)
		jobs := map[int]time.Duration{}
		for i := range 10 {
			came[1+i], jobs[1+i] = start-sec, start
		}
		add("ten jobs of one second beside one process, "+how, 1, Steady(900), lives(came, jobs), func(f *Fleet) []Event {
			return []Event{{start - sec, func() {
				for range 10 {
					f.Join(cfg)
				}
			}}, {start, func() {
				for _, m := range f.Members[1:11] {
					end(m, clean)
				}
			}}}
		}, start+65*sec, minute, figures(0.9)...)
	}
	for _, overlap := range []time.Duration{5 * sec, 15 * sec} {
		came, went := map[int]time.Duration{}, map[int]time.Duration{}
		for i := range 4 {
			went[i], came[4+i] = start, start-overlap
		}
		add(fmt.Sprintf("4 replaced, killed after %v in which old and new each ask for 3 r", overlap), 4, Stepped(900, 1800, start-overlap, start), lives(came, went), func(f *Fleet) []Event {
			return []Event{{start - overlap - sec, func() {
				for range 4 {
					f.Join(cfg)
				}
			}}, {start, func() {
				for _, m := range f.Members[:4] {
					m.Kill()
				}
			}}}
		}, start+65*sec, minute, figures(0.9)...)
	}
	gone := map[int]time.Duration{3: start}
	crash := func(f *Fleet) []Event { return []Event{{start, f.Members[3].Kill}} }
	add("1 of 4 crashes, its traffic moves", 4, Steady(900), lives(nil, gone), crash, start+65*sec, minute, figures(0.95)...)
	add("1 of 4 crashes, its traffic ends", 4, Stepped(900, 675, start, time.Hour), lives(nil, gone), crash, start+65*sec, minute, figures(0.75)...)
	first4 := func(process int, _ time.Duration) float64 { return float64(b2u(process < 4)) }
	for _, tc := range []struct {
		lim  limiter.Limit
		gone int
	}{{perSecond(1, 10), 1}, {perSecond(1, 10), 3}, {limiter.Per(60, time.Minute), 3}, {perSecond(10, 10), 3}} {
		const crash = 2 * time.Minute // the burst is used up before
		went := map[int]time.Duration{}
		for i := range tc.gone {
			went[i] = crash
		}
		list = append(list, Scenario{
			Name: fmt.Sprintf("%d of 4 crash, their traffic moves, %s", tc.gone, label(tc.lim)), N: 4, Lim: tc.lim, Cfg: limiter.Config{Processes: 4},
			Load: Load{
				Dur: crash + 65*sec, Warm: 5 * sec, Total: Steady(3 * float64(tc.lim.Rate)), Weight: lives(nil, went),
				Phases: []Phase{{"first 5 s", crash, crash + 5*sec}, {"then, for a minute", crash + 5*sec, crash + 65*sec}},
			},
			During: func(f *Fleet) (list []Event) {
				for _, m := range f.Members[:tc.gone] {
					list = append(list, Event{crash, m.Kill})
				}
				return list
			},
			Figures: figures(0.85),
		})
	}
	add("an idle process is started and killed every second", 4, Steady(1000), first4, func(f *Fleet) (list []Event) {
		for at := start; at < start+60*sec; at += sec {
			list = append(list, Event{at, func() { f.Join(cfg) }}, Event{at + 900*time.Millisecond, func() { f.Members[len(f.Members)-1].Kill() }})
		}
		return list
	}, start+125*sec, []Phase{{"meanwhile", start + 5*sec, start + 60*sec}, {"the minute after", start + 65*sec, start + 125*sec}},
		part("meanwhile").within(0.95, 1.05), part("the minute after").within(0.95, 1.05), mostIn("meanwhile", sec), mostIn("meanwhile", 10*sec), denialIn("meanwhile"))
	for i := range list {
		list[i].Fast = list[i].Name == "4 replaced one by one every 5 s, closed"
	}
	return append(list, otherIntervals(), oneDecisionEach())
}

// otherIntervals is a fleet with different intervals.
func otherIntervals() Scenario {
	lim := perSecond(300, 30)
	return Scenario{
		Name: "T = 100 ms in three processes, 2 s in three others", N: 3, Lim: lim,
		Load: Load{Dur: 80 * sec, Warm: 20 * sec, Total: Steady(900), Weight: Equal, Phases: []Phase{{"then, for a minute", 20 * sec, 80 * sec}}},
		During: func(f *Fleet) []Event {
			return []Event{{sec, func() {
				for range 3 {
					f.Join(limiter.Config{Limit: lim, MaxKeys: 64, SyncInterval: 2 * sec})
				}
			}}}
		},
		Figures: []Figure{part("then, for a minute").within(0.9, 1.1), mostIn("then, for a minute", sec), mostIn("then, for a minute", 10*sec), denialIn("then, for a minute")},
	}
}

// oneDecisionEach is forty short jobs in sequence, which sync, decide and end.
func oneDecisionEach() Scenario {
	lim := limiter.Per(5, time.Minute)
	return Scenario{
		Name: "forty processes in 20 s, each syncs, makes one decision and is killed, 5/min", N: 1, Lim: lim,
		Load: Load{Dur: 25 * sec, Phases: []Phase{{"all", 0, 25 * sec}}},
		Drive: func(f *Fleet, y *Tally) {
			for i := range 40 {
				y.sleepUntil(time.Duration(i) * sec / 2)
				m := f.Join(limiter.Config{Limit: lim, MaxKeys: 64})
				_ = Sync(m.Limiter)
				y.request(len(f.Members)-1, 1)
				time.Sleep(100 * time.Millisecond)
				m.Kill()
			}
			y.extra["admitted"], _ = y.Admitted(0, y.dur)
		},
		Figures: []Figure{extra("admitted", 0, "").atMost(7)},
	}
}

func brownouts() (list []Scenario) {
	lim := perSecond(300, 30)
	const start = 20 * sec
	add := func(name string, n int, d float64, long time.Duration, begin, end func(*Fleet), least float64) {
		phases := []Phase{{"meanwhile", start + sec, start + long}, {"20 s after", start + long, start + long + 20*sec}}
		list = append(list, Scenario{
			Name: name, N: n, Lim: lim, Path: tuned, Cfg: limiter.Config{Processes: n},
			Load: Load{Dur: start + long + 20*sec, Warm: 5 * sec, Total: Steady(300 * d), Weight: Equal, Phases: phases},
			During: func(f *Fleet) []Event {
				return []Event{{start, func() { begin(f) }}, {start + long, func() { end(f) }}}
			},
			Figures: []Figure{
				part("meanwhile").within(least, 1.08), mostIn("meanwhile", sec), mostIn("meanwhile", 10*sec),
				part("20 s after"), leastSecond("20 s after").atLeast(0.5), denialIn("20 s after"),
			},
		})
	}
	for _, tc := range []struct {
		n    int
		d    float64
		late time.Duration // each way
		long time.Duration
	}{
		{4, 3, 150, 20 * sec}, {4, 3, 300, 20 * sec}, {6, 3, 350, 22 * sec}, {6, 0.9, 350, 22 * sec}, {10, 3, 350, 45 * sec}, {10, 3, 450, 45 * sec}, {10, 2, 450, 60 * sec},
	} {
		late := tc.late * time.Millisecond
		add(fmt.Sprintf("N=%d %g r, each packet late by 0 to %v for %v", tc.n, tc.d, late, tc.long), tc.n, tc.d, tc.long,
			func(f *Fleet) { f.Late.Store(int64(late)) }, func(f *Fleet) { f.Late.Store(0) }, 0.95)
	}
	for _, tc := range []struct {
		n            int
		name         string
		away, period time.Duration
	}{{4, "0.3 s of each second", 700 * time.Millisecond, sec}, {10, "0.3 s of each second", 700 * time.Millisecond, sec}, {10, "1.5 s of each 2 s", sec / 2, 2 * sec}} {
		add(fmt.Sprintf("N=%d 3 r, Redis answers for %s", tc.n, tc.name), tc.n, 3, 30*sec, nil, nil, 0.9)
		list[len(list)-1].During = func(f *Fleet) (list []Event) {
			for at := start; at < start+30*sec; at += tc.period {
				list = append(list, Event{at, f.Stop}, Event{at + tc.away, f.Continue})
			}
			return list
		}
	}
	lossy := func(some int, request, reply float64) func(*Fleet) {
		return func(f *Fleet) {
			for _, m := range f.Members[:some] {
				m.SetLoss(request, reply)
			}
		}
	}
	for _, tc := range []struct {
		n, some        int
		request, reply float64 // probability that it is lost
	}{{4, 1, 0, 0.8}, {4, 2, 0, 0.8}, {4, 2, 0.8, 0}, {4, 3, 0, 0.8}, {4, 4, 0, 0.8}, {10, 5, 0, 0.8}, {4, 2, 0, 0.5}} {
		what, part := "replies", tc.reply
		if tc.request > 0 {
			what, part = "requests", tc.request
		}
		add(fmt.Sprintf("N=%d 3 r, %d lose %g %% of their %s for 2 min", tc.n, tc.some, 100*part, what), tc.n, 3, 2*time.Minute,
			lossy(tc.some, tc.request, tc.reply), lossy(tc.some, 0, 0), 0.95)
	}
	for _, tc := range []struct {
		n    int
		part float64
	}{{4, 0.1}, {10, 0.1}, {10, 0.2}} {
		add(fmt.Sprintf("N=%d 3 r, after 20 s 1.2 r, all lose %g %% of their packets for 2 min", tc.n, 100*tc.part), tc.n, 3, 2*time.Minute,
			lossy(tc.n, tc.part, tc.part), lossy(tc.n, 0, 0), 0.95)
		list[len(list)-1].Load.Total = Stepped(900, 360, start+20*sec, time.Hour)
	}
	return list
}

func inTurn() (list []Scenario) {
	lim := perSecond(300, 30)
	for _, tc := range []struct {
		n    int
		step time.Duration
	}{{4, sec}, {4, 20 * sec}, {4, 70 * sec}, {5, 5 * sec}, {10, 5 * sec}, {10, 20 * sec}} {
		const start = 20 * sec
		lost := start + time.Duration(tc.n-1)*tc.step
		back := lost + 60*sec
		all := back + time.Duration(tc.n-1)*tc.step
		list = append(list, Scenario{
			Name: fmt.Sprintf("N=%d, %v apart", tc.n, tc.step), N: tc.n, Lim: lim, Path: tuned, Cfg: limiter.Config{Processes: tc.n},
			Load: Load{Dur: all + 30*sec, Warm: 5 * sec, Total: Steady(900), Weight: Equal, Phases: []Phase{
				{"on the way", start, max(lost, start+sec)}, {"all without", lost + sec, back}, {"back in turn", back, max(all, back+sec)}, {"30 s after", all, all + 30*sec},
			}},
			During: func(f *Fleet) (list []Event) {
				for i, m := range f.Members {
					list = append(list, Event{start + time.Duration(i)*tc.step, f.CutOff(true, m)})
				}
				for i, m := range f.Members {
					list = append(list, Event{back + time.Duration(i)*tc.step, f.CutOff(false, m)})
				}
				return list
			},
			Figures: []Figure{part("on the way"), part("all without").within(0.92, 1.08), mostIn("all without", sec), mostIn("all without", 10*sec), part("back in turn"), part("30 s after").atLeast(0.9), denialIn("30 s after")},
		})
	}
	return list
}

func changingLimits() (list []Scenario) {
	for _, tc := range []struct {
		name     string
		from, to limiter.Limit
		demand   float64
		after    time.Duration
	}{
		{"raised, spent", limiter.Per(10, time.Hour), limiter.Per(10, sec), 20, 30 * sec},
		{"raised, spent, same burst", limiter.Per(100, time.Hour), perSecond(10, 100), 30, 30 * sec},
		{"raised tenfold", perSecond(100, 100), perSecond(1000, 100), 3000, 30 * sec},
		{"lowered tenfold", perSecond(1000, 100), perSecond(100, 100), 3000, 30 * sec},
		{"lowered, spent", limiter.Per(100, sec), limiter.Per(100, 15*time.Minute), 300, 15 * time.Minute},
		{"a smaller burst", perSecond(100, 1000), perSecond(100, 10), 150, 30 * sec},
		{"a larger burst", perSecond(100, 10), perSecond(100, 1000), 150, 30 * sec},
	} {
		first := len(list)
		for _, n := range []int{1, 4} {
			list = append(list, changed(fmt.Sprintf("N=%d %s: %s to %s", n, tc.name, label(tc.from), label(tc.to)), n, tc.from, tc.to, tc.demand, tc.after, false))
		}
		list = append(list, changed(fmt.Sprintf("N=4 %s, by redeployment: %s to %s", tc.name, label(tc.from), label(tc.to)), 4, tc.from, tc.to, tc.demand, tc.after, true))
		if tc.to.Rate > tc.from.Rate {
			for i := range list[first:] {
				figures := list[first+i].Figures
				figures[len(figures)-1] = figures[len(figures)-1].atMost(0.5)
			}
		}
	}
	return list
}

// changed is a fleet whose limit changes after a minute, by SetLimit in each process, or
// by a deploy that replaces all processes.
func changed(name string, n int, from, to limiter.Limit, demand float64, after time.Duration, deploy bool) Scenario {
	const change = time.Minute
	came, went := map[int]time.Duration{}, map[int]time.Duration{}
	if deploy {
		for i := range n {
			went[i], came[n+i] = change, change
		}
	}
	var y *Tally
	return Scenario{
		Name: name, N: n, Lim: from, Cfg: limiter.Config{Processes: n},
		Load: Load{Dur: change + after, Phases: []Phase{{"after", change, change + after}}},
		Drive: func(f *Fleet, tally *Tally) {
			y = tally
			ld := Load{Dur: y.dur, Total: Steady(demand), Weight: lives(came, went), Seed: 1}
			y.arrivals(f, &ld)
		},
		During: func(f *Fleet) []Event {
			return []Event{{change, func() {
				for _, m := range f.Members[:n] {
					if deploy {
						f.Join(limiter.Config{Limit: to, MaxKeys: 64, Processes: n})
						go func() { _ = m.Close() }()
					} else if err := m.SetLimit(to); err != nil {
						f.t.Error(err)
					}
				}
				y.bucket.SetLimit(to.Rate)
				y.bucket.SetBurst(to.Burst)
			}}}
		},
		Figures: []Figure{
			part("after").within(0.95, 1.05),
			plain("beyond central", 1, "", func(y *Tally) float64 {
				fleet, central := y.Admitted(change, change+after)
				return fleet - central
			}),
			plain("to the first", 2, " s", func(y *Tally) float64 {
				for _, a := range y.instants {
					if a.at > change {
						return (a.at - change).Seconds()
					}
				}
				return math.Inf(1)
			}).unsigned(),
		},
	}
}

func manyKeys() (list []Scenario) {
	lim := limiter.Per(5, time.Minute)
	for _, keys := range []int{16, 200, 1000, 5000} {
		for _, starts := range []bool{false, true} {
			name, wait := fmt.Sprintf("%d keys, first requested elsewhere after a second per thousand keys", keys), sec+time.Duration(keys)*time.Millisecond
			if starts {
				name, wait = fmt.Sprintf("%d keys, a process that starts when they are low, after 2 s", keys), 2*sec
			}
			list = append(list, Scenario{
				Name: name, N: 2, Lim: lim, Cfg: limiter.Config{MaxKeys: 16384},
				Load:  Load{Dur: 30 * sec, Phases: []Phase{{"all", 0, 30 * sec}}},
				Drive: firstContact(keys, wait, starts),
				Figures: []Figure{
					extra("unknown", 2, "").atMost(0),
					extra("admitted again, of all tokens", 2, "").atMost(0.05),
				},
			})
		}
	}
	return list
}

// firstContact is a run in which the first process empties keys. Requests for them
// follow in the second process, or in one that starts five seconds later.
func firstContact(keys int, wait time.Duration, starts bool) func(*Fleet, *Tally) {
	return func(f *Fleet, y *Tally) {
		f.WaitFor(2)
		a, b := f.Members[0], f.Members[1]
		name := func(i int) string { return "user:" + strconv.Itoa(i) }
		ask := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); a.Sleep(50 * time.Millisecond) {
				for i := range keys {
					for a.Allow(name(i)) {
					}
				}
			}
		}
		if starts {
			ask(5 * sec)
			b = f.Join(limiter.Config{Limit: y.lim, MaxKeys: 16384})
		}
		ask(wait)
		unknown, again := 0, 0
		for i := range keys {
			n := 0
			for b.Allow(name(i)) {
				n++
			}
			again += n
			unknown += int(b2u(n >= y.lim.Burst-1))
		}
		y.extra["unknown"] = float64(unknown) / float64(keys)
		y.extra["admitted again, of all tokens"] = float64(again) / float64(keys*y.lim.Burst)
	}
}
