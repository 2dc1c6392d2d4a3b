package main

import (
	"fmt"
	"math"
)

// target is a figure that is to be reached: it is met where value is at most bound.
type target struct {
	what  string
	bound float64
	show  func(float64) string // bound and value
	value func(*page) float64  // NaN: not measured
	parts func(*page) string   // what the value was made of; nil: nothing
}

// row is a line of the table of targets.
type row struct{ What, Target, Measured, Met string }

// tolerance is what the rounding of the table hides.
const tolerance = 0.005

func (t target) row(p *page) row {
	r := row{What: t.what, Target: "≤ " + t.show(t.bound), Measured: "not measured", Met: "–"}
	value := t.value(p)
	if math.IsNaN(value) {
		return r
	}
	r.Measured, r.Met = t.show(value), "**no**"
	if t.parts != nil {
		r.Measured += ": " + t.parts(p)
	}
	if value <= t.bound*(1+tolerance) {
		r.Met = "yes"
	}
	return r
}

// targets are all of them, in the order of the page.
func targets() []target {
	const same = "the same, all cores"
	peer := []string{"go-limiter"}
	best := []string{"otter", "golang-lru", "sharded-lru"} // of those that are bounded
	return []target{
		ratio("one hot key, 1 goroutine, to `rate.Limiter`", 0.65, oneKey, one, bare),
		ratio(same, 0.75, oneKey, all, bare),
		ratio("10,000 keys, Zipf 1.1, 1 goroutine, to go-limiter", 0.85, fewKeys, one, peer...),
		ratio(same, 0.75, fewKeys, all, peer...),
		ratio("1,000,000 keys, uniform, 1 goroutine, to go-limiter", 0.6, manyKeys, one, peer...),
		ratio(same, 0.7, manyKeys, all, peer...),
		ratio("1,000,000 keys, uniform, 1 goroutine, to the best bounded peer", 0.4, manyKeys, one, best...),
		ratio(same, 0.4, manyKeys, all, best...),
		between("one hot key denied, 1 goroutine, to allowed", 1,
			figure(denied, ours, one, ns), figure(oneKey, ours, one, ns)),
		between(same, 1, figure(denied, ours, all, ns), figure(oneKey, ours, all, ns)),
		between("a key's handle, 1 goroutine, to `rate.Limiter`", 0.45,
			figure(handle, ours, one, ns), figure(oneKey, bare, one, ns)),
		between("99.99th percentile while 100,000 keys are exchanged, to without Redis", 2,
			figure(tail, ours, one, p9999), figure(tail, local, one, p9999)),
		atMost("allocations of a decision, resident key", 0, "", figure(fewKeys, ours, one, "allocs/op")),
		atMost("heap of a resident key of 13 bytes, exchanged with Redis", 288, " B", figure(manyKeys, ours, none, "B/key")),
		atMost("the same, without Redis", 288, " B", figure(manyKeys, local, none, "B/key")),
		ratio("first contact with a key at capacity, 1 goroutine, to golang-lru", 1, insert, one, "golang-lru"),
		ratio(same, 1, insert, all, "golang-lru"),
		ratio("full collection of garbage, 1,000,000 keys, to map + Mutex", 1.2, manyKeys, none, "map-mutex"),
		ofRedis(0, 25),
		ofRedis(1, 15),
		atMost("CPU of the process for each key of a round of 10,000", 2, " µs", figure(round, ours, "", "cpu-us/key")),
	}
}

// ratio compares ours with the fastest of some peers.
func ratio(what string, bound float64, bench, callers string, peers ...string) target {
	them := make([]series, len(peers))
	for i, name := range peers {
		them[i] = figure(bench, name, callers, ns)
	}
	return between(what, bound, figure(bench, ours, callers, ns), them...)
}

// between compares a figure with the smallest of others.
func between(what string, bound float64, us series, them ...series) target {
	least := func(p *page) float64 {
		v := p.results.median(them[0])
		for _, s := range them[1:] {
			v = min(v, p.results.median(s))
		}
		return v
	}
	return target{
		what: what, bound: bound,
		show:  func(v float64) string { return fmt.Sprintf("%.2f ×", v) },
		value: func(p *page) float64 { return p.results.median(us) / least(p) },
		parts: func(p *page) string { return duration(p.results.median(us)) + " to " + duration(least(p)) },
	}
}

func atMost(what string, bound float64, unit string, s series) target {
	return target{
		what: what, bound: bound,
		show:  func(v float64) string { return trimmed(v) + unit },
		value: func(p *page) float64 { return p.results.median(s) },
	}
}

// ofRedis is about Redis's CPU for a decision in a scenario: a fraction of
// redis_rate's that is at most one part of so many.
func ofRedis(scenario int, parts float64) target {
	return target{
		what:  "Redis's CPU for a decision, to redis_rate: " + scenarios[scenario].name,
		bound: 1 / parts,
		show:  func(v float64) string { return "1/" + trimmed(1/v) },
		value: func(p *page) float64 { return p.fleets[scenario].ratio() },
	}
}
