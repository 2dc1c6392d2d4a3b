package fleetsim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/outage"
	"github.com/seed-e56e777b/limiter/internal/simnet"
)

// perSecond returns a limit of r tokens per second with burst b.
func perSecond(r rate.Limit, b int) limiter.Limit { return limiter.Limit{Rate: r, Burst: b} }

var busy = perSecond(1000, 100)

const sec = time.Second

// Groups returns the scenarios of docs/accuracy.md.
func Groups() []Group {
	return append(services(), []Group{
		{"Steady demand", steadyIntro, steadyDemand()},
		{"Bursts smaller than a round's refill, and limits from slow to fast", smallIntro, smallBursts()},
		{"Redis away", outageIntro, outages()},
		{"Part of the fleet cut off", cutIntro, cuts()},
		{"Demand that rises", riseIntro, rises()},
		{"Redis wiped or rolled back", lossIntro, losses()},
		{"The setting of WSO2's published figures", saturatedIntro, saturated()},
		{"Slow keys, clients spread over the fleet", slowIntro, slowKeys()},
		{"Costs other than 1", costIntro, costs()},
		{"Open cases", openIntro, openCases()},
		{"Redis far away, jitter, losses", farIntro, farAway()},
		{"As the fleet grows", growthIntro, growing()},
		{"What each mechanism earns", ablationIntro, ablations()},
		{"What each rule for outages and silence earns", rulesIntro, ruleAblations()},
	}...)
}

const (
	steadyIntro = "Demand d is in multiples of the rate, the same at every process or falling with 1/k.\n" +
		"Below the limit nothing is denied; above it the fleet admits what one bucket would.\n" +
		"At d = 1 the demand of single rounds scatters around the limit. In the last row all\n" +
		"traffic jumps to another process every 5 s: the newcomer's share grows while the\n" +
		"demand of the one before fades with τ."
	smallIntro = "A burst below r·T is refilled before any process can report. A central bucket loses\n" +
		"what comes while it is full, and the fleet learns of that late. So it admits more than\n" +
		"the central bucket, though at most the rate, with windows of a few (small) bursts."
	outageIntro = "Redis is away from 20 s on (120 s for slow keys); \"after\" is the 5 s from its return.\n" +
		"Every process goes on with a share by its average demand. A share below a quarter of\n" +
		"an equal one is raised to that, so that all together exceed the limit by at most 25 %.\n" +
		"If demand moves to a process that was idle, most of it is denied."
	cutIntro = "Processes are cut off for 3 minutes from 20 s on. For the first minute the others leave\n" +
		"them room; from then on the total may reach 1 + their shares. Usage older than 7 s makes\n" +
		"no debt, so their return (\"after\") brings no denial."
	riseIntro = "The targets are the bound of the first design, min((N − 1)·b, D·(T + round trip)). It\n" +
		"leaves out the refill until the first exchange, so that N = 2 passes it. The promise is\n" +
		"min((N − 1)·(b + r·H), D·H), H = T + round trip. On/off load gains on the central bucket\n" +
		"because each rise's debt is repaid in the pause."
	lossIntro      = "The state is lost at 20 s (rolled back: to what it was at 15 s)."
	saturatedIntro = "1000/s saturated, burst 1000. WSO2 publish +13.1 % at an interval of 50 ms and +3.7 % at\n" +
		"10 ms (wso2/api-platform#2187)."
	slowIntro = "5 per minute, burst 5. Requests are evenly spaced, and dealt to the processes in turn,\n" +
		"from a first contact on. At 1000/s a hundred processes meet the key within 100 ms,\n" +
		"before news can travel; what that admits is a debt and is repaid."
	costIntro = "All requests cost b/2; or one in a hundred costs b and the others 1. Two processes admit\n" +
		"what the central bucket wastes while it is full between two requests. In larger fleets\n" +
		"each process requests about once a second. It saves up for one request, and news of a\n" +
		"debt takes its part of that."
	openIntro = "Many processes for a slow key, tiny bursts, and costs of a whole burst. A central bucket\n" +
		"admits costs of b at two thirds of its rate only. The fleet is above that, and stays at\n" +
		"the rate."
	farIntro    = "Round trip, jitter of 10 % of it, and T as given. The last rows lose requests or replies,\nor deliver requests twice."
	growthIntro = "One key of 1000/s. Every process exchanges a requested key once a round. The whole fleet\n" +
		"makes at most 10,000 calls a second; beyond, the interval grows. From 333 processes on\n" +
		"some may wake at one instant: such a run does not replay exactly."
	rulesIntro    = "Situations of the sections above, with the rule of internal/outage that they need, and\nwithout it. Figures are of one central bucket."
	ablationIntro = "The same runs, each without one mechanism. Without shares it is the naive delta\nsynchronisation of other systems."
)

