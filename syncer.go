package limiter

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

// store is what the syncer needs of the shared state: one batch at a time,
// each part of which succeeds or fails by itself.
type store interface {
	Exchange(ctx context.Context, fleet *exchange.FleetCall, chunks []*exchange.Chunk)
}

const (
	urgentTick    = 10 * time.Millisecond // how often keys that are to be told at once are looked for
	maxLanes      = 8                     // reports of one partition that may be under way at once
	probes        = 4                     // failed partitions that one attempt tries
	backoffLeast  = 100 * time.Millisecond
	backoffMost   = 500 * time.Millisecond
	backoffJitter = 0.2
	deadlineMiss  = 3               // T or round trips without an answer that make a partition stale
	silentMiss    = 10              // T unseen that make a member silent
	memberForget  = time.Minute     // unseen for as long, a member is gone
	keepAlive     = 5 * time.Minute // a partition without traffic is called as often, or Redis forgets our sequence numbers
	reportForget  = 23 * time.Hour  // a report older than this is dropped: Redis forgets sequence numbers after 24 h
	callCost      = 25e-6           // seconds of Redis time that a call takes beside its keys
	callPart      = 0.25            // part of a Redis core that the fleet's calls may take
	meanWeight    = 1. / 8          // of the newest in running means
	closeFlush    = time.Second     // for the last round of Close
	closeMost     = 1800 * time.Millisecond
)

// report is a chunk, and what it was made of.
type report struct {
	exchange.Chunk
	entries []*entry // one a record
	begins  []int64  // instants at which the charges begin
	asked   []int64  // thousandths of attempts, when they were new
	frozen  int64    // when it was made
	resets  []*request
}

// lane carries the reports of one partition, one at a time: what is under way
// stays as it is until Redis has answered, so that it is applied once.
type lane struct {
	partition int
	id        exchange.ID
	seq       int64
	report    *report
	inCall    bool
}

// health is how things stand with one partition, or with the fleet's own key.
type health struct {
	failed  bool
	okAt    int64 // last answer
	sentAt  int64 // when the call under way was sent; 0: none is
	clock   int64 // Redis's clock at okAt, microseconds; 0: unknown
	lanes   []*lane
	filling *report // being made in this round
}

// batch is one call of the store.
type batch struct {
	fleet  *exchange.FleetCall
	lanes  []*lane
	chunks []*exchange.Chunk
	sentAt int64
	probe  bool // for what had failed
	whole  bool // a regular round
	syncs  []*request
}

type askKind uint8

const (
	askSync askKind = iota
	askReset
)

// request is something that a caller waits for.
type request struct {
	kind   askKind
	entry  *entry // to reset
	part   int    // its partition
	queued bool   // everything there was to tell is on its way
	ctx    context.Context
	done   chan error
	err    error // what to answer
}

// counts are the syncer's part of Stats.
type counts struct {
	rounds, roundErrors, keys, losses, duplicates, dropped atomic.Uint64
}

func (c *counts) addTo(s *Stats) {
	s.Rounds += c.rounds.Load()
	s.RoundErrors += c.roundErrors.Load()
	s.KeysExchanged += c.keys.Load()
	s.Losses += c.losses.Load()
	s.DuplicateRounds += c.duplicates.Load()
	s.DroppedTokens += c.dropped.Load()
}

// syncer exchanges what deciders have noted. One goroutine, that of run, owns
// all that stands below "loop"; the calls themselves, which may block for as
// long as the client pleases, have goroutines of their own, two at most.
type syncer struct {
	store    store
	local    *local
	base     time.Time
	interval time.Duration // T as configured
	logger   *slog.Logger
	notices  notices

	requests chan *request
	results  chan *batch
	quit     chan struct{}
	done     chan struct{}
	closing  sync.Once
	status   atomic.Pointer[Status]
	counts   counts

	// loop
	random     *rand.Rand
	process    [8]byte
	parts      []health
	fleet      health
	startAt    int64
	members    float64 // N in use
	regain     int64   // until then the fleet's size does not shrink: it is being learnt anew
	gapBegin   int64   // the last spell in which nobody reached Redis
	gapEnd     int64
	cutBegin   int64 // the last spell in which this process did not
	cutEnd     int64
	calls      float64 // running mean of the calls in a round
	regular    *batch  // under way
	probing    *batch  // under way
	nextRound  int64
	nextProbe  int64
	attempts   int // probes in a row in which everything failed
	lastProbed int // partition
	again      bool
	syncs      []*request
	resets     []*request
	answered   []*request
	err        error
	ctx        context.Context
}

