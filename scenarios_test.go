package limiter

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

var accuracyPage = flag.String("accuracy", "", "run every scenario, and write the page and its charts into this folder")

// group is scenarios that stand in one table.
type group struct {
	title     string
	intro     string
	scenarios []scenario
}

const sec = time.Second

func groups() []group {
	return []group{
		{"steady", "", steadyDemand()},
		{"small", "", smallBursts()},
		{"outage", "", outages()},
		{"cut", "", cuts()},
		{"rise", "", rises()},
		{"loss", "", losses()},
		{"wso2", "", saturated()},
		{"slow", "", slowKeys()},
		{"open", "", openCases()},
		{"costs", "", costs()},
		{"far", "", farAway()},
	}
}

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
					sc.figures[2] = falsely.atMost(0.2)
				}
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
				spellIn("after").atMost(float64(lim.Burst)/float64(lim.Rate) + 0.2),
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
					admittedIn("then").atMost(100*float64(tc.k)/float64(n) + 5),
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
			figures: []figure{over, worst.atMost(bound(n, 5000)), admittedIn("high"), settledAfter("the rise", 15*sec)},
		}, scenario{
			name: fmt.Sprintf("N=%d on/off 0.5/1.5 s, 10 r", n), n: n, lim: busy,
			load:    load{dur: 60 * sec, warm: 5 * sec, total: onOff(10000, 500*time.Millisecond, 2*sec), weight: equal},
			figures: []figure{over, worst.atMost(bound(n, 10000)), falsely},
		}, scenario{
			name: fmt.Sprintf("N=%d steps 0, 2 r, 0 of 5 s", n), n: n, lim: busy,
			load:    load{dur: 60 * sec, warm: 5 * sec, total: onOff(2000, 5*sec, 10*sec), weight: equal},
			figures: []figure{over, worst.atMost(bound(n, 2000)), falsely},
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
	return list
}