var fleetSizes = []int{2, 10, 50, 100}

func steadyDemand() (list []Scenario) {
	for _, n := range fleetSizes {
		for _, d := range []float64{0.5, 0.8, 0.9, 1, 1.2, 2, 5, 10, 20} {
			for _, skew := range []bool{false, true} {
				w, name := Equal, "equal"
				if skew {
					w, name = Skewed, "1/k"
				}
				sc := Scenario{
					Name: fmt.Sprintf("N=%d d=%g %s", n, d, name), N: n, Lim: busy,
					Load:    Load{Dur: 40 * sec, Warm: 5 * sec, Total: Steady(d * 1000), Weight: w},
					Figures: []Figure{over.within(-0.5, 0.5), worst.atMost(0.25), falsely, spreads, centrally, exchanges},
				}
				if d == 0.9 {
					sc.Figures[2] = falsely.atMost(0.2).alone()
				}
				sc.Fast = n == 10 && !skew && (d == 0.9 || d == 2 || d == 10)
				list = append(list, sc)
			}
		}
	}
	list = append(list, Scenario{
		Name: "N=10 d=3 jumping", N: 10, Lim: busy,
		Load:    Load{Dur: 60 * sec, Warm: 5 * sec, Total: Steady(3000), Weight: Jumping},
		Figures: []Figure{over.within(-0.5, 0.5), worst.atMost(0.25), falsely, spreads, centrally, exchanges},
	})
	return list
}

func smallBursts() (list []Scenario) {
	for _, n := range fleetSizes {
		for _, d := range []float64{0.9, 1.2, 2} {
			list = append(list, Scenario{
				Name: fmt.Sprintf("N=%d b=r/100 d=%g", n, d), N: n, Lim: perSecond(1000, 10),
				Load:    Load{Dur: 40 * sec, Warm: 5 * sec, Total: Steady(d * 1000), Weight: Equal},
				Figures: []Figure{over, worst, falsely, spreads, centrally, exchanges},
			})
		}
	}
	for _, lim := range []limiter.Limit{limiter.Per(5, time.Minute), perSecond(1, 5), perSecond(10, 1), perSecond(10, 10), perSecond(100, 1000), perSecond(1000, 10000), perSecond(100000, 1000), perSecond(1e6, 1e5)} {
		dur := 60 * sec
		if lim.Rate < 2 {
			dur = 30 * time.Minute
		}
		if lim.Rate >= 1e5 {
			dur = 5 * sec
		}
		list = append(list, Scenario{
			Name: fmt.Sprintf("N=10 d=2 %v", lim), N: 10, Lim: lim,
			Load:    Load{Dur: dur, Warm: dur / 5, Total: Steady(2 * float64(lim.Rate)), Weight: Equal},
			Figures: []Figure{over, worst, falsely, spreads, centrally, exchanges},
		})
	}
	return list
}

func withoutRedis(f *Fleet, from, to time.Duration) []Event {
	return []Event{
		{from, func() { f.Down.Store(true) }},
		{to, func() { f.Down.Store(false) }},
	}
}

