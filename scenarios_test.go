package limiter

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

var accuracyFolder = flag.String("accuracy", "", "run every scenario, and write the page and its charts into this `folder`")

// group is scenarios that stand in one table.
type group struct {
	title     string
	intro     string
	scenarios []scenario
}

const sec = time.Second

func groups() []group {
	return []group{
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
	}
}

const (
	steadyIntro = "Demand d in multiples of the rate, the same at every process or falling with 1/k. Below the limit nothing is denied; above it the fleet\n" +
		"admits what one bucket would. Around the limit (d = 1) what scatters is a round's demand: the headroom before shares are kept to, and the\n" +
		"distance by which a charge is set back, halved the worst window, from 0.48 to 0.25 b. Where all traffic jumps from one process to another\n" +
		"every 5 s, the newcomer's share has to grow while the demand of the one before it fades with τ; a shorter τ makes steady shares rougher."
	smallIntro = "A burst below r·T is refilled before anybody can be told. A central bucket loses what comes while it is full; the fleet's buckets, told of\n" +
		"late, cannot know, so admission is above the central bucket's, though never above the rate, with windows of a few (small) bursts.\n" +
		"Charging at the time of arrival instead keeps windows to 1.5 b and starves: −22 % at N = 100, d = 1.2; half as far back −13 %."
	outageIntro = "Redis is away from 20 s on (120 s for slow keys). \"after\" is the 5 s from its return. Every process goes on with a share by its average\n" +
		"demand. An hour at a skewed 0.9 r was at −29 % while shares drifted to 1/N (the first rule): what a busy process gives up, the idle\n" +
		"ones don't use. Now only those below a quarter of an equal share are raised to it, so that all of them together exceed the limit by at most\n" +
		"25 %, and a process that was idle gets 0.25/N: where demand moves to it, most is denied. More for it and no more than 1.25 in total and an\n" +
		"hour of skewed demand within 5 % can't all be had: with 100 processes at 1/k the larger of their shares and 1/N sum to 1.49. Small shares\n" +
		"save up to 5 requests: without that a fleet of 100 at 0.9 r lost 18 % to the unevenness of few requests."
	cutIntro = "3 minutes from 20 s on. For the first minute the others leave room for those cut off; from then on the total may reach 1 + their shares.\n" +
		"What was then admitted beyond the limit is charged when they are back: that is the denial in \"after\", as long as the excess was."
	riseIntro = "The bound in the tables is that of the first design, min((N − 1)·b, D·(T + round trip)), which leaves out what the buckets refill (r·t each) in the 12 ms until the\n" +
		"first exchange, so that N = 2 passes it. The promise has it: min((N − 1)·(b + r·H), D·H), H = T + round trip. On/off load gains on the central bucket because\n" +
		"each rise's debt is repaid in the pause."
	lossIntro      = "The state is lost at 20 s (rolled back: to what it was at 15 s)."
	saturatedIntro = "1000/s saturated, burst 1000: WSO2 publish +13.1 % at an interval of 50 ms and +3.7 % at 10 ms (wso2/api-platform#2187)."
	slowIntro      = "5 per minute, burst 5, requests evenly spaced and dealt to the processes in turn, from a first contact on. At 1000/s a hundred processes meet the key\n" +
		"within 100 ms, before anybody could tell them; what that lets through is a debt and is repaid."
	costIntro = "All requests cost b/2; or one in a hundred costs b and the others 1. With costs of b/2 and two processes the fleet admits what the central bucket\n" +
		"wastes while it is full between two requests. In larger fleets each process asks about once a second: it saves up for one request, and every\n" +
		"word of a debt takes its part of that. Taking it only for debts of more than a burst gives −4 %, and costs slow keys their target (+56 % in the first minute)."
	openIntro = "Costs equal to the burst were under-served (0.69 to 0.89) by the first rules; slow keys over many processes kept a standing debt with windows of\n" +
		"+10 b. What helped: shares by long averages where requests are few, and saving up for the cost that is asked for. Against the central bucket\n" +
		"costs of b are now over-served, because it admits them at two thirds of its rate only; the fleet stays at the rate."
	farIntro    = "Round trip, jitter of 10 % of it, and T as given; the last rows lose requests or replies, or deliver requests twice."
	growthIntro = "One key of 1000/s. Exchanges are what Redis has to do for it: a key that every process asks for costs each of them one in a round, or, where the interval\n" +
		"has grown with the fleet (10,000 calls a second are the most), in that interval. From 333 processes on some may wake at one instant: such a run does not replay exactly."
	ablationIntro = "The same runs with one mechanism taken out (for shares: the naive delta synchronisation of other systems)."
)

