package limiter

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-e56e777b/limiter/internal/delivery"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/membership"
	"github.com/seed-e56e777b/limiter/internal/news"
	"github.com/seed-e56e777b/limiter/internal/notify"
)

const (
	urgentTick   = 10 * time.Millisecond  // how often keys that are to be told at once are looked for
	roundJitter  = 0.1                    // of the interval: in step, some would always see the bucket before and some after the others
	deadlineMiss = 3                      // T or round trips without an answer that make a partition stale
	putBack      = 500 * time.Millisecond // when a key whose partition does not answer is looked at again
	tellPart     = 4                      // of an interval, after which news may be told again
	retireEvery  = time.Minute            // all keys are looked at, whether they are quiet
	meanWeight   = 1. / 8                 // of the newest in the mean of round trips
	closeFlush   = time.Second            // for the last round of Close
	closeMost    = 1800 * time.Millisecond
	closeLines   = 100 * time.Millisecond // for log lines that are still to be written
	disagreeMost = 10 * time.Second       // that limits may differ within the fleet, unsaid
	warnEvery    = time.Minute            // while it lasts, the log says again that Redis can't be used
	warnCalm     = 10 * time.Second       // and does not follow a way to Redis that comes and goes faster than that
	warnHang     = 5 * time.Second        // a call that hangs may still say what is wrong
)

// Faults that are no call's.
var (
	errNoAnswer = errors.New("limiter: sync: no answer yet") // while a call hangs
	errNotYet   = errors.New("limiter: Redis has not been reached yet")
)

// What the log says while Redis can't be used.
const (
	onLastShares  = "limiter: Redis can't be used: going on with the last shares"
	onEqualShares = "limiter: Redis can't be used: going on with 1/N of each limit, N = Processes"
	neverReached  = "limiter: Redis was never reached: going on with 1/N of each limit, N = Processes"
	neverAlone    = neverReached + ", and Config.Processes is 1 or not set: each process admits the full limit by itself"
)

type (
	batch   = delivery.Batch[reported]
	report  = delivery.Report[reported]
	outcome = delivery.Outcome[reported]
)

// reported is what a record of a report is of: a key, whose account is another's only
// when the report has ended; or, without one, what was heard of a key.
type reported struct {
	shard   *shard
	account *account
}

type askKind uint8

const (
	askSync askKind = iota
	askReset
)

// request is something that a caller waits for.
type request struct {
	kind   askKind
	held   string // the key to reset
	field  string // of the key
	limit  Limit  // of the key, where it is not in memory
	part   int    // its partition
	at     int64  // when it was made
	queued bool   // everything there was to tell is on its way
	ctx    context.Context
	done   chan error
	err    error // what to answer
}

// counts are the syncer's part of Stats.
type counts struct {
	rounds, roundErrors, keys, losses, duplicates, dropped, news, overshoot atomic.Uint64
}

func (c *counts) addTo(s *Stats) {
	s.Rounds += c.rounds.Load()
	s.RoundErrors += c.roundErrors.Load()
	s.KeysExchanged += c.keys.Load()
	s.Losses += c.losses.Load()
	s.DuplicateRounds += c.duplicates.Load()
	s.DroppedTokens += c.dropped.Load()
	s.NewsHeard += c.news.Load()
	s.OverAdmitted += c.overshoot.Load()
}

// syncer exchanges what deciders have noted. One goroutine, that of run, owns
// all that stands below "loop"; the calls themselves, which may block for as
// long as the client pleases, have goroutines of their own, two at most.
type syncer struct {
	store    exchange.Exchanger
	local    *local
	base     time.Time
	interval time.Duration // T as configured
	process  [8]byte
	logger   *notify.Log
	notices  notify.Queue[Status]
	noAnswer error // errNoAnswer of this limiter

	requests chan *request
	results  chan *batch
	quit     chan struct{}
	done     chan struct{}
	closing  sync.Once
	status   atomic.Pointer[Status]
	counts   counts

	// loop
	ctx       context.Context
	random    *rand.Rand
	courier   *delivery.Courier[reported]
	fleet     *membership.Fleet
	regular   *batch     // under way
	probing   *batch     // under way
	forced    []*request // wait for the regular batch
	nextRound int64
	outbox    news.Outbox
	pace      news.Pace
	heard     int64           // number of the last news heard
	behind    bool            // true if the fleet keeps later news
	askedAt   int64           // when a round last called the fleet's key
	toldAt    int64           // when news was last told
	ours      map[string]bool // fields of this process's last news, until all of it has come back
	overshoot float64
	healed    int64 // when a loss was last seen
	retired   int   // the shard that was last looked through for quiet keys
	retiredAt int64 // and when
	forcedAt  int64 // all keys that were last reported by then are due; 0: only those that are planned
	again     bool  // there is more to tell than went into the last round
	syncs     []*request
	resets    []*request
	retold    []news.Item           // what was heard, to be told again after a loss
	resetting map[*account]*request // in a report
	crowded   map[int]bool          // partitions without room for more, in this round
	answered  []*request
	err       error // why the last call failed; nil once nothing is failing
	warnedAt  int64 // when that was last logged; 0: never
	warned    bool  // it was, since all was well
	differing error // that intervals differ within the fleet; nil: they don't
	agreedAt  int64 // when limits last did not differ within the fleet
	disagree  bool  // that they do has been logged
}