func outages() (list []Scenario) {
	out := func(name string, n int, lim limiter.Limit, lasts time.Duration, total func(time.Duration) float64, w func(int, time.Duration) float64, least, most float64) {
		begin := 20 * sec
		if lim.Rate < 10 {
			begin = 120 * sec
		}
		after := 5 * sec
		list = append(list, Scenario{
			Name: fmt.Sprintf("N=%d %v %s", n, lasts, name), N: n, Lim: lim,
			Load: Load{
				Dur: begin + lasts + 2*after, Warm: 5 * sec, Total: total, Weight: w,
				Phases: []Phase{{"outage", begin, begin + lasts}, {"after", begin + lasts, begin + lasts + after}},
			},
			During: func(f *Fleet) []Event { return withoutRedis(f, begin, begin+lasts) },
			Figures: []Figure{
				admittedIn("outage").within(least, most), burstIn("outage"),
				admittedIn("after"), burstIn("after").atMost(0.25),
				spellIn("after").atMost(math.Round(100*float64(lim.Burst)/float64(lim.Rate)+20) / 100),
			},
		})
	}
	for _, n := range fleetSizes {
		for _, lasts := range []time.Duration{10 * sec, time.Minute} {
			out("0.5 r", n, busy, lasts, Steady(500), Equal, -5, 3)
			out("0.9 r", n, busy, lasts, Steady(900), Equal, -5, 3)
			out("3 r 1/k", n, busy, lasts, Steady(3000), Skewed, -5, 3)
			out("10 r", n, busy, lasts, Steady(10000), Equal, -5, 3)
		}
	}
	out("3 r 1/k", 10, busy, time.Hour, Steady(3000), Skewed, -5, 3)
	out("0.9 r", 10, busy, time.Hour, Steady(900), Skewed, -5, 3)
	out("20 r", 100, perSecond(1, 5), time.Minute, Steady(20), Equal, -5, 3)
	out("2 r", 100, perSecond(1, 5), 5*time.Minute, Steady(2), Equal, -5, 3)
	for _, n := range []int{50, 100} {
		out("0.5 r then 5 r", n, busy, 10*sec, Stepped(500, 5000, 25*sec, time.Hour), Equal, -10, 10)
	}
	for _, lasts := range []time.Duration{10 * sec, time.Minute} {
		out("0.5 r then 5 r", 10, busy, lasts, Stepped(500, 5000, 25*sec, time.Hour), Equal, -10, 10)
		out("5 r then 0.5 r", 10, busy, lasts, Stepped(5000, 500, 25*sec, time.Hour), Equal, -10, 10)
	}
	out("on/off 0.5/1.5 s, 10 r", 10, busy, 10*sec, OnOff(10000, 500*time.Millisecond, 2*sec), Equal, -5, 3)
	list[len(list)-1].Figures = list[len(list)-1].Figures[:4] // the longest spell is the load's own
	moved := func(process int, at time.Duration) float64 {
		if (process == 9) == (at >= 25*sec) {
			return 1
		}
		return 0
	}
	list = append(list, Scenario{
		Name: "N=10 3m moves to an idle process, 3 r", N: 10, Lim: busy,
		Load: Load{
			Dur: 210 * sec, Warm: 5 * sec, Total: Steady(3000), Weight: moved,
			Phases: []Phase{{"first minute", 25 * sec, 85 * sec}, {"then", 85 * sec, 200 * sec}},
		},
		During:  func(f *Fleet) []Event { return withoutRedis(f, 20*sec, 200*sec) },
		Figures: []Figure{admittedIn("first minute"), admittedIn("then")},
	})
	for _, visited := range []time.Duration{20 * sec, 100 * sec} {
		list = append(list, Scenario{
			Name: fmt.Sprintf("N=10 10s equal after %v of jumping, 3 r", visited), N: 10, Lim: busy,
			Load: Load{
				Dur: visited + 15*sec, Warm: 5 * sec, Total: Steady(3000),
				Weight: func(process int, at time.Duration) float64 {
					if at < visited {
						return Jumping(process, at)
					}
					return 1
				},
				Phases: []Phase{{"outage", visited, visited + 10*sec}, {"after", visited + 10*sec, visited + 15*sec}},
			},
			During:  func(f *Fleet) []Event { return withoutRedis(f, visited, visited+10*sec) },
			Figures: []Figure{admittedIn("outage").within(-10, 25), burstIn("outage"), admittedIn("after"), burstIn("after").atMost(0.25), spellIn("after").atMost(0.3)},
		})
	}
	list = append(list, idleBefore(10*sec), idleBefore(2*time.Minute), clumps())
	list = append(list, farFromLimit()...)
	b5 := limiter.Per(5, time.Minute)
	list = append(list, Scenario{
		Name: "N=200 full buckets 5/min", N: 200, Lim: b5,
		Load: Load{
			Dur: 12 * time.Minute, Total: Stepped(0, 10, 30*sec, time.Hour), Weight: Equal,
			Phases: []Phase{{"outage", 30 * sec, 630 * sec}},
		},
		During:  func(f *Fleet) []Event { return withoutRedis(f, 20*sec, 630*sec) },
		Figures: []Figure{admittedIn("outage").within(-10, 25), burstIn("outage")},
	})
	for i := range list {
		switch list[i].Name {
		case "N=10 10s 3 r 1/k":
			list[i].Fast = true
		case "N=10 10s 0.5 r then 5 r":
			list[i].Chart = "accuracy-outage-rise.svg"
		case "N=10 1m0s 3 r 1/k":
			list[i].Chart = "accuracy-outage.svg"
		}
	}
	return list
}