func newSyncer(cfg Config, s store, lo *local, base time.Time, seed uint64) *syncer {
	sy := &syncer{
		store: s, local: lo, base: base, interval: cfg.SyncInterval, logger: cfg.Logger,
		notices:  notices{call: cfg.OnChange},
		requests: make(chan *request),
		results:  make(chan *batch, 2),
		quit:     make(chan struct{}),
		done:     make(chan struct{}),
		random:   rand.New(rand.NewPCG(seed, 0)),
		parts:    make([]health, len(lo.parts)),
		members:  float64(max(1, cfg.Processes)),
		calls:    1,
	}
	binary.LittleEndian.PutUint64(sy.process[:], sy.random.Uint64())
	now := clock(base)
	sy.startAt = now
	for i := range lo.parts {
		lo.parts[i].staleSince.Store(now)
	}
	sy.fleet.failed = true
	sy.publishWorld(1, 0)
	sy.status.Store(&Status{State: Connecting, Since: base, Processes: int(sy.members)})
	return sy
}

func (s *syncer) start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.ctx = ctx
	go func() {
		defer close(s.done)
		defer cancel()
		s.run()
	}()
}

// close ends the loop with a last round, and waits for it.
func (s *syncer) close() {
	s.closing.Do(func() { close(s.quit) })
	<-s.done
}

