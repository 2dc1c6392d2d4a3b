// Package delivery applies each report to the shared state once, through calls that
// may fail, hang, or succeed without an answer. It numbers reports, keeps them until
// they are answered, and retries failed ones with back-off. It also records which
// partitions answer. It is pure, except for the random numbers of its back-off: its
// user makes the calls (docs/design.md §4, Once; §6, Return).
package delivery

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

const (
	maxLanes     = 8 // reports of one partition that may be under way at once
	maxProbes    = 4 // failed partitions that one probe tries
	backoffLeast = 100 * time.Millisecond
	backoffMost  = 500 * time.Millisecond
	jitter       = 0.2            // of the back-off, so that a fleet does not return at once
	keepAlive    = time.Minute    // interval of reports on a lane without traffic, so that it detects a loss
	forget       = 23 * time.Hour // age of a report that is given up: Redis forgets numbers after 24 h
	failWeight   = 1. / 6         // weight of the newest batch in the mean of failing calls
	failsMost    = 0.6            // mean above which a process is degraded,
	failsLeast   = 0.4            // and below which it no longer is
	skew         = time.Second    // lead of a Redis clock, over this process's, that shows a loss of state
)

// destination is a partition, or the fleet's own key.
type destination[T any] struct {
	failed  bool      // true if the last call has failed
	stale   bool      // true if its grants can't be renewed
	okAt    mono.Time // instant of the last answer; 0: none yet
	sentAt  mono.Time // instant at which the last call under way was sent; 0: none is
	clock   int64     // Redis's clock in the last answer, microseconds; 0: unknown
	clockAt mono.Time // instant at which the call with that answer was sent
	expires int64     // time at which all that it holds expires, by its clock in the last answer
	emptied mono.Time // instant at which it was found expired
	sweepAt mono.Time // instant from which to call so that expired states are swept; 0: not known
	lanes   []*lane[T]
	filling *Report[T]
}

func (p *destination[T]) overdue(now mono.Time, limit time.Duration) bool {
	return p.sentAt != 0 && now.Sub(p.sentAt) > limit
}

// end notes that a call on a lane has ended.
func (p *destination[T]) end(l *lane[T]) {
	l.calling = false
	if !slices.ContainsFunc(p.lanes, func(l *lane[T]) bool { return l.calling }) {
		p.sentAt = 0
	}
}

func (p *destination[T]) usable() bool { return !p.failed && !p.stale }

// Courier delivers the reports of one process. T is the type of the value that its
// user keeps beside each record.
type Courier[T any] struct {
	process    [8]byte
	tau        time.Duration
	random     *rand.Rand
	parts      []destination[T]
	fleet      destination[T]
	nextProbe  mono.Time
	attempts   int // probes in a row in which everything failed
	lastProbed int
	failing    float64 // running mean of the part of calls that fail
	degraded   bool    // see Degraded
	wary       bool    // true if a call on the fleet's key has failed
	checkAll   bool    // true if all lanes report in the next round

	Members float64 // processes of the fleet, which share the calls for sweeps
}

// New returns a courier without any answer yet.
func New[T any](partitions int, process [8]byte, tau time.Duration, random *rand.Rand) *Courier[T] {
	c := &Courier[T]{process: process, tau: tau, random: random, parts: make([]destination[T], partitions), Members: 1}
	for i := range c.parts {
		c.parts[i].stale = true
	}
	c.fleet.failed = true
	return c
}

// Batch is one call of the store.
type Batch[T any] struct {
	Fleet  *exchange.FleetCall
	Chunks []*exchange.Chunk
	Probe  bool // true if it is for destinations that had failed
	Sent   mono.Time
	lanes  []*lane[T]
}

// Empty reports whether there is nothing to send.
func (b *Batch[T]) Empty() bool { return b.Fleet == nil && len(b.Chunks) == 0 }

// LastAnswer returns the instant of the last answer; 0: none yet.
func (c *Courier[T]) LastAnswer() mono.Time {
	at := c.fleet.okAt
	for i := range c.parts {
		at = max(at, c.parts[i].okAt)
	}
	return at
}

// FleetAnswers reports whether the last call on the fleet's key succeeded.
func (c *Courier[T]) FleetAnswers() bool { return !c.fleet.failed }

// Failing reports whether any destination has failed and is to be tried again.
func (c *Courier[T]) Failing() bool {
	failing := c.fleet.failed
	for i := range c.parts {
		failing = failing || c.parts[i].failed
	}
	return failing
}

// UpdateStaleness finds the partitions whose grants can't be renewed. Their last
// exchange failed, or has been under way for longer than limit. Or there was none for
// as long, and the fleet's own key does not answer either. A partition is never stale
// only because no exchange was due.
func (c *Courier[T]) UpdateStaleness(now mono.Time, limit time.Duration) {
	gone := c.fleet.failed || c.fleet.overdue(now, limit)
	for i := range c.parts {
		p := &c.parts[i]
		silent := p.okAt == 0 || now.Sub(p.okAt) > limit
		p.stale = p.failed || p.overdue(now, limit) || gone && silent
	}
}

// Stale reports whether the grants of a partition can't be renewed, by the last
// UpdateStaleness.
func (c *Courier[T]) Stale(i int) bool { return c.parts[i].stale }