// farFromLimit are outages that begin when much of the burst is left, so that processes
// have told each other little, and long ones after which Redis has forgotten the key.
func farFromLimit() (list []Scenario) {
	add := func(name string, n int, lim limiter.Limit, from, lasts time.Duration, total func(time.Duration) float64, w func(int, time.Duration) float64) {
		list = append(list, Scenario{
			Name: fmt.Sprintf("N=%d %v of %v, %s", n, lasts, lim, name), N: n, Lim: lim,
			Load: Load{
				Dur: from + lasts + 15*sec, Warm: sec, Total: total, Weight: w,
				Phases: []Phase{{"outage", from, from + lasts}, {"after", from + lasts, from + lasts + 10*sec}},
			},
			During: func(f *Fleet) []Event { return withoutRedis(f, from, from+lasts) },
			Figures: []Figure{
				admittedIn("outage").within(-25, 25), burstIn("outage"),
				plain("after: beyond central", 2, " b", func(y *Tally) float64 {
					fleet, central := y.Admitted(from+lasts, from+lasts+10*sec)
					return (fleet - central) / float64(lim.Burst)
				}).atMost(0.1),
			},
		})
	}
	for _, w := range []struct {
		name   string
		weight func(int, time.Duration) float64
	}{{"", Equal}, {" 1/k", Skewed}} {
		add("0.5 r then 30 r"+w.name, 10, perSecond(10, 100), 2*time.Minute, 2*time.Minute, Stepped(5, 300, 121*sec, time.Hour), w.weight)
		add("0.5 r then 2 r"+w.name, 4, limiter.Per(100, time.Minute), 2*time.Minute, 2*time.Minute, Stepped(100./120, 100./30, 121*sec, time.Hour), w.weight)
	}
	for _, lim := range []limiter.Limit{perSecond(10, 20), perSecond(5, 20), perSecond(100, 400)} {
		add("0.5 r then 3 r", 10, lim, time.Minute, time.Minute, Stepped(0.5*float64(lim.Rate), 3*float64(lim.Rate), time.Minute, time.Hour), Equal)
	}
	add("20 r, a half of the burst spent", 10, limiter.Per(600, 10*time.Minute), 15*sec, 10*time.Minute, Steady(20), Equal)
	add("5 r, two thirds of the burst spent", 4, limiter.Per(600, 10*time.Minute), 90*sec, 10*time.Minute, Steady(5), Equal)
	add("6 r", 4, limiter.Per(100, time.Minute), time.Minute, 150*sec, Steady(10), Equal)
	add("6 r", 4, limiter.Per(100, time.Minute), time.Minute, 1000*sec, Steady(10), Equal)
	return list
}

// idleBefore is an outage that begins when a load of ten times the limit comes back after
// a pause, of a key that there is no news of: its burst refills too fast.
func idleBefore(pause time.Duration) Scenario {
	begin, end := 20*sec+pause, 40*sec+pause
	total := func(at time.Duration) float64 {
		if at >= 20*sec && at < begin {
			return 0
		}
		return 10000
	}
	return Scenario{
		Name: fmt.Sprintf("N=10 20s 10 r, idle for %v before", pause), N: 10, Lim: busy,
		Load:    Load{Dur: end, Warm: 5 * sec, Total: total, Weight: Equal, Phases: []Phase{{"outage", begin, end}}},
		During:  func(f *Fleet) []Event { return withoutRedis(f, begin, end) },
		Figures: []Figure{admittedIn("outage"), burstIn("outage")},
	}
}

// clumps is an outage of few requests that come together.
func clumps() Scenario {
	const begin, end, width = 65 * sec, 665 * sec, 40 * time.Millisecond
	return Scenario{
		Name: "N=10 10m0s 4 at once every 10s, 5/10s", N: 10, Lim: limiter.Per(5, 10*sec),
		Load: Load{
			Dur: end, Warm: 5 * sec, Total: OnOff(4/width.Seconds(), width, 10*sec), Weight: Equal,
			Phases: []Phase{{"outage", begin, end}},
		},
		During:  func(f *Fleet) []Event { return withoutRedis(f, begin, end) },
		Figures: []Figure{admittedIn("outage"), burstIn("outage")},
	}
}