// ask hands a request to the loop and waits for its answer.
func (s *syncer) ask(ctx context.Context, r *request) error {
	r.ctx, r.done = ctx, make(chan error, 1)
	select {
	case <-s.quit:
		return ErrClosed
	default:
	}
	select {
	case s.requests <- r:
	case <-s.quit:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *syncer) run() {
	every := min(s.interval, urgentTick)
	tick := time.NewTicker(1 + time.Duration(s.random.Int64N(int64(every)))) // processes started together should not all call together
	defer tick.Stop()
	s.step(clock(s.base))
	for {
		select {
		case <-tick.C:
			tick.Reset(every)
		case b := <-s.results:
			s.finish(b, clock(s.base))
		case r := <-s.requests:
			s.accept(r)
		case <-s.quit:
			s.leave(tick)
			return
		}
		s.step(clock(s.base))
	}
}

// step starts whatever is due and can go.
func (s *syncer) step(now int64) {
	s.markStale(now)
	if s.probing == nil && now >= s.nextProbe && s.sick() {
		s.probe(now)
	}
	if s.regular == nil && s.roundDue(now) && s.anyUsable() {
		s.round(now)
	}
	s.publishStatus(now)
	s.flushAnswers()
}

func (s *syncer) roundDue(now int64) bool {
	return now >= s.nextRound || s.again || len(s.syncs) > 0 || len(s.resets) > 0 || s.local.urgent.Load()
}

func (s *syncer) accept(r *request) {
	switch {
	case r.kind == askReset && s.local.parts[r.part].staleSince.Load() != 0:
		s.answer(r, s.whyNot())
	case r.kind == askReset:
		s.resets = append(s.resets, r)
	default:
		s.syncs = append(s.syncs, r)
		if s.sick() {
			s.nextProbe = 0
		}
	}
}

// whyNot is the error of something that Redis can't be asked now.
func (s *syncer) whyNot() error {
	if s.err != nil {
		return s.err
	}
	return errors.New("limiter: Redis has not been reached yet")
}

// sick reports whether anything has failed and is to be tried again.
func (s *syncer) sick() bool {
	if s.fleet.failed {
		return true
	}
	for i := range s.parts {
		if s.parts[i].failed {
			return true
		}
	}
	return false
}

// deadline is how long an answer may take.
func (s *syncer) deadline() int64 {
	return deadlineMiss * int64(max(s.interval, s.local.world.Load().rtt))
}

// markStale finds the partitions whose grants can't be renewed: the last
// exchange failed or hangs, or there was none for long and the fleet's own
// key does not answer either. Never because nothing was due.
func (s *syncer) markStale(now int64) {
	limit := s.deadline()
	overdue := func(h *health) bool { return h.sentAt != 0 && now-h.sentAt > limit }
	fleetGone := s.fleet.failed || overdue(&s.fleet)
	for i := range s.parts {
		h, p := &s.parts[i], &s.local.parts[i]
		stale := h.failed || overdue(h) || (fleetGone && (h.okAt == 0 || now-h.okAt > limit))
		if since := p.staleSince.Load(); stale && since == 0 {
			p.staleSince.Store(now)
		} else if !stale && since != 0 {
			p.staleSince.Store(0)
		}
	}
}

func (s *syncer) anyUsable() bool {
	for i := range s.parts {
		if s.usable(i) {
			return true
		}
	}
	return false
}

func (s *syncer) usable(i int) bool {
	return !s.parts[i].failed && s.local.parts[i].staleSince.Load() == 0
}

// round sends what is due to the partitions that answer.
func (s *syncer) round(now int64) {
	b := &batch{sentAt: now, whole: now >= s.nextRound || s.again || len(s.syncs) > 0}
	by := int64(dueUrgent)
	if b.whole {
		by = now
		s.nextRound = now + int64(s.local.world.Load().interval)
		if !s.fleet.failed {
			b.fleet = s.fleetCall(now)
			s.fleet.sentAt = now
		}
	}
	s.force(b, now)
	s.again = false
	s.local.urgent.Store(false)
	s.sendResets(now)
	s.collect(now, by)
	for i := range s.parts {
		if s.usable(i) {
			s.keepAlive(i, now)
			s.add(b, s.parts[i].lanes, now)
		}
	}
	if b.whole {
		s.calls += meanWeight * (float64(len(b.chunks)+1) - s.calls)
	}
	if b.fleet == nil && len(b.chunks) == 0 {
		s.syncs = b.syncs
		return
	}
	s.regular = b
	s.send(b)
}

// force queues every resident key for those that wait for a full round.
func (s *syncer) force(b *batch, now int64) {
	fresh := false
	for _, q := range s.syncs {
		fresh = fresh || !q.queued
		q.queued = true
	}
	if fresh {
		s.local.each(func(e *entry) {
			if e.part != nil && !e.frozen {
				e.shard.queueLocked(e, now)
			}
		})
	}
	b.syncs, s.syncs = s.syncs, nil
}

// keepAlive calls a partition that we have sequence numbers in, if that has
// not been done for long.
func (s *syncer) keepAlive(i int, now int64) {
	h := &s.parts[i]
	if len(h.lanes) > 0 && now-h.okAt > int64(keepAlive) {
		s.open(i, now)
	}
}

// add puts the reports of lanes that wait into a batch.
func (s *syncer) add(b *batch, lanes []*lane, now int64) {
	for _, ln := range lanes {
		if ln.report == nil || ln.inCall {
			continue
		}
		ln.inCall = true
		s.parts[ln.partition].sentAt = now
		ln.report.prepare(now)
		b.lanes = append(b.lanes, ln)
		b.chunks = append(b.chunks, &ln.report.Chunk)
	}
}

func (s *syncer) send(b *batch) {
	ctx := s.ctx
	go func() {
		s.store.Exchange(ctx, b.fleet, b.chunks)
		s.results <- b
	}()
}

// probe tries some of what has failed: the fleet's key, and a few partitions,
// with the reports that wait, or empty ones.
func (s *syncer) probe(now int64) {
	b := &batch{sentAt: now, probe: true}
	if s.fleet.failed && s.fleet.sentAt == 0 {
		b.fleet = s.fleetCall(now)
		s.fleet.sentAt = now
	}
	from, tried := s.lastProbed, 0
	for k := 1; k <= len(s.parts) && tried < probes; k++ {
		i := (from + k) % len(s.parts)
		h := &s.parts[i]
		if s.usable(i) || h.sentAt != 0 || (!h.failed && len(h.lanes) == 0) {
			continue
		}
		ln := h.waiting()
		if ln == nil {
			if ln = s.open(i, now); ln == nil {
				continue
			}
		}
		s.add(b, []*lane{ln}, now)
		s.lastProbed = i
		tried++
	}
	if b.fleet == nil && len(b.chunks) == 0 {
		return
	}
	s.probing = b
	s.send(b)
}

// waiting is a lane with a report that is not under way.
func (h *health) waiting() *lane {
	for _, ln := range h.lanes {
		if ln.report != nil && !ln.inCall {
			return ln
		}
	}
	return nil
}

// open begins a report in a free lane of a partition; nil if there is none.
func (s *syncer) open(i int, now int64) *lane {
	h := &s.parts[i]
	ln := h.free(i, s.process)
	if ln == nil {
		return nil
	}
	ln.seq++
	ln.report = &report{frozen: now, Chunk: exchange.Chunk{
		Partition: i, ID: ln.id, Seq: ln.seq, Tau: tauIntervals * s.interval,
	}}
	return ln
}

func (h *health) free(partition int, process [8]byte) *lane {
	for _, ln := range h.lanes {
		if ln.report == nil {
			return ln
		}
	}
	if len(h.lanes) == maxLanes {
		return nil
	}
	ln := &lane{partition: partition}
	copy(ln.id[:], process[:])
	ln.id[8] = byte(len(h.lanes))
	h.lanes = append(h.lanes, ln)
	return ln
}

// room is the report of a partition that takes one more record; nil if all its
// lanes are taken.
func (s *syncer) room(i int, now int64) *report {
	if r := s.parts[i].filling; r != nil && len(r.Records) < exchange.MaxRecords {
		return r
	}
	ln := s.open(i, now)
	if ln == nil {
		return nil
	}
	s.parts[i].filling = ln.report
	return ln.report
}

// collect takes what is due by an instant out of the shards' queues. What
// can't be sent now is put back to a later time.
func (s *syncer) collect(now, by int64) {
	w := s.local.world.Load()
	defer func() {
		for i := range s.parts {
			s.parts[i].filling = nil
		}
	}()
	for _, sh := range s.local.shards {
		for s.collectOne(sh, now, by, w) {
		}
	}
}

func (s *syncer) collectOne(sh *shard, now, by int64, w *world) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.popLocked(by)
	if e == nil {
		return false
	}
	if e.part == nil {
		return true
	}
	i := e.part.number
	if !s.usable(i) {
		sh.queueLocked(e, now+int64(backoffMost))
		return true
	}
	r := s.room(i, now)
	if r == nil {
		s.again = true
		sh.queueLocked(e, now+1)
		return true
	}
	first := e.first
	rec, begin := e.report(now, &e.bucket, w)
	if first != 0 && first < s.cutEnd {
		s.settleOutage(e, first, &rec, w)
	}
	if e.floorDue {
		r.Floors, rec.Floor, e.floorDue = true, e.floor(now, w), false
	}
	r.append(e, rec, begin)
	return true
}