// Usable reports whether a report to the partition would be sent.
func (c *Courier[T]) Usable(i int) bool { return c.parts[i].usable() }

// AnyUsable reports whether a round could reach any partition.
func (c *Courier[T]) AnyUsable() bool {
	for i := range c.parts {
		if c.parts[i].usable() {
			return true
		}
	}
	return false
}

// Degraded reports whether most calls fail: over 60 % of the last ones, and from then on
// over 40 %.
func (c *Courier[T]) Degraded() bool { return c.degraded }

// Room returns the partition's report with room for one more record, or nil if all
// its lanes are in use.
func (c *Courier[T]) Room(i int, now mono.Time) *Report[T] {
	p := &c.parts[i]
	if p.filling == nil || p.filling.Full() {
		p.filling = c.open(i, now)
	}
	return p.filling
}

func (c *Courier[T]) open(i int, now mono.Time) *Report[T] {
	p := &c.parts[i]
	for _, l := range p.lanes {
		if l.report == nil {
			return l.open(c.tau, now)
		}
	}
	if len(p.lanes) == maxLanes {
		return nil
	}
	l := &lane[T]{partition: i}
	copy(l.id[:], c.process[:])
	l.id[8] = byte(len(p.lanes))
	p.lanes = append(p.lanes, l)
	return l.open(c.tau, now)
}

// Round returns a batch of all reports that wait, and of the fleet's call, without
// destinations that have failed.
func (c *Courier[T]) Round(now mono.Time, fleet *exchange.FleetCall) *Batch[T] {
	b := &Batch[T]{Sent: now}
	if fleet != nil && !c.fleet.failed && c.fleet.sentAt == 0 {
		b.Fleet, c.fleet.sentAt = fleet, now
	}
	for i := range c.parts {
		p := &c.parts[i]
		p.filling = nil
		if !p.usable() {
			continue
		}
		for _, l := range p.lanes {
			if l.report == nil && (c.checkAll || now.Sub(l.okAt) > keepAlive) {
				l.spare = nil // the memory of an idle lane is not kept
				l.open(c.tau, now)
			}
			c.add(b, l, now)
		}
		if p.sweepAt != 0 && now >= p.sweepAt && p.sentAt == 0 && c.open(i, now) != nil {
			c.addOne(b, p, now)
		}
	}
	c.checkAll = false
	return b
}

// CheckAll makes every lane report in the next round, because the fleet's key has lost its
// data, and others may have.
func (c *Courier[T]) CheckAll() { c.checkAll = true }

// add puts the waiting report of a lane, if there is one, into a batch.
func (c *Courier[T]) add(b *Batch[T], l *lane[T], now mono.Time) bool {
	if l.report == nil || l.calling {
		return false
	}
	p := &c.parts[l.partition]
	l.calling = true
	p.sentAt = now
	if p.empty(now) {
		p.emptied = now
	}
	if p.emptied != 0 && (l.okAt <= p.emptied || l.report.begun(p.emptied)) { // our number has expired too: a refusal would cost another call
		l.report.floorKnown(p.emptied)
	}
	l.report.prepare(now)
	b.lanes = append(b.lanes, l)
	b.Chunks = append(b.Chunks, &l.report.Chunk)
	return true
}

// ProbeDue reports whether it is time to try failed destinations.
func (c *Courier[T]) ProbeDue(now mono.Time) bool { return now >= c.nextProbe && c.Failing() }

// ProbeNow ends the back-off.
func (c *Courier[T]) ProbeNow() { c.nextProbe = 0 }

// Probe returns a batch for failed destinations: the fleet's key, and a few
// partitions, each with a report that waits, or an empty one.
func (c *Courier[T]) Probe(now mono.Time, fleet *exchange.FleetCall) *Batch[T] {
	b := &Batch[T]{Sent: now, Probe: true}
	if c.fleet.failed && c.fleet.sentAt == 0 {
		b.Fleet, c.fleet.sentAt = fleet, now
	}
	from := c.lastProbed
	for k := 1; k <= len(c.parts) && len(b.Chunks) < maxProbes; k++ {
		i := (from + k) % len(c.parts)
		p := &c.parts[i]
		if p.usable() || p.sentAt != 0 || len(p.lanes) == 0 && !c.wary {
			continue // the first probes go to the fleet's key alone
		}
		if !c.addOne(b, p, now) && c.open(i, now) != nil {
			c.addOne(b, p, now)
		}
		c.lastProbed = i
	}
	return b
}

// addOne puts one waiting report of a partition into a batch.
func (c *Courier[T]) addOne(b *Batch[T], p *destination[T], now mono.Time) bool {
	for _, l := range p.lanes {
		if c.add(b, l, now) {
			return true
		}
	}
	return false
}

// Leave returns the batch that removes this process, and its numbers, from Redis.
func (c *Courier[T]) Leave(now mono.Time, fleet *exchange.FleetCall) *Batch[T] {
	for i := range c.parts {
		for _, l := range c.parts[i].lanes {
			if l.report == nil && c.parts[i].usable() {
				l.open(c.tau, now).Leave = true
			}
		}
	}
	fleet.Leave = true
	return c.Round(now, fleet)
}