func cuts() (list []Scenario) {
	for _, n := range fleetSizes {
		for _, tc := range []struct {
			part string
			k    int
			d    float64
		}{{"1", 1, 3}, {"half", n / 2, 3}, {"all but 1", n - 1, 3}, {"all but 1", n - 1, 20}} {
			list = append(list, Scenario{
				Name: fmt.Sprintf("N=%d cut off: %s, %g r", n, tc.part, tc.d), N: n, Lim: busy,
				Load: Load{
					Dur: 3*time.Minute + 30*sec, Warm: 5 * sec, Total: Steady(tc.d * 1000), Weight: Equal,
					Phases: []Phase{{"first minute", 20 * sec, 80 * sec}, {"then", 100 * sec, 200 * sec}, {"after", 200 * sec, 205 * sec}},
				},
				During: func(f *Fleet) []Event {
					return []Event{{20 * sec, f.CutOff(true, f.Members[:tc.k]...)}, {200 * sec, f.CutOff(false, f.Members[:tc.k]...)}}
				},
				Figures: []Figure{
					admittedIn("first minute").within(-5, 5), burstIn("first minute"),
					admittedIn("then").atMost(100*float64(tc.k)/float64(n) + 5).alone(),
					admittedIn("after"), spellIn("after"),
				},
			})
		}
	}
	list = append(list, Scenario{
		Name: "N=20 rolling cuts of 5 s, 3 r", N: 20, Lim: busy,
		Load: Load{Dur: 125 * sec, Warm: 5 * sec, Total: Steady(3000), Weight: Equal, Phases: []Phase{{"first minute", 20 * sec, 80 * sec}}},
		During: func(f *Fleet) (list []Event) {
			for i := range 20 {
				at := 20*sec + time.Duration(i)*5*sec
				list = append(list, Event{at, f.CutOff(true, f.Members[i])}, Event{at + 5*sec, f.CutOff(false, f.Members[i])})
			}
			return list
		},
		Figures: []Figure{admittedIn("first minute").within(-5, 5), over.within(-5, 5), worst},
	})
	for _, clean := range []bool{false, true} {
		name := "crash"
		if clean {
			name = "clean leave"
		}
		gone := func(process int, at time.Duration) float64 {
			if process == 3 && at >= 20*sec {
				return 0
			}
			return 1
		}
		sc := Scenario{
			Name: "N=4 " + name + " of 1, 3 r", N: 4, Lim: busy,
			Load: Load{Dur: 120 * sec, Warm: 5 * sec, Total: Steady(3000), Weight: gone, Phases: []Phase{{"first minute", 20 * sec, 80 * sec}, {"then", 85 * sec, 120 * sec}}},
			During: func(f *Fleet) []Event {
				return []Event{{20 * sec, func() {
					f.Members[3].Cut.Store(!clean)
					if clean {
						_ = f.Members[3].Close()
					}
				}}}
			},
			Figures: []Figure{admittedIn("first minute").within(-5, 1), admittedIn("then").within(-1, 1)},
		}
		if clean {
			sc.Figures[0] = admittedIn("first minute").within(-1, 1)
		}
		list = append(list, sc)
	}
	return list
}

func rises() (list []Scenario) {
	bound := func(n int, high float64) float64 {
		return min(float64(n-1)*float64(busy.Burst), high*0.102) / float64(busy.Burst)
	}
	for _, n := range fleetSizes {
		list = append(list, Scenario{
			Name: fmt.Sprintf("N=%d 0.5 r → 5 r → 0.5 r", n), N: n, Lim: busy,
			Load:    Load{Dur: 40 * sec, Warm: 5 * sec, Total: Stepped(500, 5000, 15*sec, 25*sec), Weight: Equal, Phases: []Phase{{"high", 15 * sec, 25 * sec}}},
			Figures: []Figure{over, worst.atMost(bound(n, 5000)).alone(), admittedIn("high"), settledAfter("the rise", 15*sec)},
		}, Scenario{
			Name: fmt.Sprintf("N=%d on/off 0.5/1.5 s, 10 r", n), N: n, Lim: busy,
			Load:    Load{Dur: 60 * sec, Warm: 5 * sec, Total: OnOff(10000, 500*time.Millisecond, 2*sec), Weight: Equal},
			Figures: []Figure{over, worst.atMost(bound(n, 10000)).alone(), falsely},
		}, Scenario{
			Name: fmt.Sprintf("N=%d steps 0, 2 r, 0 of 5 s", n), N: n, Lim: busy,
			Load:    Load{Dur: 60 * sec, Warm: 5 * sec, Total: OnOff(2000, 5*sec, 10*sec), Weight: Equal},
			Figures: []Figure{over, worst.atMost(bound(n, 2000)).alone(), falsely},
		})
	}
	return list
}

func losses() (list []Scenario) {
	for _, n := range fleetSizes {
		for _, d := range []float64{0.9, 3} {
			list = append(list, Scenario{
				Name: fmt.Sprintf("N=%d wiped, %g r 1/k", n, d), N: n, Lim: busy,
				Load:    Load{Dur: 35 * sec, Warm: 5 * sec, Total: Steady(d * 1000), Weight: Skewed, Phases: []Phase{{"second after", 20 * sec, 21 * sec}}},
				During:  func(f *Fleet) []Event { return []Event{{20 * sec, f.State.Wipe}} },
				Figures: []Figure{over.within(-0.5, 0.5), worst, admittedIn("second after"), settledAfter("the wipe", 20*sec)},
			}, Scenario{
				Name: fmt.Sprintf("N=%d rolled back by 5 s, %g r 1/k", n, d), N: n, Lim: busy,
				Load: Load{Dur: 35 * sec, Warm: 5 * sec, Total: Steady(d * 1000), Weight: Skewed, Phases: []Phase{{"second after", 20 * sec, 21 * sec}}},
				During: func(f *Fleet) []Event {
					var old exchange.Snapshot
					return []Event{{15 * sec, func() { old = f.State.Snapshot() }}, {20 * sec, func() { f.State.Restore(old) }}}
				},
				Figures: []Figure{over.within(-0.5, 0.5), worst, admittedIn("second after"), settledAfter("the loss", 20*sec)},
			})
		}
	}
	return list
}