// append adds the record of an entry, whose shard is locked.
func (r *report) append(e *entry, rec exchange.Record, begin int64) {
	e.frozen = true
	e.shard.frozen++
	rec.Field = e.name
	r.Records = append(r.Records, rec)
	r.entries = append(r.entries, e)
	r.begins = append(r.begins, begin)
	r.asked = append(r.asked, rec.Attempts)
}

// settleOutage makes of the record of an entry what an outage makes of it.
// What was admitted while nobody reached Redis must not put the key into debt.
// Nor is charged again what the others have left this process while they
// counted it as silent: 1/N of the rate.
func (s *syncer) settleOutage(e *entry, first int64, rec *exchange.Record, w *world) {
	if rec.Op != exchange.Charge || rec.Delta == 0 {
		return
	}
	to := min(s.cutEnd, s.gapEnd)
	if overlap := to - max(first, s.gapBegin); s.gapEnd != 0 && 2*overlap >= s.cutEnd-first {
		rec.Ceiling = max(1, min(maxMicros, int64(seconds(e.burst/e.rate)/time.Microsecond)))
		return
	}
	if first > s.cutEnd {
		return
	}
	alone := min(s.cutEnd-max(first, s.cutBegin), int64(memberForget)) - int64(s.silence())
	credit := int64(float64(max(0, alone)) / w.fleet / float64(time.Microsecond))
	rec.Delta = max(0, rec.Delta-credit)
}