func newSyncer(cfg Config, s exchange.Exchanger, lo *local, base time.Time, seed uint64) *syncer {
	random := rand.New(rand.NewPCG(seed, 0))
	now := clock(base)
	sy := &syncer{
		store: s, local: lo, base: base, interval: cfg.SyncInterval,
		logger:    notify.NewLog(cfg.Logger, slog.String("prefix", lo.prefix)),
		requests:  make(chan *request),
		results:   make(chan *batch, 2),
		quit:      make(chan struct{}),
		done:      make(chan struct{}),
		random:    random,
		fleet:     membership.New(cfg.Processes, cfg.SyncInterval, now),
		resetting: map[*account]*request{},
		ours:      map[string]bool{},
		crowded:   map[int]bool{},
	}
	sy.noAnswer = sy.named(errNoAnswer)
	if cfg.OnChange != nil {
		sy.notices.Call = func(st Status, _ int) { cfg.OnChange(st) }
	}
	binary.LittleEndian.PutUint64(sy.process[:], random.Uint64())
	sy.courier = delivery.New[reported](len(lo.parts), sy.process, tauIntervals*cfg.SyncInterval, random)
	for i := range lo.parts {
		lo.parts[i].staleSince.Store(now)
	}
	lo.stale.Store(true)
	sy.publishWorld(0)
	sy.status.Store(&Status{State: Connecting, Since: base, Processes: int(sy.fleet.Members())})
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

// close ends the loop with a last round, and waits for it, and a moment for
// the log.
func (s *syncer) close() {
	s.closing.Do(func() { close(s.quit) })
	<-s.done
	s.logger.Wait(closeLines)
}

// named is an error with the limiter's name in its text.
func (s *syncer) named(err error) error { return &limiterError{s.local.prefix, err} }

// ask hands a request to the loop and waits for its answer.
func (s *syncer) ask(ctx context.Context, r *request) error {
	r.ctx, r.done = ctx, make(chan error, 1)
	select {
	case <-s.quit:
		return s.named(ErrClosed)
	default:
	}
	select {
	case s.requests <- r:
	case <-s.quit:
		return s.named(ErrClosed)
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
	tick := time.NewTicker(time.Microsecond * time.Duration(1+s.random.Int64N(every.Microseconds()))) // processes started together should not all call together
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
	s.judge(now)
	if s.probing == nil && s.courier.ProbeDue(now) {
		if b := s.courier.Probe(now, s.fleetCall(now)); !b.Empty() {
			s.probing = b
			s.send(b)
		}
	}
	if s.regular == nil && s.roundDue(now) && s.courier.AnyUsable() {
		s.round(now)
	}
	s.publishStatus(now)
	s.flushAnswers()
}

func (s *syncer) roundDue(now int64) bool {
	return now >= s.nextRound || s.again || len(s.syncs) > 0 || len(s.resets) > 0 || s.local.urgent.Load() || s.tellDue(now) || s.hearDue(now)
}

// tellDue reports whether there is news that need not wait for the next round.
func (s *syncer) tellDue(now int64) bool {
	w := s.local.world.Load()
	return !s.outbox.Empty() && s.mayTell() && now-s.toldAt >= int64(w.interval/tellPart) && s.pace.Room(w.fleet, now) > 0
}

// mayTell reports whether a call would carry news. A process that is behind carries
// none: there is too much already, and it would take its own for another's.
func (s *syncer) mayTell() bool { return s.courier.FleetAnswers() && !s.behind }

// hearDue reports whether the rest of the news is to be read now.
func (s *syncer) hearDue(now int64) bool {
	return s.behind && s.courier.FleetAnswers() && now-s.askedAt >= int64(urgentTick)
}

// judge tells deciders which partitions are stale.
func (s *syncer) judge(now int64) {
	s.courier.UpdateStaleness(now, deadlineMiss*int64(max(s.interval, s.local.world.Load().rtt)))
	stuck := false
	for i := range s.local.parts {
		p, stale := &s.local.parts[i], s.courier.Stale(i)
		stuck = stuck || stale
		if since := p.staleSince.Load(); stale && since == 0 {
			p.staleSince.Store(now)
		} else if !stale && since != 0 {
			p.staleSince.Store(0)
		}
	}
	s.local.stale.Store(stuck)
}

func (s *syncer) accept(r *request) {
	switch {
	case r.kind == askReset && !s.courier.Usable(r.part):
		s.answer(r, s.whyNot())
	case r.kind == askReset:
		s.resets = append(s.resets, r)
	default:
		r.at = clock(s.base)
		s.syncs = append(s.syncs, r)
		s.courier.ProbeNow()
	}
}

// whyNot is the error of something that Redis can't be asked now.
func (s *syncer) whyNot() error {
	switch {
	case s.err != nil:
		return s.err
	case s.courier.LastAnswer() == 0:
		return s.named(errNotYet)
	}
	return s.noAnswer
}

// round sends what is due to the partitions that answer.
func (s *syncer) round(now int64) {
	whole := now >= s.nextRound || s.again || len(s.syncs) > 0
	by := int64(dueUrgent)
	var fleet *exchange.FleetCall
	if whole || s.tellDue(now) || s.hearDue(now) {
		fleet = s.fleetCall(now)
		s.askedAt = now
		s.tell(fleet, now)
	}
	if whole {
		by = now
		interval := float64(s.local.world.Load().interval)
		s.nextRound = now + int64(interval*(1+roundJitter*(2*s.random.Float64()-1)))
		s.retire(now)
	}
	s.queueForced(now)
	s.again = false
	s.local.urgent.Store(false)
	s.sendResets(now)
	s.sendRetold(now)
	s.collect(now, by)
	b := s.courier.Round(now, fleet)
	if b.Empty() {
		return
	}
	if whole {
		s.fleet.ObserveCalls(len(b.Chunks) + 1)
	}
	s.forced, s.syncs = s.syncs, nil
	s.regular = b
	s.send(b)
}

// retire looks for keys that are quiet, in all shards within retireEvery.
func (s *syncer) retire(now int64) {
	shards := s.local.shards
	due := int(float64(now-s.retiredAt) / float64(retireEvery) * float64(len(shards)))
	for range min(due, len(shards)) {
		s.retiredAt = now
		if s.retired = (s.retired + 1) % len(shards); s.retired == 0 {
			s.local.spare.trim()
		}
		shards[s.retired].retire(now)
	}
}

// tell puts the news of the lowest buckets into a call of the fleet's key that will be
// sent.
func (s *syncer) tell(fleet *exchange.FleetCall, now int64) {
	if s.mayTell() {
		fleet.Announce, s.toldAt = s.outbox.Take(s.pace.Room(s.local.world.Load().fleet, now), now), now
	}
}

// concludeTell notes whether the news of a call has arrived. If not, the next call
// carries it. A key whose news was cut counts as not announced.
func (s *syncer) concludeTell(b *batch, now int64) {
	if b.Fleet != nil && b.Fleet.Err == nil {
		s.outbox.Announced()
	} else if b.Fleet != nil {
		s.outbox.PutBack()
	}
	for _, field := range s.outbox.Cut() {
		s.local.unsay(field, now)
	}
}

func (s *syncer) send(b *batch) {
	ctx := s.ctx
	go func() {
		s.store.Exchange(ctx, b.Fleet, b.Chunks)
		s.results <- b
	}()
}

// queueForced has every key exchanged for those that wait for a full round.
func (s *syncer) queueForced(now int64) {
	fresh := false
	for _, q := range s.syncs {
		fresh = fresh || !q.queued
		q.queued = true
	}
	if !fresh {
		return
	}
	s.forcedAt = now
}

// collect puts what is due by an instant into reports. What can't be sent now stays
// planned, or is planned for later.
func (s *syncer) collect(now, by int64) {
	clear(s.crowded)
	for sh := range s.local.eachShard() {
		if s.forcedAt == 0 && sh.soonest.Load() > by {
			continue
		}
		sh.eachDue(now, by, s.forcedAt != 0, func(k *lockedKey) { s.collectOne(k, now, by) })
	}
	if len(s.crowded) == 0 {
		s.forcedAt = 0
	}
}

// collectOne puts a key into a report, if it is due by an instant.
func (s *syncer) collectOne(k *lockedKey, now, by int64) {
	a := k.account
	due := a.planned
	switch {
	case a.frozen:
		return
	case due > by && (!k.exchanges() || !a.before(s.forcedAt)), len(s.crowded) == len(s.local.parts):
		k.shard.wake(due)
		return
	case !k.exchanges():
		k.unplan()
		return
	}
	part := int(k.account.part - 1)
	if !s.courier.Usable(part) {
		if due != forever {
			k.unplan()
			k.planBy(now + int64(putBack))
		}
		return
	}
	r := s.courier.Room(part, now)
	if r == nil {
		s.again = true
		s.crowded[part] = true
		k.shard.wake(now + 1)
		return
	}
	k.unplan()
	k.promote()
	k.flush(now)
	if k.flags.is(awaited) {
		k.countQueue()
	}
	rec, span := k.account.report(now, &k.bucket, s.local.world.Load())
	rec.Field = k.fieldIn(r)
	k.freeze()
	r.Append(rec, span, reported{k.shard, k.account})
	if k.account.marked(floorDue) {
		r.Floor(len(r.Records)-1, k.account.floor(&k.bucket, now))
		k.account.setMark(floorDue, false)
	}
}

// fieldIn is the key's field, in the text of a report.
func (k *lockedKey) fieldIn(r *report) string {
	if k.orphan != nil || k.shard.local.secret != nil {
		return k.field()
	}
	var room [1 + maxKey + 1]byte
	return r.Text(k.appendField(room[:0]))
}

// sendResets puts the resets that can go into reports.
func (s *syncer) sendResets(now int64) {
	wait := s.resets[:0]
	for _, q := range s.resets {
		switch {
		case q.ctx.Err() != nil:
		case !s.courier.Usable(q.part):
			s.answer(q, s.whyNot())
		case !s.sendReset(q, now):
			wait = append(wait, q)
		}
	}
	s.resets = wait
}

// retell has what is known by news alone told again, whatever partition has lost its
// state: this process may have no lane there that would see it.
func (s *syncer) retell(now int64) {
	s.retold = slices.DeleteFunc(s.local.heard.All(now), func(it news.Item) bool { return s.local.repliedSince(it.Field, now) })
}

// sendRetold tells the TATs that were heard, as far as there is room.
func (s *syncer) sendRetold(now int64) {
	wait := s.retold[:0]
	for _, it := range s.retold {
		part := exchange.Partition(it.Field, len(s.local.parts))
		switch r := (*report)(nil); {
		case it.TAT <= now:
		case !s.courier.Usable(part):
			wait = append(wait, it)
		default:
			if r = s.courier.Room(part, now); r == nil {
				wait, s.again = append(wait, it), true
				break
			}
			r.Append(exchange.Record{Field: it.Field, Limit: it.Limit}, delivery.Span{Begin: now, Late: forever, Empty: forever}, reported{})
			full := time.Duration(it.Limit.Full) * time.Microsecond
			r.Floor(len(r.Records)-1, min(it.TAT, later(now, full+longestDebt)))
		}
	}
	s.retold = wait
}

// sendReset reports whether there was room for a reset, and no other report of
// the key under way.
func (s *syncer) sendReset(q *request, now int64) bool {
	var k lockedKey
	found := s.local.find(&k, q.held, now)
	if found && k.account == nil {
		k.unlock()
		found = false
	}
	switch {
	case found && k.account.frozen:
		k.unlock()
		return false
	case !found:
		sh, _ := s.local.locate(q.held)
		sh.makeUp(&k, q.held, q.limit, now)
		if k.account == nil {
			k.takeAccount(now)
		}
	}
	r := s.courier.Room(q.part, now)
	if r == nil {
		if found {
			k.unlock()
		} else {
			k.shard.accounts.release(k.account)
		}
		return false
	}
	k.promote()
	k.flush(now)
	k.unplan()
	rec := exchange.Record{Field: q.field, Op: exchange.Reset}
	if k.bucket.shared() {
		rec.Limit = k.bucket.inExchange()
	}
	r.Append(rec, delivery.Span{Begin: now, Late: forever, Empty: forever}, reported{k.shard, k.account})
	s.resetting[k.account] = q
	if !found {
		k.shard.mu.Lock()
		k.shard.addOrphan(k.orphan)
		k.freeze()
		k.save()
		k.shard.mu.Unlock()
		return true
	}
	k.freeze()
	k.close()
	return true
}

// finish takes in what a call brought.
func (s *syncer) finish(b *batch, now int64) {
	if b == s.probing {
		s.probing = nil
	} else {
		s.regular = nil
	}
	res := s.courier.Finish(b, now)
	if res.Err != nil {
		s.err = s.named(fmt.Errorf("limiter: sync: %w", res.Err))
	} else if !s.courier.Failing() {
		s.err = nil
	}
	s.judge(now)
	s.heal(res.Outcomes, now)
	for _, o := range res.Outcomes {
		s.settle(o, now)
	}
	s.concludeTell(b, now)
	if res.Fleet != nil {
		s.join(b.Fleet, res.Back, now)
	}
	if res.Failures > 0 {
		s.counts.roundErrors.Add(1)
	} else {
		s.counts.rounds.Add(1)
		s.measure(b, now)
	}
	s.concludeSyncs(b, res.Failures > 0)
}

// settle does with a report what its fate asks for.
func (s *syncer) settle(o outcome, now int64) {
	switch o.Fate {
	case delivery.Delivered:
		if o.Reply.Status == exchange.Duplicate {
			s.counts.duplicates.Add(1)
		}
		s.acknowledge(o.Report, now)
	case delivery.Refused:
		s.addFloors(o.Report, now)
		s.again = true
	case delivery.Failed:
		s.failResets(o.Report)
	case delivery.GivenUp:
		s.failResets(o.Report)
		s.giveUp(o.Report, now)
	}
}

// concludeSyncs answers those that waited for a full round.
func (s *syncer) concludeSyncs(b *batch, failed bool) {
	if b.Probe {
		if failed {
			s.answerAll(s.syncs, s.err)
			s.syncs = nil
		}
		return
	}
	forced := s.forced
	s.forced = nil
	switch {
	case failed:
		s.answerAll(forced, s.err)
	case s.again || s.behind || s.courier.Failing():
		s.syncs = append(s.syncs, forced...)
	default:
		for _, q := range forced {
			if err := q.ctx.Err(); err != nil || !s.untold(q.at) {
				s.answer(q, err)
			} else {
				s.syncs = append(s.syncs, q)
			}
		}
	}
}

// untold reports whether anything is left of what there was to tell at an
// instant, and has it told in the next round.
func (s *syncer) untold(at int64) bool {
	for sh := range s.local.eachShard() {
		if sh.unreported(at) {
			s.forcedAt = at
			return true
		}
	}
	return false
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

// measure keeps the running mean of the round trip.
func (s *syncer) measure(b *batch, now int64) {
	if b.Probe {
		return
	}
	w, took := *s.local.world.Load(), time.Duration(now-b.Sent)
	if w.rtt == 0 {
		w.rtt = took
	}
	w.rtt += time.Duration(meanWeight * float64(took-w.rtt))
	s.local.world.Store(&w)
}

// failResets answers the resets of a report that failed. They are sent again
// with it all the same.
func (s *syncer) failResets(r *report) {
	for _, of := range r.Cargo {
		s.concludeReset(of.account, s.named(fmt.Errorf("limiter: reset: %w", r.Err)))
	}
}

func (s *syncer) concludeReset(a *account, err error) {
	if q := s.resetting[a]; q != nil {
		if err == nil {
			it := news.Item{Field: q.field, Reset: true}
			s.local.heard.Put(it) // what comes back of our own words is passed over
			s.outbox.Put(it)
		}
		delete(s.resetting, a)
		s.answer(q, err)
	}
}

// giveUp lets go of a report of which nobody knows any more whether it was
// applied.
func (s *syncer) giveUp(r *report, now int64) {
	for i, of := range r.Cargo {
		if of.account == nil {
			continue
		}
		var k lockedKey
		s.local.reopen(&k, of, r.Records[i].Field, now)
		k.flush(now)
		s.counts.dropped.Add(uint64(max(0, k.account.inflight)))
		k.account.inflight = 0
		k.thaw(now)
		k.release()
	}
}

// addFloors makes a report that was refused because Redis has lost state one
// that heals it.
func (s *syncer) addFloors(r *report, now int64) {
	for i, of := range r.Cargo {
		if of.account == nil { // what was heard of a key: it has its floor
			continue
		}
		var k lockedKey
		s.local.reopen(&k, of, r.Records[i].Field, now)
		k.flush(now)
		r.Floor(i, underLimit(k.account.floor(&k.bucket, now), now, k.bucket.inExchange(), r.Records[i].Limit))
		k.account.setMark(floorDue, false)
		k.release()
	}
}

// heal has every key of the partitions that have lost state tell its last TAT,
// and keeps shares as they are while demand is learnt anew.
func (s *syncer) heal(outcomes []outcome, now int64) {
	lost := map[int]bool{}
	for _, o := range outcomes {
		if o.Lost {
			lost[o.Partition] = true
			s.counts.losses.Add(1)
		}
	}
	if len(lost) == 0 {
		return
	}
	w := s.local.world.Load()
	s.fleet.Regain(s.hold(), now)
	s.local.each(now, func(k *lockedKey) {
		a := k.account
		if !k.exchanges() || !lost[int(a.part-1)] {
			return
		}
		a.forget(&k.bucket, now, w)
		if a.outlasts(now) {
			a.setMark(floorDue, true)
			if !a.frozen {
				k.planBy(now)
			}
		}
	})
	s.retell(now)
	s.nextRound = min(s.nextRound, max(now, s.healed+int64(s.interval))) // at once, but a server that loses everything all the time is no reason to hurry
	s.healed = now
}

// acknowledge gives every key of a report its new grant.
func (s *syncer) acknowledge(r *report, now int64) {
	w := s.local.world.Load()
	for i, of := range r.Cargo {
		if of.account == nil {
			continue
		}
		rec := &r.Records[i]
		var k lockedKey
		s.local.reopen(&k, of, rec.Field, now)
		k.flush(now)
		if a := k.account; k.exchanges() {
			k.endOutage(now, w)
			if a.marked(floorDue) && rec.Op.Charges() && rec.Ceiling == 0 {
				a.tat = later(a.tat, k.bucket.timeOf(rec)) // Redis may have added it to what it has lost: the floor has to hold it
			}
			byNews := a.metByNews()
			a.settle(&k.bucket, r.Reply.Keys[i], r.Reply.Now, rec, now, w)
			k.redraw(w)
			s.judgeCharge(&k, rec, r.Reply.Keys[i].Demand, byNews, now, w)
		}
		k.thaw(now)
		k.release()
		s.concludeReset(of.account, nil)
	}
	s.counts.keys.Add(uint64(len(r.Cargo)))
}

// judgeCharge notes what a charge has shown: a key that runs low, a debt.
func (s *syncer) judgeCharge(k *lockedKey, rec *exchange.Record, demand int64, byNews bool, now int64, w *world) {
	a, b := k.account, &k.bucket
	if a.tat+int64(w.interval+w.rtt) < a.said { // given back, or reset: by no less than instants differ with the way that they came
		a.said = 0
		s.outbox.Drop(rec.Field)
		s.local.heard.Put(news.Item{Field: rec.Field, Reset: true})
	}
	if !rec.Op.Charges() {
		return
	}
	charged := b.timeOf(rec)
	s.overshoot += a.overshoot(b, charged, now)
	s.counts.overshoot.Store(uint64(s.overshoot))
	if a.worthTelling(b, charged, byNews, now, w) {
		it := news.Item{Field: strings.Clone(rec.Field), TAT: a.tat, Demand: demand, Limit: b.inExchange(), Level: a.sharedLevel(b, now, b.rate) / b.burst}
		if s.outbox.Put(it) {
			a.said = a.tat
		}
	}
}

// timeOf is the time that a record charges, by the limit that the key has by now.
func (b *bucket) timeOf(rec *exchange.Record) time.Duration {
	return time.Duration(rec.Limit.Time(rec.Delta, b.inExchange())) * time.Microsecond
}

func (s *syncer) fleetCall(now int64) *exchange.FleetCall {
	c := s.fleet.Call(s.process, s.local.world.Load().rtt, now)
	c.Received = s.heard
	if lim := newBucket(*s.local.limit.Load(), now); lim.shared() {
		c.Limit = lim.inExchange()
	}
	return c
}

// hear takes in the news that came with a call, except this process's own, which may
// be out of date by now.
func (s *syncer) hear(c *exchange.FleetCall, now int64) {
	r := &c.Reply
	if r.Latest < s.heard { // the fleet's key has lost its news
		s.retell(now)
	}
	s.behind = r.Received < r.Latest && r.Received != s.heard // without progress it would be a loop
	s.heard = r.Received
	s.pace.Latest(r.Latest)
	for _, n := range c.Announce {
		s.ours[n.Field] = true
	}
	for _, n := range r.News {
		if s.ours[n.Field] {
			continue
		}
		if n.Reset {
			s.outbox.Drop(n.Field)
		}
		s.local.hear(news.Item{
			Field: strings.Clone(n.Field), Reset: n.Reset, Demand: n.Demand, Limit: n.Limit,
			TAT: later(now, time.Duration(min(n.ToGo, maxMicros))*time.Microsecond),
		}, now)
	}
	if !s.behind {
		clear(s.ours)
	}
	s.counts.news.Add(uint64(len(r.News)))
}

// join takes in what the fleet's key says.
func (s *syncer) join(c *exchange.FleetCall, back bool, now int64) {
	w := s.local.world.Load()
	if back {
		s.nextRound = now + s.random.Int64N(int64(w.interval)) // not all at the same time
	}
	s.fleet.ApplyReply(&c.Reply, back, s.hold(), w.rtt, now)
	s.courier.Members = s.fleet.Members()
	s.publishWorld(w.rtt)
	s.compareIntervals()
	s.compareLimits(c.Limit, c.Reply.Other, now)
	s.hear(c, now)
	s.nextRound = min(s.nextRound, now+2*int64(s.fleet.Interval())) // where the interval was much longer
}

// compareIntervals notes, and logs once, that SyncInterval differs within the fleet.
func (s *syncer) compareIntervals() {
	shortest, longest := s.fleet.Fastest(), s.fleet.Slowest()
	switch {
	case shortest == longest:
		s.differing = nil
	case s.differing == nil:
		s.differing = s.named(fmt.Errorf("limiter: the processes of the fleet have SyncIntervals from %v to %v: all should have the same", shortest, longest))
		s.logger.Warn("limiter: SyncInterval differs within the fleet", "own", s.interval, "shortest", shortest, "longest", longest)
	}
}

// compareLimits logs once that another process has another Config.Limit: at once where
// it had when this one came, later when it has lasted, for a change of limit comes to
// all in its time.
func (s *syncer) compareLimits(own, other exchange.Limit, now int64) {
	switch {
	case other == exchange.Limit{}:
		s.agreedAt, s.disagree = now, false
	case !s.disagree && (s.agreedAt == 0 || now-s.agreedAt > int64(disagreeMost)):
		s.disagree = true
		s.logger.Warn("limiter: another limiter under this prefix has another limit: a rollout, or two that need prefixes of their own", "own", asLimit(own).String(), "other", asLimit(other).String())
	}
}

// asLimit is a limit that was sent, to a precision of 6e-8.
func asLimit(l exchange.Limit) Limit {
	return Per(int(l.Burst), time.Duration(l.Full)*time.Microsecond)
}

// hold is how long the fleet is learnt anew after a loss or an outage.
func (s *syncer) hold() time.Duration { return holdTaus * tauIntervals * s.interval }

// publishWorld tells deciders and grants of the fleet as it is now.
func (s *syncer) publishWorld(rtt time.Duration) {
	w := newWorld(s.fleet.Members(), s.fleet.Lost(), s.fleet.Scale(), s.fleet.Interval(), rtt, tauIntervals*s.fleet.Slowest())
	w.hold = s.hold()
	w.silentAt, w.silence = s.fleet.SilentAt(), s.fleet.Silence(rtt)
	if sim, ok := s.store.(exchange.Simulated); ok {
		w.without = sim.Without()
	}
	s.local.world.Store(w)
}

// leave tells what is left to tell, leaves the fleet, and lets every key go on
// with its share.
func (s *syncer) leave(tick *time.Ticker) {
	begin := clock(s.base)
	if s.courier.FleetAnswers() {
		last := &request{kind: askSync, ctx: context.Background(), done: make(chan error, 1)}
		s.accept(last)
		s.await(tick, begin+int64(closeFlush), func() bool {
			s.step(clock(s.base))
			return len(last.done) > 0
		})
		s.sayLeave(tick, begin+int64(closeMost))
	}
	now := clock(s.base)
	closed := s.named(ErrClosed)
	s.answerAll(s.syncs, closed)
	s.answerAll(s.forced, closed)
	s.answerAll(s.resets, closed)
	for a := range s.resetting {
		s.concludeReset(a, closed)
	}
	for i := range s.local.parts {
		s.local.parts[i].staleSince.CompareAndSwap(0, now)
	}
	s.local.stale.Store(true)
	st := *s.status.Load()
	st.State, st.Err, st.Since = Degraded, closed, s.wall(now)
	s.status.Store(&st)
	s.flushAnswers()
}

// await takes in results until done, or until the clock says end.
func (s *syncer) await(tick *time.Ticker, end int64, done func() bool) {
	for !done() && clock(s.base) < end {
		select {
		case <-tick.C:
		case b := <-s.results:
			s.finish(b, clock(s.base))
		}
	}
}

// sayLeave takes this process, and its numbers, out of Redis, unless a call
// hangs.
func (s *syncer) sayLeave(tick *time.Ticker, end int64) {
	idle := func() bool { return s.regular == nil && s.probing == nil }
	s.await(tick, end, idle) // the step that told the rest may have begun another round
	if !idle() {
		return
	}
	now := clock(s.base)
	last := s.fleetCall(now)
	s.tell(last, now)
	s.regular = s.courier.Leave(now, last)
	s.send(s.regular)
	s.await(tick, end, func() bool { return s.regular == nil })
}

// publishStatus says how things stand, and logs a change of state.
func (s *syncer) publishStatus(now int64) {
	old := s.status.Load()
	st := Status{State: s.state(), Since: old.Since, Processes: int(s.fleet.Members()), Silent: s.fleet.Silent(), Err: s.err}
	if at := s.courier.LastAnswer(); at != 0 {
		st.LastSync = s.wall(at)
	}
	if st.Err == nil && (st.State == Degraded || st.State == Connecting && s.wall(now).Sub(s.base) > deadlineMiss*s.interval) {
		st.Err = s.noAnswer
	}
	if st.Err == nil {
		st.Err = s.differing
	}
	if st.State != old.State {
		st.Since = s.wall(now)
	}
	if st != *old {
		s.status.Store(&st)
	}
	s.log(&st, old, now)
	if st.State != old.State {
		s.notices.Add(st)
	}
}

// log tells of changes of state, but not of each where they come fast; that
// Redis can't be used also while there never was another state, and again now
// and then.
func (s *syncer) log(st, old *Status, now int64) {
	switch {
	case st.State == Synced:
		if old.State == Connecting || old.State == Degraded && s.warned {
			s.logger.Info("limiter: in step with the fleet", "processes", st.Processes, "was", old.State.String(), "for", st.Since.Sub(old.Since))
		}
		s.warned = false
	case st.Err != nil && s.warningDue(st, now):
		s.warnedAt, s.warned = now, true
		s.logger.Warn(s.goingOn(st), "processes", st.Processes, "since", st.Since, "err", st.Err)
	}
}

// goingOn says what decisions go by while Redis can't be used.
func (s *syncer) goingOn(st *Status) string {
	switch {
	case st.State == Connecting && st.Processes == 1:
		return neverAlone
	case st.State == Connecting:
		return neverReached
	case s.counts.keys.Load() == 0:
		return onEqualShares // no key has a share yet
	}
	return onLastShares
}

func (s *syncer) warningDue(st *Status, now int64) bool {
	if st.Err == s.noAnswer && s.wall(now).Sub(st.Since) < warnHang { //nolint:errorlint // errors.Is would call methods of errors that the client's hooks made
		return false
	}
	pause := warnCalm
	if s.warned {
		pause = warnEvery
	}
	return s.warnedAt == 0 || now-s.warnedAt >= int64(pause)
}

func (s *syncer) state() State {
	stale := false
	for i := range s.local.parts {
		stale = stale || s.courier.Stale(i)
	}
	switch {
	case !stale:
		return Synced
	case s.courier.LastAnswer() == 0:
		return Connecting
	}
	return Degraded
}

// wall is the time of day of an instant of the limiter's clock.
func (s *syncer) wall(at int64) time.Time { return s.base.Add(time.Duration(at) - time.Second) }
