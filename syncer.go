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

	"github.com/seed-e56e777b/limiter/internal/account"
	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/delivery"
	"github.com/seed-e56e777b/limiter/internal/demand"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/membership"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/news"
	"github.com/seed-e56e777b/limiter/internal/notify"
)

const (
	urgentEvery  = 10 * time.Millisecond  // how often keys that are to be told at once are looked for
	roundJitter  = 0.1                    // of the interval: in step, some would always see the bucket before and some after the others
	deadlineMiss = 3                      // T or round trips without an answer that make a partition stale
	putBack      = 500 * time.Millisecond // when a key whose partition does not answer is looked at again
	announcePart = 4                      // of an interval, after which news may be told again
	demoteEvery  = time.Minute            // all keys are looked at, whether they are quiet

	closeFlush   = time.Second // for the last round of Close
	closeMost    = 1800 * time.Millisecond
	closeLines   = 100 * time.Millisecond // for log lines that are still to be written
	disagreeMost = 10 * time.Second       // that limits may differ within the fleet, unsaid
	warnEvery    = time.Minute            // while it lasts, the log says again that Redis can't be used
	warnPause    = 10 * time.Second       // and does not follow a way to Redis that comes and goes faster than that
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
	batch   = delivery.Batch[cargo]
	report  = delivery.Report[cargo]
	outcome = delivery.Outcome[cargo]
)

type askKind uint8

const (
	askSync askKind = iota
	askReset
)

// request is something that a caller waits for.
type request struct {
	kind     askKind
	localKey string // the key to reset
	field    string // of the key
	limit    Limit  // of the key, where it is not in memory
	part     int    // its partition
	at       int64  // when it was made
	queued   bool   // everything there was to tell is on its way
	ctx      context.Context
	done     chan error
	err      error // what to answer
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
	ctx          context.Context
	random       *rand.Rand
	courier      *delivery.Courier[cargo]
	fleet        *membership.Fleet
	regular      *batch     // under way
	probing      *batch     // under way
	forced       []*request // wait for the regular batch
	nextRound    int64
	outbox       news.Outbox
	pace         news.Pace
	received     int64           // number of the last news heard
	behind       bool            // true if the fleet keeps later news
	askedAt      int64           // when a round last called the fleet's key
	announcedAt  int64           // when news was last told
	ownNews      map[string]bool // fields of this process's last news, until all of it has come back
	overshoot    float64
	healedAt     int64 // when a loss was last seen
	demotedShard int   // the shard that was last looked through for quiet keys
	demotedAt    int64 // and when
	forcedAt     int64 // all keys that were last reported by then are due; 0: only those that are planned
	again        bool  // there is more to tell than went into the last round
	syncs        []*request
	resets       []*request
	toRestore    []news.Item                   // what was heard, to be told again after a loss
	resetting    map[*account.Account]*request // in a report
	crowded      map[int]bool                  // partitions without room for more, in this round
	answered     []*request
	err          error // why the last call failed; nil once nothing is failing
	warnedAt     int64 // when that was last logged; 0: never
	warned       bool  // it was, since all was well
	differing    error // that intervals differ within the fleet; nil: they don't
	agreedAt     int64 // when limits last did not differ within the fleet
	disagree     bool  // that they do has been logged
}

func newSyncer(cfg Config, s exchange.Exchanger, lo *local, base time.Time, seed uint64) *syncer {
	random := rand.New(rand.NewPCG(seed, 0))
	now := mono.Now(base)
	sy := &syncer{
		store: s, local: lo, base: base, interval: cfg.SyncInterval,
		logger:    notify.NewLog(cfg.Logger, slog.String("prefix", lo.prefix)),
		requests:  make(chan *request),
		results:   make(chan *batch, 2),
		quit:      make(chan struct{}),
		done:      make(chan struct{}),
		random:    random,
		fleet:     membership.New(cfg.Processes, cfg.SyncInterval, now),
		resetting: map[*account.Account]*request{},
		ownNews:   map[string]bool{},
		crowded:   map[int]bool{},
	}
	sy.noAnswer = sy.named(errNoAnswer)
	if cfg.OnChange != nil {
		sy.notices.Call = func(st Status, _ int) { cfg.OnChange(st) }
	}
	binary.LittleEndian.PutUint64(sy.process[:], random.Uint64())
	sy.courier = delivery.New[cargo](len(lo.parts), sy.process, demand.TauIntervals*cfg.SyncInterval, random)
	for i := range lo.parts {
		lo.parts[i].staleSince.Store(now)
	}
	lo.stale.Store(true)
	sy.publishParams(0)
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
	every := min(s.interval, urgentEvery)
	tick := time.NewTicker(time.Microsecond * time.Duration(1+s.random.Int64N(every.Microseconds()))) // processes started together should not all call together
	defer tick.Stop()
	s.step(mono.Now(s.base))
	for {
		select {
		case <-tick.C:
			tick.Reset(every)
		case b := <-s.results:
			s.finish(b, mono.Now(s.base))
		case r := <-s.requests:
			s.accept(r)
		case <-s.quit:
			s.leave(tick)
			return
		}
		s.step(mono.Now(s.base))
	}
}

