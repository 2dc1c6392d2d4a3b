package main

import (
	"regexp"
	"slices"
	"strings"
)

// peer is a limiter of the page.
type peer struct {
	Name   string // in the names of benchmarks
	Label  string
	module string // module whose version is on the page
	Bound  string // the bound of its memory
	often  bool   // true if a target depends on its figures over a million keys
}

// Names of benchmarks, up to the subject.
const (
	oneKey   = "Allow/keys=1"
	fewKeys  = "Allow/keys=1e4/dist=zipf"
	manyKeys = "Allow/keys=1e6/dist=uniform"
	amongAll = "Allow/keys=1e4/resident=1e6/dist=zipf"
	nearFew  = "Near/near=1_%"
	nearAll  = "Near/near=all"
	growth   = "Growth/keys=2048"
	denied   = "Deny/keys=1"
	handle   = "Key/keys=1"
	insert   = "Insert/keys=65536"
	tail     = "Tail/keys=1e5"
	round    = "Round/keys=1e4"
	harness  = "Harness"
	inRedis  = "Redis/keys=1e4/dist=zipf"
)

// The callers, which follow the subject in names.
const (
	one  = "1"
	all  = "all"
	many = "16-a-core"
	none = "none" // a GC
)

// Units.
const (
	ns    = "ns/op"
	p9999 = "p99.99-ns"
	most  = "slowest-ns"
)

// peers decide in the process.
var peers = []peer{
	{Name: "limiter", Label: "**limiter**, exchanging with Redis", Bound: "LRU", often: true},
	{Name: "limiter-local", Label: "**limiter**, without Redis", Bound: "LRU"},
	{Name: "x-time-rate", Label: "one `rate.Limiter`, no keys", module: "golang.org/x/time", Bound: "one limit"},
	{Name: "map-mutex", Label: "map + Mutex + `rate.Limiter`", module: "golang.org/x/time", Bound: "nothing", often: true},
	{Name: "sync-map", Label: "sync.Map + `rate.Limiter`", module: "golang.org/x/time", Bound: "nothing"},
	{Name: "go-limiter", Label: "go-limiter memorystore", module: "github.com/sethvargo/go-limiter", Bound: "time unused", often: true},
	{Name: "throttled-map", Label: "throttled memstore, map", module: "github.com/throttled/throttled/v2", Bound: "nothing"},
	{Name: "throttled-lru", Label: "throttled memstore, LRU", module: "github.com/throttled/throttled/v2", Bound: "LRU"},
	{Name: "golang-lru", Label: "golang-lru + `rate.Limiter`", module: "github.com/hashicorp/golang-lru/v2", Bound: "LRU", often: true},
	{Name: "sharded-lru", Label: "64 × (Mutex + simplelru) + `rate.Limiter`", module: "github.com/hashicorp/golang-lru/v2", Bound: "LRU", often: true},
	{Name: "otter", Label: "otter + `rate.Limiter`", module: "github.com/maypok86/otter/v2", Bound: "W-TinyLFU", often: true},
	{Name: "ulule", Label: "ulule/limiter memory store", module: "github.com/ulule/limiter/v3", Bound: "time unused"},
	{Name: "tollbooth", Label: "tollbooth", module: "github.com/didip/tollbooth/v8", Bound: "time unused"},
	{Name: "httprate", Label: "chi httprate", module: "github.com/go-chi/httprate", Bound: "two windows"},
}

// redisPeers call Redis at every decision.
var redisPeers = []peer{
	{Name: "redis_rate", Label: "redis_rate", module: "github.com/go-redis/redis_rate/v10"},
	{Name: "throttled", Label: "throttled, go-redis store", module: "github.com/throttled/throttled/v2"},
	{Name: "ulule", Label: "ulule/limiter, Redis store", module: "github.com/ulule/limiter/v3"},
	{Name: "go-limiter", Label: "go-limiter, redisstore", module: "github.com/sethvargo/go-redisstore"},
	{Name: "go-zero-token", Label: "go-zero TokenLimiter", module: "github.com/zeromicro/go-zero"},
	{Name: "go-zero-period", Label: "go-zero PeriodLimit", module: "github.com/zeromicro/go-zero"},
}

// Names of subjects.
const (
	ours      = "limiter"
	local     = "limiter-local"
	clock     = "clock" // no limiter: the noise of the machine
	bare      = "x-time-rate"
	redisRate = "redis_rate"
)

// Keyed reports whether the peer has a limit per key.
func (p peer) Keyed() bool { return p.Name != bare }

// Bounded reports whether the peer has a largest number of keys.
func (p peer) Bounded() bool { return p.Bound == "LRU" || p.Bound == "W-TinyLFU" }

// job is one run of the compiled benchmarks: those of one subject in one case.
type job struct {
	bench string // the elements of the name that all its benchmarks share
	every int    // turns per run
	time  string // for -test.benchtime; empty: usualTime
}

// by returns the name of the benchmarks of one subject.
func by(bench, subject string) string { return bench + "/by=" + subject }

// figure is a series of one subject; callers may be empty.
func figure(bench, subject, callers, unit string) series {
	name := by(bench, subject)
	if callers != "" {
		name += "/callers=" + callers
	}
	return series{name, unit}
}

// seldom is the number of turns per run of a case that takes seconds to set up, if no
// target depends on it.
const seldom = 3

// plan returns all jobs.
func plan() []job {
	jobs := []job{
		{bench: harness, every: 1},
		{bench: by(tail, ours), every: 1, time: "1s"},
		{bench: by(tail, local), every: 1, time: "1s"},
		{bench: by(tail, clock), every: 1, time: "1s"},
		{bench: by(round, ours), every: 1},
		{bench: by(handle, ours), every: 1},
		{bench: by(growth, ours), every: 1},
		{bench: by(nearFew, ours), every: seldom},
		{bench: by(nearAll, ours), every: seldom},
	}
	for _, subject := range []string{ours, local, "go-limiter"} {
		jobs = append(jobs, job{bench: by(amongAll, subject), every: 1})
	}
	for _, p := range peers {
		jobs = append(jobs, jobsOf(p)...)
	}
	for _, p := range redisPeers {
		jobs = append(jobs, job{bench: by(inRedis, p.Name), every: 1, time: "200ms"})
	}
	return jobs
}

func jobsOf(p peer) []job {
	jobs := []job{{bench: by(oneKey, p.Name), every: 1}, {bench: by(denied, p.Name), every: 1}}
	if p.Keyed() {
		jobs = append(jobs, job{bench: by(fewKeys, p.Name), every: 1}, manyKeysJob(p))
	}
	if p.Bounded() {
		jobs = append(jobs, job{bench: by(insert, p.Name), every: 1})
	}
	return jobs
}

func manyKeysJob(p peer) job {
	j := job{bench: by(manyKeys, p.Name), every: seldom}
	if p.often {
		j.every = 1
	}
	return j
}

// planned reports whether a job runs a benchmark.
func planned(bench string) bool {
	return slices.ContainsFunc(plan(), func(j job) bool { return strings.HasPrefix(j.bench, bench+"/by=") })
}

// pattern returns a job's pattern for -test.bench.
func (j job) pattern() string {
	parts := strings.Split("Benchmark"+j.bench, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// inTurn returns the jobs of turn i, counted from 0.
func inTurn(jobs []job, i int) []job {
	return slices.DeleteFunc(slices.Clone(jobs), func(j job) bool { return i%j.every != 0 })
}