var fleetSizes = []int{2, 10, 50, 100}

func steadyDemand() (list []scenario) {
	for _, n := range fleetSizes {
		for _, d := range []float64{0.5, 0.8, 0.9, 1, 1.2, 2, 5, 10, 20} {
			for _, skew := range []bool{false, true} {
				w, name := equal, "equal"
				if skew {
					w, name = skewed, "1/k"
				}
				sc := scenario{
					name: fmt.Sprintf("N=%d d=%g %s", n, d, name), n: n, lim: busy,
					load:    load{dur: 40 * sec, warm: 5 * sec, total: steady(d * 1000), weight: w},
					figures: []figure{over.within(-0.5, 0.5), worst.atMost(0.25), falsely, spreads, centrally, exchanges},
				}
				if d == 0.9 {
					sc.figures[2] = falsely.atMost(0.2).alone()
				}
				sc.fast = n == 10 && !skew && (d == 0.9 || d == 2 || d == 10)
				list = append(list, sc)
			}
		}
	}
	list = append(list, scenario{
		name: "N=10 d=3 jumping", n: 10, lim: busy,
		load:    load{dur: 60 * sec, warm: 5 * sec, total: steady(3000), weight: jumping},
		figures: []figure{over.within(-0.5, 0.5), worst.atMost(0.25), falsely, spreads, centrally, exchanges},
	})
	return list
}

func smallBursts() (list []scenario) {
	for _, n := range fleetSizes {
		for _, d := range []float64{0.9, 1.2, 2} {
			list = append(list, scenario{
				name: fmt.Sprintf("N=%d b=r/100 d=%g", n, d), n: n, lim: Limit{1000, 10},
				load:    load{dur: 40 * sec, warm: 5 * sec, total: steady(d * 1000), weight: equal},
				figures: []figure{over, worst, falsely, spreads, centrally, exchanges},
			})
		}
	}
	for _, lim := range []Limit{Per(5, time.Minute), {1, 5}, {10, 1}, {10, 10}, {100, 1000}, {1000, 10000}, {100000, 1000}, {1e6, 1e5}} {
		dur := 60 * sec
		if lim.Rate < 2 {
			dur = 30 * time.Minute
		}
		if lim.Rate >= 1e5 {
			dur = 5 * sec
		}
		list = append(list, scenario{
			name: fmt.Sprintf("N=10 d=2 %v", lim), n: 10, lim: lim,
			load:    load{dur: dur, warm: dur / 5, total: steady(2 * float64(lim.Rate)), weight: equal},
			figures: []figure{over, worst, falsely, spreads, centrally, exchanges},
		})
	}
	return list
}

func outage(f *fleet, from, to time.Duration) []event {
	return []event{
		{from, func() { f.down.Store(true) }},
		{to, func() { f.down.Store(false) }},
	}
}