func saturated() (list []Scenario) {
	for _, n := range []int{3, 4} {
		for _, T := range []time.Duration{10, 50, 100} {
			T *= time.Millisecond
			list = append(list, Scenario{
				Name: fmt.Sprintf("N=%d T=%v, 1000/s saturated (4 r)", n, T), N: n, Lim: perSecond(1000, 1000), Cfg: limiter.Config{SyncInterval: T},
				Load:    Load{Dur: 60 * sec, Warm: 5 * sec, Total: Steady(4000), Weight: Equal},
				Figures: []Figure{over.within(-0.5, 0.5), worst, exchanges},
				Fast:    n == 3 && T == 50*time.Millisecond,
			})
		}
	}
	return list
}

func slowKeys() (list []Scenario) {
	for _, n := range []int{10, 100} {
		for _, d := range []float64{1, 10, 100, 1000} {
			sc := Scenario{
				Name: fmt.Sprintf("N=%d 5/min, round robin, %g/s", n, d), N: n, Lim: limiter.Per(5, time.Minute),
				Load: Load{
					Dur: 10*time.Minute + 5*sec, Warm: time.Millisecond, Total: Stepped(0, d, 5*sec, time.Hour), Robin: true, Regular: true,
					Phases: []Phase{{"first minute", 5 * sec, 65 * sec}, {"ten minutes", 5 * sec, 605 * sec}},
				},
				Figures: []Figure{admittedIn("first minute"), admittedIn("ten minutes"), worst, exchanges},
			}
			if d <= 10 {
				sc.Figures[0] = sc.Figures[0].atMost(50)
				sc.Figures[1] = sc.Figures[1].within(-15, 15)
				sc.Fast = d == 1 && n == 10
			}
			list = append(list, sc)
		}
	}
	return list
}

func openCases() []Scenario {
	return []Scenario{
		{
			Name: "N=100 1/s b=5, 20/s", N: 100, Lim: perSecond(1, 5),
			Load:    Load{Dur: 30 * time.Minute, Warm: 2 * time.Minute, Total: Steady(20), Weight: Equal},
			Figures: []Figure{over, worst, spreads, centrally},
		},
		{
			Name: "N=100 1/s b=5, 200/s", N: 100, Lim: perSecond(1, 5),
			Load:    Load{Dur: 10 * time.Minute, Warm: 2 * time.Minute, Total: Steady(200), Weight: Equal},
			Figures: []Figure{over, worst, spreads, centrally},
		},
		{
			Name: "N=200 b=10, 2 r", N: 200, Lim: perSecond(1000, 10),
			Load:    Load{Dur: 40 * sec, Warm: 5 * sec, Total: Steady(2000), Weight: Equal},
			Figures: []Figure{over, worst, spreads, centrally},
		},
		{
			Name: "N=10 all costs b, 2 r", N: 10, Lim: busy,
			Load:    Load{Dur: 5 * time.Minute, Warm: 5 * sec, Total: Steady(20), Weight: Equal, Cost: func(*rand.Rand) int { return 100 }},
			Figures: []Figure{over, worst, spreads, centrally},
		},
		{
			Name: "N=100 all costs b, 2 r", N: 100, Lim: busy,
			Load:    Load{Dur: 5 * time.Minute, Warm: 5 * sec, Total: Steady(20), Weight: Equal, Cost: func(*rand.Rand) int { return 100 }},
			Figures: []Figure{over, worst, spreads, centrally},
		},
	}
}

func costs() (list []Scenario) {
	for _, n := range fleetSizes {
		list = append(list, Scenario{
			Name: fmt.Sprintf("N=%d all b/2, 2 r", n), N: n, Lim: busy,
			Load:    Load{Dur: 5 * time.Minute, Warm: 5 * sec, Total: Steady(40), Weight: Equal, Cost: func(*rand.Rand) int { return 50 }},
			Figures: []Figure{over.within(-1, 1), worst, spreads, centrally},
		}, Scenario{
			Name: fmt.Sprintf("N=%d 1 and b (1 %%), 2 r", n), N: n, Lim: busy,
			Load: Load{Dur: 5 * time.Minute, Warm: 5 * sec, Total: Steady(1000), Weight: Equal, Cost: func(r *rand.Rand) int {
				if r.IntN(100) == 0 {
					return 100
				}
				return 1
			}},
			Figures: []Figure{over.within(-1, 1), worst, spreads, centrally},
		})
	}
	return list
}