// floor is the time to go of the last TAT seen, in microseconds, held to what
// the fleet can have run up.
func (e *entry) floor(now int64, w *world) int64 {
	most := seconds(w.fleet * e.burst / e.rate)
	return max(0, int64(min(time.Duration(e.tat-now), most)/time.Microsecond))
}

// prepare brings a report up to the instant at which it is sent.
func (r *report) prepare(now int64) {
	late := time.Duration(now - r.frozen)
	for i := range r.Records {
		rec := &r.Records[i]
		rec.Age = max(0, (now-r.begins[i])/int64(time.Microsecond))
		rec.Attempts = int64(decay(float64(r.asked[i]), late, r.Tau))
	}
}

// sendResets puts the resets that can go into reports.
func (s *syncer) sendResets(now int64) {
	wait := s.resets[:0]
	for _, q := range s.resets {
		e := q.entry
		e.shard.mu.Lock()
		i := q.part
		switch {
		case q.ctx.Err() != nil:
		case !s.usable(i):
			s.answer(q, s.whyNot())
		case e.frozen:
			wait = append(wait, q)
		default:
			if r := s.room(i, now); r != nil {
				e.shard.unqueueLocked(e)
				r.append(e, exchange.Record{Op: exchange.Reset}, now)
				r.resets = append(r.resets, q)
			} else {
				wait = append(wait, q)
			}
		}
		e.shard.mu.Unlock()
	}
	s.resets = wait
}

// finish takes in what a call brought.
func (s *syncer) finish(b *batch, now int64) {
	if b.probe {
		s.probing = nil
	} else {
		s.regular = nil
	}
	var err error
	failures := 0
	lost := map[int]bool{}
	for _, ln := range b.lanes {
		ln.inCall = false
		s.parts[ln.partition].sentAt = 0
		if e := ln.report.Err; e != nil {
			err, failures = e, failures+1
			s.fail(ln, now)
			continue
		}
		s.replied(ln, now, lost)
	}
	if b.fleet != nil {
		s.fleet.sentAt = 0
		if b.fleet.Err != nil {
			err, failures = b.fleet.Err, failures+1
			s.fleet.failed = true
		} else {
			s.joined(&b.fleet.Reply, now)
		}
	}
	if len(lost) > 0 {
		s.heal(lost, now)
	}
	s.judge(b, err, failures, now)
}

// judge draws the conclusions from a batch as a whole.
func (s *syncer) judge(b *batch, err error, failures int, now int64) {
	if failures == 0 {
		s.counts.rounds.Add(1)
		if !b.probe {
			s.measure(time.Duration(now - b.sentAt))
		}
	} else {
		s.counts.roundErrors.Add(1)
		s.err = fmt.Errorf("limiter: sync: %w", err)
	}
	if !s.sick() {
		s.err = nil
	}
	if b.probe {
		all := len(b.lanes)
		if b.fleet != nil {
			all++
		}
		s.nextProbe = now
		s.attempts++
		if failures < all {
			s.attempts = 0
		} else {
			s.nextProbe = now + int64(s.backoff())
		}
	} else if failures > 0 && s.nextProbe <= now && s.probing == nil {
		s.nextProbe = now + int64(s.backoff())
	}
	switch {
	case failures > 0:
		s.answerAll(b.syncs, s.err)
		if b.probe {
			s.answerAll(s.syncs, s.err)
			s.syncs = nil
		}
	case s.again || s.sick():
		s.syncs = append(s.syncs, b.syncs...)
	default:
		s.answerAll(b.syncs, nil)
	}
}