func outages() (list []scenario) {
	out := func(name string, n int, lim Limit, away time.Duration, total func(time.Duration) float64, w func(int, time.Duration) float64, least, most float64) {
		begin := 20 * sec
		if lim.Rate < 10 {
			begin = 120 * sec
		}
		after := 5 * sec
		list = append(list, scenario{
			name: fmt.Sprintf("N=%d %v %s", n, away, name), n: n, lim: lim,
			load: load{
				dur: begin + away + 2*after, warm: 5 * sec, total: total, weight: w,
				phases: []phase{{"outage", begin, begin + away}, {"after", begin + away, begin + away + after}},
			},
			during: func(f *fleet) []event { return outage(f, begin, begin+away) },
			figures: []figure{
				admittedIn("outage").within(least, most), burstIn("outage"),
				admittedIn("after"), burstIn("after").atMost(0.25),
				spellIn("after").atMost(math.Round(100*float64(lim.Burst)/float64(lim.Rate)+20) / 100),
			},
		})
	}
	for _, n := range fleetSizes {
		for _, away := range []time.Duration{10 * sec, time.Minute} {
			out("0.5 r", n, busy, away, steady(500), equal, -5, 3)
			out("0.9 r", n, busy, away, steady(900), equal, -5, 3)
			out("3 r 1/k", n, busy, away, steady(3000), skewed, -5, 3)
			out("10 r", n, busy, away, steady(10000), equal, -5, 3)
		}
	}
	out("3 r 1/k", 10, busy, time.Hour, steady(3000), skewed, -5, 3)
	out("0.9 r", 10, busy, time.Hour, steady(900), skewed, -5, 3)
	out("20 r", 100, Limit{1, 5}, time.Minute, steady(20), equal, -5, 3)
	out("2 r", 100, Limit{1, 5}, 5*time.Minute, steady(2), equal, -5, 3)
	for _, n := range []int{50, 100} {
		out("0.5 r then 5 r", n, busy, 10*sec, stepped(500, 5000, 25*sec, time.Hour), equal, -10, 10)
	}
	for _, away := range []time.Duration{10 * sec, time.Minute} {
		out("0.5 r then 5 r", 10, busy, away, stepped(500, 5000, 25*sec, time.Hour), equal, -10, 10)
		out("5 r then 0.5 r", 10, busy, away, stepped(5000, 500, 25*sec, time.Hour), equal, -10, 10)
	}
	out("on/off 0.5/1.5 s, 10 r", 10, busy, 10*sec, onOff(10000, 500*time.Millisecond, 2*sec), equal, -5, 3)
	list[len(list)-1].figures = list[len(list)-1].figures[:4] // the longest spell is the load's own
	moved := func(process int, at time.Duration) float64 {
		if (process == 9) == (at >= 25*sec) {
			return 1
		}
		return 0
	}
	list = append(list, scenario{
		name: "N=10 3m moves to an idle process, 3 r", n: 10, lim: busy,
		load: load{
			dur: 210 * sec, warm: 5 * sec, total: steady(3000), weight: moved,
			phases: []phase{{"first minute", 25 * sec, 85 * sec}, {"then", 85 * sec, 200 * sec}},
		},
		during:  func(f *fleet) []event { return outage(f, 20*sec, 200*sec) },
		figures: []figure{admittedIn("first minute"), admittedIn("then")},
	})
	for _, visited := range []time.Duration{20 * sec, 100 * sec} {
		list = append(list, scenario{
			name: fmt.Sprintf("N=10 10s equal after %v of jumping, 3 r", visited), n: 10, lim: busy,
			load: load{
				dur: visited + 15*sec, warm: 5 * sec, total: steady(3000),
				weight: func(process int, at time.Duration) float64 {
					if at < visited {
						return jumping(process, at)
					}
					return 1
				},
				phases: []phase{{"outage", visited, visited + 10*sec}, {"after", visited + 10*sec, visited + 15*sec}},
			},
			during:  func(f *fleet) []event { return outage(f, visited, visited+10*sec) },
			figures: []figure{admittedIn("outage").within(-10, 25), burstIn("outage"), admittedIn("after"), burstIn("after").atMost(0.25), spellIn("after").atMost(0.3)},
		})
	}
	b5 := Per(5, time.Minute)
	list = append(list, scenario{
		name: "N=200 full buckets 5/min", n: 200, lim: b5,
		load: load{
			dur: 12 * time.Minute, total: stepped(0, 10, 30*sec, time.Hour), weight: equal,
			phases: []phase{{"outage", 30 * sec, 630 * sec}},
		},
		during:  func(f *fleet) []event { return outage(f, 20*sec, 630*sec) },
		figures: []figure{admittedIn("outage").within(-10, 25), burstIn("outage")},
	})
	for i := range list {
		switch list[i].name {
		case "N=10 10s 3 r 1/k":
			list[i].fast = true
		case "N=10 10s 0.5 r then 5 r":
			list[i].chart = "accuracy-outage-rise.svg"
		case "N=10 1m0s 3 r 1/k":
			list[i].chart = "accuracy-outage.svg"
		}
	}
	return list
}

