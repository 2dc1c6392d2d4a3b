package main

import (
	"fmt"
	"math"
)

// target is a figure with a bound. It is met if value is at most bound.
type target struct {
	what  string
	bound float64
	show  func(float64) string // bound and value
	value func(*page) float64  // NaN: not measured
	parts func(*page) string   // the figures of which the value was computed; nil: none
}

// row is a line of the table of targets.
type row struct{ What, Target, Measured, Met string }

// tolerance is the rounding of the table.
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

// targets returns all targets, in the order of the page.
func targets() []target {
	const same = "the same, all cores"
	peer := []string{"go-limiter"}
	best := []string{"otter", "golang-lru", "sharded-lru"} // the fastest bounded ones
	return []target{
		ratio("one hot key, 1 goroutine, to `rate.Limiter`", 0.65, oneKey, one, bare),
		ratio(same, 0.62, oneKey, all, bare),
		between("one hot key denied, 1 goroutine, to allowed", 1,
			figure(denied, ours, one, ns), figure(oneKey, ours, one, ns)),
		between(same, 1, figure(denied, ours, all, ns), figure(oneKey, ours, all, ns)),
		between("a key's handle, 1 goroutine, to `rate.Limiter`", 0.45,
			figure(handle, ours, one, ns), figure(oneKey, bare, one, ns)),
		ratio("10,000 keys, Zipf 1.1, 1 goroutine, to go-limiter", 0.75, fewKeys, one, peer...),
		ratio(same, 0.50, fewKeys, all, peer...),
		ratio("the same with a million keys in memory, 1 goroutine", 0.85, amongAll, one, peer...),
		ratio(same, 0.60, amongAll, all, peer...),
		between("1,000,000 keys, uniform, without Redis, 1 goroutine, to go-limiter", 0.60,
			figure(manyKeys, local, one, ns), figure(manyKeys, peer[0], one, ns)),
		between(same, 0.45, figure(manyKeys, local, all, ns), figure(manyKeys, peer[0], all, ns)),
		ratio("1,000,000 keys, uniform, 1 goroutine, to go-limiter", 0.70, manyKeys, one, peer...),
		ratio(same, 0.55, manyKeys, all, peer...),
		ratio("1,000,000 keys, uniform, 1 goroutine, to the best bounded peer", 0.4, manyKeys, one, best...),
		ratio(same, 0.4, manyKeys, all, best...),
		between("99.99th percentile while 100,000 keys are exchanged, to without Redis", 2,
			figure(tail, ours, one, p9999), figure(tail, local, one, p9999)),
		atMost("slowest insertion while a shard grows to 2,048 keys", 200_000, " ns", figure(growth, ours, "", most)),
		atMost("allocations of a decision, key in memory", 0, "", figure(fewKeys, ours, one, "allocs/op")),
		atMost("heap of a key of 13 bytes, without Redis", 96, " B", figure(manyKeys, local, none, "B/key")),
		atMost("the same, exchanged with Redis, 1 % near their limits", 225, " B", figure(nearFew, ours, none, "B/key")),
		atMost("the same, all near their limits", 560, " B", figure(nearAll, ours, none, "B/key")),
		between("first contact with a key at capacity, without Redis, 1 goroutine, to golang-lru", 0.85,
			figure(insert, local, one, ns), figure(insert, "golang-lru", one, ns)),
		ratio("first contact with a key at capacity, 1 goroutine, to golang-lru", 1.5, insert, one, "golang-lru"),
		ratio(same, 1.5, insert, all, "golang-lru"),
		ratio("full GC, 1,000,000 keys, to map + Mutex", 0.15, manyKeys, none, "map-mutex"),
		ofRedis(0, 45),
		ofRedis(1, 22),
		atMost("CPU of the process for each key of a round of 10,000", 1.2, " µs", figure(round, ours, "", "cpu-us/key")),
	}
}

// ratio returns limiter's figure over that of the fastest of some peers.
func ratio(what string, bound float64, bench, callers string, peers ...string) target {
	them := make([]series, len(peers))
	for i, name := range peers {
		them[i] = figure(bench, name, callers, ns)
	}
	return between(what, bound, figure(bench, ours, callers, ns), them...)
}

// between returns a figure over the smallest of others.
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

// ofRedis returns a target for Redis's CPU for a decision in a scenario: at most a
// fraction of redis_rate's.
func ofRedis(scenario int, parts float64) target {
	return target{
		what:  "Redis's CPU for a decision, to redis_rate: " + scenarios[scenario].name,
		bound: 1 / parts,
		show:  func(v float64) string { return "1/" + trimmed(1/v) },
		value: func(p *page) float64 { return p.fleets[scenario].ratio() },
	}
}
