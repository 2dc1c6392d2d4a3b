package replay

import (
	"hash/fnv"
	"hash/maphash"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/logs"
)

// Config holds the limit, the fleet and the outage of a replay.
type Config struct {
	Limit     limiter.Limit
	MaxKeys   int             // largest number of entries in each table
	Processes int             // size of the fleet, from 1
	ByKey     bool            // true if all requests of a key reach the same process; otherwise they go round
	Outage    *Spell          // nil for none
	Suggest   []limiter.Limit // candidates whose denials are counted as well
}

// Replay computes the effect of a limit on one log.
type Replay struct {
	Config
	seed    maphash.Seed
	order   order
	zone    *time.Location
	east    int64 // nanoseconds by which the zone's clock is ahead of UTC
	whole   bool  // true if all times are whole seconds
	central *central
	fleet   *fleet  // nil for one process
	outage  *outage // nil without an outage, and before the first request
	family  *family // nil without candidates
	round   int     // requests that went round the processes
}

// New returns a replay without requests.
func New(c Config) *Replay {
	r := &Replay{Config: c, seed: maphash.MakeSeed(), whole: true, central: newCentral(c.Limit, c.MaxKeys)}
	if c.Processes > 1 {
		r.fleet = newFleet(c.Limit, c.Processes, c.MaxKeys)
	}
	if len(c.Suggest) > 0 {
		r.family = newFamily(c.Suggest, c.MaxKeys)
	}
	return r
}

// Add takes the next request of the log. It ignores a request without a key.
func (r *Replay) Add(e *logs.Entry) {
	if !e.HasKey {
		return
	}
	if !r.order.begun {
		r.begin(e)
	}
	now := r.order.at(e.At)
	r.whole = r.whole && e.Whole
	hash := r.hash(e.Key)
	before, ok := r.central.add(now, hash, e.Key)
	r.central.over.add(r.order.latest+r.east, ok)
	if r.fleet != nil || r.outage != nil {
		pair := hash + (1+r.process(e.Key))*apart
		if r.fleet != nil {
			r.fleet.add(now, pair)
		}
		if r.outage != nil {
			r.outage.add(now, hash, pair, before, ok)
		}
	}
	if r.family != nil {
		r.family.add(now, hash)
	}
}

// begin sets the time zone and the outage by the first request.
func (r *Replay) begin(e *logs.Entry) {
	r.zone, r.east = time.UTC, int64(e.Offset)*int64(time.Second)
	if e.Offset != 0 {
		r.zone = time.FixedZone("", e.Offset)
	}
	if r.Outage != nil {
		start := time.Unix(0, e.At).In(r.zone)
		from, to := r.Outage.in(start)
		r.outage = newOutage(r.Limit, r.Processes, r.MaxKeys, float64(from.Sub(start)), float64(to.Sub(start)))
	}
}

func (r *Replay) hash(key []byte) uint64 { return maphash.Bytes(r.seed, key) }

// apart is the distance between the hashes of a key's pairs: the pair with
// process i has
//
//	hash + (1+i)·apart
//
// Because the hash of a key is random, the sum is random, too.
const apart = 0x9e3779b97f4a7c15

// process returns the number of the process that a request reaches.
func (r *Replay) process(key []byte) uint64 {
	n := uint64(r.Processes)
	if r.ByKey {
		h := fnv.New64a() // without a seed: the same log gives the same result
		h.Write(key)
		return h.Sum64() % n
	}
	r.round++
	return uint64(r.round) % n
}

// central is a limiter with one bucket per key for the whole fleet.
type central struct {
	rule    rule
	keys    *table[tat]
	met     int // keys; one that returns after eviction counts again
	lost    losses
	denials *denials
	over    timeline

	requests, denied int
}

func newCentral(l limiter.Limit, most int) *central {
	c := &central{rule: ruleOf(l), denials: newDenials(most)}
	c.keys = newTable(most, func(t *tat) { c.lost.count(t.full(c.lost.now)) })
	return c
}

// add decides on a request, and returns the bucket before it with the decision.
func (c *central) add(now float64, hash uint64, key []byte) (before tat, ok bool) {
	c.lost.now = now
	t, isNew := c.keys.get(hash)
	count(&c.met, isNew)
	c.requests++
	before = *t
	if ok = c.rule.take(t, now); !ok {
		c.denied++
		c.denials.add(hash, key, now)
	}
	return before, ok
}