// answer has a request answered at the end of the step, when the status tells
// what the answer does.
func (s *syncer) answer(q *request, err error) {
	q.err = err
	s.answered = append(s.answered, q)
}

func (s *syncer) answerAll(list []*request, err error) {
	for _, q := range list {
		s.answer(q, err)
	}
}

func (s *syncer) flushAnswers() {
	for _, q := range s.answered {
		q.done <- q.err
	}
	s.answered = s.answered[:0]
}

// backoff is the time to the next probe: doubled with each in a row that
// failed, and spread so that the fleet does not come back all at once.
func (s *syncer) backoff() time.Duration {
	d := min(backoffMost, backoffLeast<<min(s.attempts, 8))
	return time.Duration(float64(d) * (1 + backoffJitter*(2*s.random.Float64()-1)))
}

// measure keeps the running mean of the round trip.
func (s *syncer) measure(took time.Duration) {
	w := *s.local.world.Load()
	if w.rtt == 0 {
		w.rtt = took
	} else {
		w.rtt += time.Duration(meanWeight * float64(took-w.rtt))
	}
	s.local.world.Store(&w)
}

func (s *syncer) fail(ln *lane, now int64) {
	s.parts[ln.partition].failed = true
	for _, q := range ln.report.resets {
		s.answer(q, fmt.Errorf("limiter: reset: %w", ln.report.Err))
	}
	ln.report.resets = nil
	if now-ln.report.frozen > int64(reportForget) {
		s.drop(ln)
	}
}

// drop gives up a report so old that Redis may no longer know whether it had
// it.
func (s *syncer) drop(ln *lane) {
	for i, e := range ln.report.entries {
		e.shard.mu.Lock()
		s.counts.dropped.Add(uint64(max(0, e.inflight)))
		e.inflight = 0
		s.thawLocked(ln.report.entries[i], clock(s.base))
		e.shard.mu.Unlock()
	}
	ln.report = nil
}

// replied takes in a reply.
func (s *syncer) replied(ln *lane, now int64, lost map[int]bool) {
	h, r := &s.parts[ln.partition], ln.report
	jumped := h.clock != 0 && (r.Reply.Now-h.clock)*1e3-(now-h.okAt) > int64(time.Second)
	h.failed, h.okAt, h.clock = false, now, r.Reply.Now
	s.local.parts[ln.partition].staleSince.Store(0)
	switch r.Reply.Status {
	case exchange.Lost:
		s.counts.losses.Add(1)
		lost[ln.partition] = true
		r.addFloors(now, s.local.world.Load())
		s.again = true
		return
	case exchange.Duplicate:
		s.counts.duplicates.Add(1)
	}
	if jumped || (r.Reply.Status == exchange.Applied && !r.Floors && r.Reply.Prev < r.Seq-1) {
		s.counts.losses.Add(1)
		lost[ln.partition] = true
	}
	ln.report = nil
	s.acknowledge(r, now)
}

// addFloors makes a report that was refused because Redis has lost state one
// that heals it.
func (r *report) addFloors(now int64, w *world) {
	r.Floors = true
	for i, e := range r.entries {
		e.shard.mu.Lock()
		r.Records[i].Floor = e.floor(now, w)
		e.shard.mu.Unlock()
	}
}