func farAway() (list []Scenario) {
	for _, trip := range []time.Duration{50, 200} {
		for _, T := range []time.Duration{100, 1000} {
			for _, n := range []int{10, 100} {
				for _, d := range []float64{0.9, 3} {
					list = append(list, Scenario{
						Name: fmt.Sprintf("N=%d %d ms away, T=%d ms, %g r", n, trip, T, d), N: n, Lim: busy,
						Cfg: limiter.Config{SyncInterval: T * time.Millisecond}, Path: simnet.Path{Trip: trip * time.Millisecond, Jitter: 0.1},
						Load:    Load{Dur: 60 * sec, Warm: 15 * sec, Total: Steady(d * 1000), Weight: Equal},
						Figures: []Figure{over, worst, falsely, exchanges},
					})
				}
			}
		}
	}
	for _, bad := range []struct {
		name string
		way  simnet.Path
	}{
		{"5 % of requests and of replies lost", simnet.Path{Trip: simnet.Near.Trip, LoseRequest: 0.05, LoseReply: 0.05, Timeout: 300 * time.Millisecond}},
		{"20 % of requests delivered twice", simnet.Path{Trip: simnet.Near.Trip, Duplicate: 0.2}},
		{"trip of 100 ms ± 90 %", simnet.Path{Trip: 100 * time.Millisecond, Jitter: 0.9}},
	} {
		list = append(list, Scenario{
			Name: "N=10 " + bad.name + ", 3 r", N: 10, Lim: busy, Path: bad.way,
			Load:    Load{Dur: 60 * sec, Warm: 15 * sec, Total: Steady(3000), Weight: Equal},
			Figures: []Figure{over, worst, falsely, exchanges},
		})
	}
	return list
}

func growing() (list []Scenario) {
	for _, n := range []int{1, 10, 100, 300, 1000} {
		for _, d := range []float64{0.9, 2} {
			list = append(list, Scenario{
				Name: fmt.Sprintf("N=%d %g r", n, d), N: n, Lim: busy,
				Load:    Load{Dur: 20 * sec, Warm: 5 * sec, Total: Steady(d * 1000), Weight: Equal},
				Figures: []Figure{over, worst, falsely, exchanges},
			})
		}
	}
	return list
}

// ablations returns the same runs without one mechanism each.
func ablations() (list []Scenario) {
	figures := []Figure{over, worst, falsely}
	bases := []Scenario{
		{Name: "N=10 2 r", N: 10, Lim: busy, Load: Load{Dur: 40 * sec, Warm: 5 * sec, Total: Steady(2000), Weight: Equal}},
		{Name: "N=100 10 r", N: 100, Lim: busy, Load: Load{Dur: 20 * sec, Warm: 5 * sec, Total: Steady(10000), Weight: Equal}},
		{Name: "N=100 1/s b=5, 20/s", N: 100, Lim: perSecond(1, 5), Load: Load{Dur: 10 * time.Minute, Warm: 2 * time.Minute, Total: Steady(20), Weight: Equal}},
		{Name: "N=50 b=r/100, 1.2 r", N: 50, Lim: perSecond(1000, 10), Load: Load{Dur: 40 * sec, Warm: 5 * sec, Total: Steady(1200), Weight: Equal}},
		{Name: "N=100 5/min, round robin, 10/s, from the first contact", N: 100, Lim: limiter.Per(5, time.Minute), Load: Load{Dur: 2 * time.Minute, Warm: time.Millisecond, Total: Stepped(0, 10, 5*sec, time.Hour), Robin: true, Regular: true}},
		{
			Name: "N=10 3 r, state wiped every 5 s", N: 10, Lim: perSecond(1000, 1000), Load: Load{Dur: 40 * sec, Warm: 5 * sec, Total: Steady(3000), Weight: Equal},
			During: func(f *Fleet) (list []Event) {
				for at := 10 * sec; at < 40*sec; at += 5 * sec {
					list = append(list, Event{at, f.State.Wipe})
				}
				return list
			},
		},
		{
			Name: "N=10 3 r 1/k, away for 10 of 40 s", N: 10, Lim: busy, Load: Load{Dur: 40 * sec, Warm: 5 * sec, Total: Steady(3000), Weight: Skewed},
			During: func(f *Fleet) []Event { return withoutRedis(f, 20*sec, 30*sec) },
		},
	}
	for i := range bases {
		base := bases[i]
		base.Figures = figures
		list = append(list, base)
		for _, m := range []struct {
			name string
			simnet.Mechanism
			outage.Rules
		}{{"shares", simnet.Shares, 0}, {"the random threshold", 0, outage.Threshold}, {"age", simnet.Ages, 0}, {"floors", simnet.Floors, 0}, {"news", simnet.News, 0}} {
			sc := base
			sc.Name, sc.Without, sc.Rules = "… without "+m.name, m.Mechanism, m.Rules
			list = append(list, sc)
		}
	}
	return list
}