// step starts whatever is due and can go.
func (s *syncer) step(now int64) {
	s.updateStaleness(now)
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
	return now >= s.nextRound || s.again || len(s.syncs) > 0 || len(s.resets) > 0 || s.local.urgent.Load() || s.announceDue(now) || s.receiveDue(now)
}

// announceDue reports whether there is news that need not wait for the next round.
func (s *syncer) announceDue(now int64) bool {
	p := s.local.params.Load()
	return !s.outbox.Empty() && s.mayAnnounce() && now-s.announcedAt >= int64(p.Interval/announcePart) && s.pace.Room(p.Fleet, now) > 0
}

// mayAnnounce reports whether a call would carry news. A process that is behind carries
// none: there is too much already, and it would take its own for another's.
func (s *syncer) mayAnnounce() bool { return s.courier.FleetAnswers() && !s.behind }

// receiveDue reports whether the rest of the news is to be read now.
func (s *syncer) receiveDue(now int64) bool {
	return s.behind && s.courier.FleetAnswers() && now-s.askedAt >= int64(urgentEvery)
}

// updateStaleness tells deciders which partitions are stale.
func (s *syncer) updateStaleness(now int64) {
	s.courier.UpdateStaleness(now, deadlineMiss*int64(max(s.interval, s.local.params.Load().RTT)))
	stuck := false
	for i := range s.local.parts {
		part, stale := &s.local.parts[i], s.courier.Stale(i)
		stuck = stuck || stale
		if since := part.staleSince.Load(); stale && since == 0 {
			part.staleSince.Store(now)
		} else if !stale && since != 0 {
			part.staleSince.Store(0)
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
		r.at = mono.Now(s.base)
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
	if whole || s.announceDue(now) || s.receiveDue(now) {
		fleet = s.fleetCall(now)
		s.askedAt = now
		s.announce(fleet, now)
	}
	if whole {
		by = now
		interval := float64(s.local.params.Load().Interval)
		s.nextRound = now + int64(interval*(1+roundJitter*(2*s.random.Float64()-1)))
		s.demoteIdle(now)
	}
	s.queueForced(now)
	s.again = false
	s.local.urgent.Store(false)
	s.sendResets(now)
	s.sendRestored(now)
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

// demoteIdle looks for keys that are quiet, in all shards within retireEvery.
func (s *syncer) demoteIdle(now int64) {
	shards := s.local.shards
	due := int(float64(now-s.demotedAt) / float64(demoteEvery) * float64(len(shards)))
	for range min(due, len(shards)) {
		s.demotedAt = now
		if s.demotedShard = (s.demotedShard + 1) % len(shards); s.demotedShard == 0 {
			s.local.spares.Trim()
		}
		shards[s.demotedShard].demoteIdle(now)
	}
}

// announce puts the news of the lowest buckets into a call of the fleet's key that will be
// sent.
func (s *syncer) announce(fleet *exchange.FleetCall, now int64) {
	if s.mayAnnounce() {
		fleet.Announce, s.announcedAt = s.outbox.Take(s.pace.Room(s.local.params.Load().Fleet, now), now), now
	}
}

// concludeAnnounce notes whether the news of a call has arrived. If not, the next call
// carries it. A key whose news was cut counts as not announced.
func (s *syncer) concludeAnnounce(b *batch, now int64) {
	if b.Fleet != nil && b.Fleet.Err == nil {
		s.outbox.Announced()
	} else if b.Fleet != nil {
		s.outbox.PutBack()
	}
	for _, field := range s.outbox.Cut() {
		s.local.unannounce(field, now)
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
	s.local.drain(now, by, s.forcedAt, s)
	if len(s.crowded) == 0 {
		s.forcedAt = 0
	}
}

// usable implements carrier.
func (s *syncer) usable(part int) bool { return s.courier.Usable(part) }

// room implements carrier.
func (s *syncer) room(part int, now int64) *report {
	r := s.courier.Room(part, now)
	if r == nil {
		s.again, s.crowded[part] = true, true
	}
	return r
}

// full implements carrier.
func (s *syncer) full() bool { return len(s.crowded) == len(s.local.parts) }

// sendResets puts the resets that can go into reports.
func (s *syncer) sendResets(now int64) {
	wait := s.resets[:0]
	for _, q := range s.resets {
		switch {
		case q.ctx.Err() != nil:
		case !s.courier.Usable(q.part):
			s.answer(q, s.whyNot())
		default:
			if a := s.local.reportReset(q, now, s); a != nil {
				s.resetting[a] = q
			} else {
				wait = append(wait, q)
			}
		}
	}
	s.resets = wait
}

// restoreNews has what is known by news alone told again, whatever partition has lost its
// state: this process may have no lane there that would see it.
func (s *syncer) restoreNews(now int64) {
	s.toRestore = slices.DeleteFunc(s.local.news.All(now), func(it news.Item) bool { return s.local.repliedSince(it.Field, now) })
}

// sendRestored tells the TATs that were heard, as far as there is room.
func (s *syncer) sendRestored(now int64) {
	wait := s.toRestore[:0]
	for _, it := range s.toRestore {
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
			r.Append(exchange.Record{Field: it.Field, Limit: it.Limit}, delivery.Span{Begin: now, Late: mono.Never, Empty: mono.Never}, cargo{})
			full := time.Duration(it.Limit.Full) * time.Microsecond
			r.Floor(len(r.Records)-1, min(it.TAT, mono.Add(now, full+bucket.LongestDebt)))
		}
	}
	s.toRestore = wait
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
	s.updateStaleness(now)
	s.heal(res.Outcomes, now)
	for _, o := range res.Outcomes {
		s.handleOutcome(o, now)
	}
	s.concludeAnnounce(b, now)
	if res.Fleet != nil {
		s.applyFleet(b.Fleet, res.Back, now)
	}
	if res.Failures > 0 {
		s.counts.roundErrors.Add(1)
	} else {
		s.counts.rounds.Add(1)
		s.measureRoundTrip(b, now)
	}
	s.concludeSyncs(b, res.Failures > 0)
}

// handleOutcome does with a report what its fate asks for.
func (s *syncer) handleOutcome(o outcome, now int64) {
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
			if err := q.ctx.Err(); err != nil || !s.hasUnreported(q.at) {
				s.answer(q, err)
			} else {
				s.syncs = append(s.syncs, q)
			}
		}
	}
}

// hasUnreported reports whether anything is left of what there was to tell at an
// instant, and has it told in the next round.
func (s *syncer) hasUnreported(at int64) bool {
	for sh := range s.local.eachShard() {
		if sh.hasUnreported(at) {
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

// measureRoundTrip keeps the running mean of the round trip.
func (s *syncer) measureRoundTrip(b *batch, now int64) {
	if b.Probe {
		return
	}
	p, took := *s.local.params.Load(), time.Duration(now-b.Sent)
	if p.RTT == 0 {
		p.RTT = took
	}
	p.RTT += time.Duration(account.MeanWeight * float64(took-p.RTT))
	s.local.params.Store(&p)
}

// failResets answers the resets of a report that failed. They are sent again
// with it all the same.
func (s *syncer) failResets(r *report) {
	for _, of := range r.Cargo {
		s.concludeReset(of.account, s.named(fmt.Errorf("limiter: reset: %w", r.Err)))
	}
}

func (s *syncer) concludeReset(a *account.Account, err error) {
	if q := s.resetting[a]; q != nil {
		if err == nil {
			it := news.Item{Field: q.field, Reset: true}
			s.local.news.Put(it) // what comes back of our own words is passed over
			s.outbox.Put(it)
		}
		delete(s.resetting, a)
		s.answer(q, err)
	}
}

// acknowledge gives every key of a report its new grant.
func (s *syncer) acknowledge(r *report, now int64) {
	for i, of := range r.Cargo {
		if of.account != nil {
			s.overshoot += s.local.applyReply(of, r, i, &s.outbox, now)
			s.concludeReset(of.account, nil)
		}
	}
	s.counts.overshoot.Store(uint64(s.overshoot))
	s.counts.keys.Add(uint64(len(r.Cargo)))
}

// addFloors adds the last known TATs to a report that Redis refused because it has lost
// state.
func (s *syncer) addFloors(r *report, now int64) {
	for i, of := range r.Cargo {
		if of.account != nil { // otherwise the record is of news, and has its floor
			s.local.addFloor(of, r, i, now)
		}
	}
}

// giveUp drops a report whose fate nobody knows any more.
func (s *syncer) giveUp(r *report, now int64) {
	for i, of := range r.Cargo {
		if of.account != nil {
			s.counts.dropped.Add(s.local.giveUp(of, r.Records[i].Field, now))
		}
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
	s.fleet.Regain(s.hold(), now)
	s.local.heal(lost, now)
	s.restoreNews(now)
	s.nextRound = min(s.nextRound, max(now, s.healedAt+int64(s.interval))) // at once, but a server that loses everything all the time is no reason to hurry
	s.healedAt = now
}

func (s *syncer) fleetCall(now int64) *exchange.FleetCall {
	c := s.fleet.Call(s.process, s.local.params.Load().RTT, now)
	c.Received = s.received
	if lim := newBucket(*s.local.limit.Load(), now); lim.Shared() {
		c.Limit = lim.ExchangeLimit()
	}
	return c
}

// receive takes in the news that came with a call, except this process's own, which may
// be out of date by now.
func (s *syncer) receive(c *exchange.FleetCall, now int64) {
	r := &c.Reply
	if r.Latest < s.received { // the fleet's key has lost its news
		s.restoreNews(now)
	}
	s.behind = r.Received < r.Latest && r.Received != s.received // without progress it would be a loop
	s.received = r.Received
	s.pace.Latest(r.Latest)
	for _, n := range c.Announce {
		s.ownNews[n.Field] = true
	}
	for _, n := range r.News {
		if s.ownNews[n.Field] {
			continue
		}
		if n.Reset {
			s.outbox.Drop(n.Field)
		}
		s.local.receive(news.Item{
			Field: strings.Clone(n.Field), Reset: n.Reset, Demand: n.Demand, Limit: n.Limit,
			TAT: mono.Add(now, time.Duration(min(n.ToGo, bucket.MaxMicros))*time.Microsecond),
		}, now)
	}
	if !s.behind {
		clear(s.ownNews)
	}
	s.counts.news.Add(uint64(len(r.News)))
}

// applyFleet takes in what the fleet's key says.
func (s *syncer) applyFleet(c *exchange.FleetCall, back bool, now int64) {
	p := s.local.params.Load()
	if back {
		s.nextRound = now + s.random.Int64N(int64(p.Interval)) // not all at the same time
	}
	s.fleet.ApplyReply(&c.Reply, back, s.hold(), p.RTT, now)
	s.courier.Members = s.fleet.Members()
	s.publishParams(p.RTT)
	s.compareIntervals()
	s.compareLimits(c.Limit, c.Reply.Other, now)
	s.receive(c, now)
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

// hold is how long the fleet is learnt anew after a loss or an outage.
func (s *syncer) hold() time.Duration { return account.HoldTaus * demand.TauIntervals * s.interval }

// publishParams tells deciders and grants of the fleet as it is now.
func (s *syncer) publishParams(rtt time.Duration) {
	p := account.NewParams(s.fleet.Members(), s.fleet.Lost(), s.fleet.Scale(), s.fleet.Interval(), rtt, demand.TauIntervals*s.fleet.Slowest())
	p.Hold = s.hold()
	p.SilentAt, p.Silence = s.fleet.SilentAt(), s.fleet.Silence(rtt)
	if sim, ok := s.store.(exchange.Simulated); ok {
		p.Without = sim.Without()
	}
	s.local.params.Store(p)
}

// leave tells what is left to tell, leaves the fleet, and lets every key go on
// with its share.
func (s *syncer) leave(tick *time.Ticker) {
	begin := mono.Now(s.base)
	if s.courier.FleetAnswers() {
		last := &request{kind: askSync, ctx: context.Background(), done: make(chan error, 1)}
		s.accept(last)
		s.await(tick, begin+int64(closeFlush), func() bool {
			s.step(mono.Now(s.base))
			return len(last.done) > 0
		})
		s.sayLeave(tick, begin+int64(closeMost))
	}
	now := mono.Now(s.base)
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
	for !done() && mono.Now(s.base) < end {
		select {
		case <-tick.C:
		case b := <-s.results:
			s.finish(b, mono.Now(s.base))
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
	now := mono.Now(s.base)
	last := s.fleetCall(now)
	s.announce(last, now)
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
	pause := warnPause
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