// heal has every key of the partitions tell its last TAT, and keeps shares as
// they are while demand is learnt anew.
func (s *syncer) heal(lost map[int]bool, now int64) {
	w := s.local.world.Load()
	s.regain = later(now, holdTaus*w.tau)
	s.local.each(func(e *entry) {
		if e.part == nil || !lost[e.part.number] {
			return
		}
		e.heldAt, e.held = 0, 0
		if e.mode == modeShare {
			e.hold(now, w)
		}
		if e.tat > now {
			e.floorDue = true
			if !e.frozen {
				e.shard.queueLocked(e, now)
			}
		}
	})
	s.nextRound = min(s.nextRound, now)
}

// acknowledge gives every key of a report its new grant.
func (s *syncer) acknowledge(r *report, now int64) {
	w := s.local.world.Load()
	for i, e := range r.entries {
		e.shard.mu.Lock()
		if e.part != nil {
			e.endOutage(now, w)
			e.settle(&e.bucket, r.Reply.Keys[i], r.Reply.Now, r.Records[i].Attempts, now, w)
			e.redraw(w)
		}
		granted := e.granted
		e.granted = nil
		s.thawLocked(e, now)
		e.shard.mu.Unlock()
		if granted != nil {
			close(granted)
		}
	}
	s.counts.keys.Add(uint64(len(r.entries)))
	for _, q := range r.resets {
		s.answer(q, nil)
	}
}

// thawLocked lets an entry be reported again.
func (s *syncer) thawLocked(e *entry, now int64) {
	e.frozen = false
	e.shard.frozen--
	if e.evicted {
		e.shard.orphanLocked(e)
		return
	}
	if e.floorDue {
		e.shard.queueLocked(e, now)
	}
	if e.part != nil {
		w := s.local.world.Load()
		s.local.scheduleLocked(e, now, e.mode == modePool && e.withinFair(now, &e.bucket), w)
	}
}

// silence is how long a member has to be unseen to count as silent.
func (s *syncer) silence() time.Duration {
	w := s.local.world.Load()
	return max(silentMiss*w.interval, deadlineMiss*w.rtt)
}

// fleetCall is this interval's call on the fleet's key.
func (s *syncer) fleetCall(now int64) *exchange.FleetCall {
	return &exchange.FleetCall{
		Process: s.process,
		Silent:  s.silence(),
		Forget:  memberForget,
		Since:   time.Duration(now - max(s.fleet.okAt, s.startAt)),
	}
}

// joined takes in what the fleet's key says.
func (s *syncer) joined(r *exchange.FleetReply, now int64) {
	w := s.local.world.Load()
	if s.fleet.failed {
		s.cutBegin, s.cutEnd = max(s.fleet.okAt, s.startAt), now
		s.regain = later(now, holdTaus*w.tau)
		s.nextRound = now + s.random.Int64N(int64(w.interval)) // not all at the same time
	}
	s.fleet.failed, s.fleet.okAt = false, now
	s.gapBegin, s.gapEnd = 0, 0
	if r.GapBegin > r.GapEnd {
		s.gapBegin, s.gapEnd = now-int64(r.GapBegin), now-int64(r.GapEnd)
	}
	n := float64(max(1, r.Members))
	scale := 1.
	if now < s.regain {
		s.members = max(s.members, n) // the others are on their way back, with their shares of before
	} else {
		s.members = n
		scale = max(1, n-float64(r.Silent)) / n
	}
	s.publishWorld(scale, w.rtt)
}

// publishWorld tells deciders and grants of the fleet as it is now. Where the
// fleet's calls alone would take too much of Redis, the interval stretches.
func (s *syncer) publishWorld(scale float64, rtt time.Duration) {
	stretched := seconds(s.members * s.calls * callCost / callPart)
	s.local.world.Store(&world{
		fleet:    s.members,
		scale:    scale,
		interval: max(s.interval, stretched),
		rtt:      rtt,
		tau:      tauIntervals * s.interval,
	})
}