// ruleAblations returns the situations for which there are rules, with the rule and
// without it.
func ruleAblations() (list []Scenario) {
	find := func(name string, groups ...[]Scenario) Scenario {
		all := slices.Concat(groups...)
		for i := range all {
			if all[i].Name == name {
				return all[i]
			}
		}
		panic("no scenario " + name)
	}
	outages, cuts, turns, browns := outages(), cuts(), inTurn(), brownouts()
	cases := []struct {
		rule string
		simnet.Mechanism
		outage.Rules
		base    Scenario
		figures []Figure
	}{
		{"savings", 0, outage.Saving, find("N=100 10s 0.9 r", outages), []Figure{admittedIn("outage")}},
		{"the drift", 0, outage.Drift, moved(), []Figure{admittedIn("then")}},
		{"the hold", 0, outage.Holding, find("N=10 10s 3 r 1/k", outages), []Figure{burstIn("after")}},
		{"the confidence that a load has stopped", 0, outage.Stop, stopped(), []Figure{admittedIn("outage")}},
		{"room for the silent", 0, outage.Room, find("N=10 cut off: half, 3 r", cuts), []Figure{admittedIn("first minute")}},
		{"regard to demand: room by heads", 0, outage.Moved, find("all 4 replaced at once, killed, 3 r", deploys()), []Figure{part("then, for a minute")}},
		{"regard to processes that were replaced", simnet.Newer, 0, find("4 replaced, killed after 15s in which old and new each ask for 3 r", deploys()), []Figure{part("then, for a minute")}},
		{"the demand of the lost", 0, outage.Absence, find("N=10, 5s apart", turns), []Figure{part("all without")}},
		{"the ceiling of late usage", simnet.Ceiling, 0, find("N=10 cut off: half, 3 r", cuts), []Figure{admittedIn("after")}},
		{"unused refill for late usage", simnet.Unused, 0, find("N=4 3 r, Redis answers for 0.3 s of each second", browns), []Figure{part("meanwhile")}},
		{"unused refill for late usage", simnet.Unused, 0, find("N=10 3 r, each packet late by 0 to 350ms for 45s", browns), []Figure{leastSecond("20 s after")}},
	}
	for i := range cases {
		tc := &cases[i]
		with := tc.base
		with.Name, with.Figures, with.Fast, with.Chart = with.Name+": with "+tc.rule, tc.figures, false, ""
		lacks := with
		lacks.Name, lacks.Without, lacks.Rules = "… without "+tc.rule, tc.Mechanism, tc.Rules
		list = append(list, with, lacks)
	}
	return list
}

// stopped is an outage that begins two minutes after a load of ten times the limit has
// stopped. The load returns during the outage.
func stopped() Scenario {
	const idle, begin = 2 * time.Minute, 20 * sec
	total := func(at time.Duration) float64 {
		if at >= begin && at < begin+idle {
			return 0
		}
		return 5
	}
	return Scenario{
		Name: "N=10 5/10s, idle for 2 minutes after 10 r, then away and 10 r again", N: 10, Lim: limiter.Per(5, 10*sec),
		Load: Load{
			Dur: begin + idle + 2*time.Minute, Total: total, Weight: Equal,
			Phases: []Phase{{"outage", begin + idle, begin + idle + 2*time.Minute}},
		},
		During: func(f *Fleet) []Event { return withoutRedis(f, begin+idle-10*sec, begin+idle+2*time.Minute) },
	}
}

// moved is an outage in which a load moves to a process that had one request in a
// thousand before it.
func moved() Scenario {
	return Scenario{
		Name: "N=2 3m moves to a nearly idle process, 3 r", N: 2, Lim: busy,
		Load: Load{
			Dur: 210 * sec, Warm: 5 * sec, Total: Steady(3000),
			Weight: func(process int, at time.Duration) float64 {
				if (process == 1) == (at >= 25*sec) {
					return 1
				}
				return 0.001
			},
			Phases: []Phase{{"then", 85 * sec, 200 * sec}},
		},
		During: func(f *Fleet) []Event { return withoutRedis(f, 20*sec, 200*sec) },
	}
}