func cuts() (list []scenario) {
	for _, n := range fleetSizes {
		for _, tc := range []struct {
			part string
			k    int
			d    float64
		}{{"1", 1, 3}, {"half", n / 2, 3}, {"all but 1", n - 1, 3}, {"all but 1", n - 1, 20}} {
			list = append(list, scenario{
				name: fmt.Sprintf("N=%d cut off: %s, %g r", n, tc.part, tc.d), n: n, lim: busy,
				load: load{
					dur: 3*time.Minute + 30*sec, warm: 5 * sec, total: steady(tc.d * 1000), weight: equal,
					phases: []phase{{"first minute", 20 * sec, 80 * sec}, {"then", 100 * sec, 200 * sec}, {"after", 200 * sec, 205 * sec}},
				},
				during: func(f *fleet) []event {
					return []event{{20 * sec, f.cutOff(true, f.members[:tc.k]...)}, {200 * sec, f.cutOff(false, f.members[:tc.k]...)}}
				},
				figures: []figure{
					admittedIn("first minute").within(-5, 5), burstIn("first minute"),
					admittedIn("then").atMost(100*float64(tc.k)/float64(n) + 5).alone(),
					admittedIn("after"), spellIn("after"),
				},
			})
		}
	}
	list = append(list, scenario{
		name: "N=20 rolling cuts of 5 s, 3 r", n: 20, lim: busy,
		load: load{dur: 125 * sec, warm: 5 * sec, total: steady(3000), weight: equal, phases: []phase{{"first minute", 20 * sec, 80 * sec}}},
		during: func(f *fleet) (list []event) {
			for i := range 20 {
				at := 20*sec + time.Duration(i)*5*sec
				list = append(list, event{at, f.cutOff(true, f.members[i])}, event{at + 5*sec, f.cutOff(false, f.members[i])})
			}
			return list
		},
		figures: []figure{admittedIn("first minute").within(-5, 5), over.within(-5, 5), worst},
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
		sc := scenario{
			name: "N=4 " + name + " of 1, 3 r", n: 4, lim: busy,
			load: load{dur: 120 * sec, warm: 5 * sec, total: steady(3000), weight: gone, phases: []phase{{"first minute", 20 * sec, 80 * sec}, {"then", 85 * sec, 120 * sec}}},
			during: func(f *fleet) []event {
				return []event{{20 * sec, func() {
					f.members[3].cut.Store(!clean)
					if clean {
						_ = f.members[3].Close()
					}
				}}}
			},
			figures: []figure{admittedIn("first minute").within(-26, 1), admittedIn("then").within(-1, 1)},
		}
		if clean {
			sc.figures[0] = admittedIn("first minute").within(-1, 1)
		}
		list = append(list, sc)
	}
	return list
}

func rises() (list []scenario) {
	bound := func(n int, high float64) float64 {
		return min(float64(n-1)*float64(busy.Burst), high*0.102) / float64(busy.Burst)
	}
	for _, n := range fleetSizes {
		list = append(list, scenario{
			name: fmt.Sprintf("N=%d 0.5 r → 5 r → 0.5 r", n), n: n, lim: busy,
			load:    load{dur: 40 * sec, warm: 5 * sec, total: stepped(500, 5000, 15*sec, 25*sec), weight: equal, phases: []phase{{"high", 15 * sec, 25 * sec}}},
			figures: []figure{over, worst.atMost(bound(n, 5000)).alone(), admittedIn("high"), settledAfter("the rise", 15*sec)},
		}, scenario{
			name: fmt.Sprintf("N=%d on/off 0.5/1.5 s, 10 r", n), n: n, lim: busy,
			load:    load{dur: 60 * sec, warm: 5 * sec, total: onOff(10000, 500*time.Millisecond, 2*sec), weight: equal},
			figures: []figure{over, worst.atMost(bound(n, 10000)).alone(), falsely},
		}, scenario{
			name: fmt.Sprintf("N=%d steps 0, 2 r, 0 of 5 s", n), n: n, lim: busy,
			load:    load{dur: 60 * sec, warm: 5 * sec, total: onOff(2000, 5*sec, 10*sec), weight: equal},
			figures: []figure{over, worst.atMost(bound(n, 2000)).alone(), falsely},
		})
	}
	return list
}

func losses() (list []scenario) {
	for _, n := range fleetSizes {
		for _, d := range []float64{0.9, 3} {
			list = append(list, scenario{
				name: fmt.Sprintf("N=%d wiped, %g r 1/k", n, d), n: n, lim: busy,
				load:    load{dur: 35 * sec, warm: 5 * sec, total: steady(d * 1000), weight: skewed, phases: []phase{{"second after", 20 * sec, 21 * sec}}},
				during:  func(f *fleet) []event { return []event{{20 * sec, f.state.Wipe}} },
				figures: []figure{over.within(-0.5, 0.5), worst, admittedIn("second after"), settledAfter("the wipe", 20*sec)},
			}, scenario{
				name: fmt.Sprintf("N=%d rolled back by 5 s, %g r 1/k", n, d), n: n, lim: busy,
				load: load{dur: 35 * sec, warm: 5 * sec, total: steady(d * 1000), weight: skewed, phases: []phase{{"second after", 20 * sec, 21 * sec}}},
				during: func(f *fleet) []event {
					var old exchange.Snapshot
					return []event{{15 * sec, func() { old = f.state.Snapshot() }}, {20 * sec, func() { f.state.Restore(old) }}}
				},
				figures: []figure{over.within(-0.5, 0.5), worst, admittedIn("second after"), settledAfter("the loss", 20*sec)},
			})
		}
	}
	return list
}

func saturated() (list []scenario) {
	for _, n := range []int{3, 4} {
		for _, T := range []time.Duration{10, 50, 100} {
			T *= time.Millisecond
			list = append(list, scenario{
				name: fmt.Sprintf("N=%d T=%v, 1000/s saturated (4 r)", n, T), n: n, lim: Limit{1000, 1000}, cfg: Config{SyncInterval: T},
				load:    load{dur: 60 * sec, warm: 5 * sec, total: steady(4000), weight: equal},
				figures: []figure{over.within(-0.5, 0.5), worst, exchanges},
				fast:    n == 3,
			})
		}
	}
	return list
}

func slowKeys() (list []scenario) {
	for _, n := range []int{10, 100} {
		for _, d := range []float64{1, 10, 100, 1000} {
			sc := scenario{
				name: fmt.Sprintf("N=%d 5/min, round robin, %g/s", n, d), n: n, lim: Per(5, time.Minute),
				load: load{
					dur: 10*time.Minute + 5*sec, warm: time.Millisecond, total: stepped(0, d, 5*sec, time.Hour), robin: true, regular: true,
					phases: []phase{{"first minute", 5 * sec, 65 * sec}, {"ten minutes", 5 * sec, 605 * sec}},
				},
				figures: []figure{admittedIn("first minute"), admittedIn("ten minutes"), worst, exchanges},
			}
			if d <= 10 {
				sc.figures[0] = sc.figures[0].atMost(50)
				sc.figures[1] = sc.figures[1].within(-15, 15)
				sc.fast = d == 10 && n == 10
			}
			list = append(list, sc)
		}
	}
	return list
}

func openCases() []scenario {
	return []scenario{
		{
			name: "N=100 1/s b=5, 20/s", n: 100, lim: Limit{1, 5},
			load:    load{dur: 30 * time.Minute, warm: 2 * time.Minute, total: steady(20), weight: equal},
			figures: []figure{over, worst, spreads, centrally},
		},
		{
			name: "N=100 1/s b=5, 200/s", n: 100, lim: Limit{1, 5},
			load:    load{dur: 10 * time.Minute, warm: 2 * time.Minute, total: steady(200), weight: equal},
			figures: []figure{over, worst, spreads, centrally},
		},
		{
			name: "N=200 b=10, 2 r", n: 200, lim: Limit{1000, 10},
			load:    load{dur: 40 * sec, warm: 5 * sec, total: steady(2000), weight: equal},
			figures: []figure{over, worst, spreads, centrally},
		},
		{
			name: "N=10 all costs b, 2 r", n: 10, lim: busy,
			load:    load{dur: 5 * time.Minute, warm: 5 * sec, total: steady(20), weight: equal, cost: func(*rand.Rand) int { return 100 }},
			figures: []figure{over, worst, spreads, centrally},
		},
		{
			name: "N=100 all costs b, 2 r", n: 100, lim: busy,
			load:    load{dur: 5 * time.Minute, warm: 5 * sec, total: steady(20), weight: equal, cost: func(*rand.Rand) int { return 100 }},
			figures: []figure{over, worst, spreads, centrally},
		},
	}
}

func costs() (list []scenario) {
	for _, n := range fleetSizes {
		list = append(list, scenario{
			name: fmt.Sprintf("N=%d all b/2, 2 r", n), n: n, lim: busy,
			load:    load{dur: 5 * time.Minute, warm: 5 * sec, total: steady(40), weight: equal, cost: func(*rand.Rand) int { return 50 }},
			figures: []figure{over.within(-1, 1), worst, spreads, centrally},
		}, scenario{
			name: fmt.Sprintf("N=%d 1 and b (1 %%), 2 r", n), n: n, lim: busy,
			load: load{dur: 5 * time.Minute, warm: 5 * sec, total: steady(1000), weight: equal, cost: func(r *rand.Rand) int {
				if r.IntN(100) == 0 {
					return 100
				}
				return 1
			}},
			figures: []figure{over.within(-1, 1), worst, spreads, centrally},
		})
	}
	return list
}

func farAway() (list []scenario) {
	for _, trip := range []time.Duration{50, 200} {
		for _, T := range []time.Duration{100, 1000} {
			for _, n := range []int{10, 100} {
				for _, d := range []float64{0.9, 3} {
					list = append(list, scenario{
						name: fmt.Sprintf("N=%d %d ms away, T=%d ms, %g r", n, trip, T, d), n: n, lim: busy,
						cfg: Config{SyncInterval: T * time.Millisecond}, path: path{trip: trip * time.Millisecond, jitter: 0.1},
						load:    load{dur: 60 * sec, warm: 15 * sec, total: steady(d * 1000), weight: equal},
						figures: []figure{over, worst, falsely, exchanges},
					})
				}
			}
		}
	}
	for _, bad := range []struct {
		name string
		way  path
	}{
		{"5 % of requests and of replies lost", path{trip: near.trip, loseAsk: 0.05, loseAns: 0.05, timeout: 300 * time.Millisecond}},
		{"20 % of requests delivered twice", path{trip: near.trip, twice: 0.2}},
		{"trip of 100 ms ± 90 %", path{trip: 100 * time.Millisecond, jitter: 0.9}},
	} {
		list = append(list, scenario{
			name: "N=10 " + bad.name + ", 3 r", n: 10, lim: busy, path: bad.way,
			load:    load{dur: 60 * sec, warm: 15 * sec, total: steady(3000), weight: equal},
			figures: []figure{over, worst, falsely, exchanges},
		})
	}
	return list
}

// ablations are the same runs without one mechanism each.
func growing() (list []scenario) {
	for _, n := range []int{1, 10, 100, 300, 1000} {
		for _, d := range []float64{0.9, 2} {
			list = append(list, scenario{
				name: fmt.Sprintf("N=%d %g r", n, d), n: n, lim: busy,
				load:    load{dur: 20 * sec, warm: 5 * sec, total: steady(d * 1000), weight: equal},
				figures: []figure{over, worst, falsely, exchanges},
			})
		}
	}
	return list
}

func ablations() (list []scenario) {
	figures := []figure{over, worst, falsely}
	bases := []scenario{
		{name: "N=10 2 r", n: 10, lim: busy, load: load{dur: 40 * sec, warm: 5 * sec, total: steady(2000), weight: equal}},
		{name: "N=100 10 r", n: 100, lim: busy, load: load{dur: 20 * sec, warm: 5 * sec, total: steady(10000), weight: equal}},
		{name: "N=100 1/s b=5, 20/s", n: 100, lim: Limit{1, 5}, load: load{dur: 10 * time.Minute, warm: 2 * time.Minute, total: steady(20), weight: equal}},
		{name: "N=50 b=r/100, 1.2 r", n: 50, lim: Limit{1000, 10}, load: load{dur: 40 * sec, warm: 5 * sec, total: steady(1200), weight: equal}},
		{name: "N=100 5/min, round robin, 10/s, from the first contact", n: 100, lim: Per(5, time.Minute), load: load{dur: 2 * time.Minute, warm: time.Millisecond, total: stepped(0, 10, 5*sec, time.Hour), robin: true, regular: true}},
		{
			name: "N=10 3 r, state wiped every 5 s", n: 10, lim: Limit{1000, 1000}, load: load{dur: 40 * sec, warm: 5 * sec, total: steady(3000), weight: equal},
			during: func(f *fleet) (list []event) {
				for at := 10 * sec; at < 40*sec; at += 5 * sec {
					list = append(list, event{at, f.state.Wipe})
				}
				return list
			},
		},
		{
			name: "N=10 3 r 1/k, away for 10 of 40 s", n: 10, lim: busy, load: load{dur: 40 * sec, warm: 5 * sec, total: steady(3000), weight: skewed},
			during: func(f *fleet) []event { return outage(f, 20*sec, 30*sec) },
		},
	}
	for _, base := range bases {
		base.figures = figures
		list = append(list, base)
		for _, m := range []struct {
			name string
			mechanism
		}{{"shares", shares}, {"the random threshold", threshold}, {"age", ages}, {"floors", floors}, {"news", newsOfKeys}} {
			sc := base
			sc.name, sc.without = "… without "+m.name, m.mechanism
			list = append(list, sc)
		}
	}
	return list
}