// leave tells what is left to tell, leaves the fleet, and lets every key go on
// with its share.
func (s *syncer) leave(tick *time.Ticker) {
	begin := clock(s.base)
	last := &request{kind: askSync, ctx: context.Background(), done: make(chan error, 1)}
	if !s.fleet.failed {
		s.accept(last)
		s.await(tick, begin+int64(closeFlush), func() bool { return len(last.done) > 0 })
		s.sayLeave(tick, begin+int64(closeMost))
	}
	now := clock(s.base)
	s.answerAll(s.syncs, ErrClosed)
	s.answerAll(s.resets, ErrClosed)
	for i := range s.local.parts {
		s.local.parts[i].staleSince.CompareAndSwap(0, now)
	}
	st := *s.status.Load()
	st.State, st.Err, st.Since = Degraded, ErrClosed, time.Now()
	s.status.Store(&st)
	s.flushAnswers()
}

// await goes on with the loop until done, or until the clock says end.
func (s *syncer) await(tick *time.Ticker, end int64, done func() bool) {
	for now := clock(s.base); now < end && !done(); now = clock(s.base) {
		s.step(now)
		select {
		case <-tick.C:
		case b := <-s.results:
			s.finish(b, clock(s.base))
		}
	}
}

// sayLeave takes this process, and its sequence numbers, out of Redis.
func (s *syncer) sayLeave(tick *time.Ticker, end int64) {
	if s.regular != nil {
		return // a call hangs
	}
	now := clock(s.base)
	b := &batch{sentAt: now, fleet: s.fleetCall(now)}
	b.fleet.Leave = true
	for i := range s.parts {
		if !s.usable(i) {
			continue
		}
		for _, ln := range s.parts[i].lanes {
			if ln.report == nil {
				s.open(i, now).report.Leave = true
			}
		}
		s.add(b, s.parts[i].lanes, now)
	}
	s.send(b)
	for now < end {
		select {
		case <-tick.C:
		case got := <-s.results:
			if got == b {
				return
			}
		}
		now = clock(s.base)
	}
}

// publishStatus says how things stand, and logs a change of state.
func (s *syncer) publishStatus(now int64) {
	old := s.status.Load()
	st := Status{State: s.state(), Since: old.Since, LastSync: s.lastSync(), Processes: int(s.members), Err: s.err}
	if st.State == old.State {
		if st != *old {
			s.status.Store(&st)
		}
		return
	}
	st.Since = s.wall(now)
	s.status.Store(&st)
	if st.State == Synced {
		s.logger.Info("limiter: in step with the fleet", "processes", st.Processes, "was", old.State.String(), "for", st.Since.Sub(old.Since))
	} else {
		s.logger.Warn("limiter: Redis does not answer: going on with the last shares", "processes", st.Processes, "err", st.Err)
	}
	s.notices.add(st)
}

func (s *syncer) state() State {
	stale := false
	for i := range s.local.parts {
		stale = stale || s.local.parts[i].staleSince.Load() != 0
	}
	switch {
	case !stale:
		return Synced
	case s.lastSync().IsZero():
		return Connecting
	}
	return Degraded
}

func (s *syncer) lastSync() time.Time {
	at := s.fleet.okAt
	for i := range s.parts {
		at = max(at, s.parts[i].okAt)
	}
	if at == 0 {
		return time.Time{}
	}
	return s.wall(at)
}

// wall is the time of day of an instant of the limiter's clock.
func (s *syncer) wall(at int64) time.Time { return s.base.Add(time.Duration(at) - time.Second) }

// notices calls a function with one Status after another, on a goroutine that
// lives while there are any.
type notices struct {
	call func(Status)
	mu   sync.Mutex
	list []Status
	busy bool
}

func (n *notices) add(st Status) {
	if n.call == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, st)
	if !n.busy {
		n.busy = true
		go n.work()
	}
}

func (n *notices) work() {
	for {
		n.mu.Lock()
		if len(n.list) == 0 {
			n.busy = false
			n.mu.Unlock()
			return
		}
		st := n.list[0]
		n.list = n.list[1:]
		n.mu.Unlock()
		n.call(st)
	}
}
