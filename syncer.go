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

// This file has the loop that exchanges keys with Redis:
//
//   - types: syncer, request, counts;
//   - loop: step starts the calls that are due; requests come from Sync and Reset;
//   - round: resets, restored news and due keys go into a batch of calls;
//   - finish: outcomes of a batch, report by report, and the reply of the fleet's key;
//   - status, log lines, close.
//
// This file locks no key: functions of reconcile.go do.

const (
	urgentEvery    = 10 * time.Millisecond  // time between searches for keys that are due at once
	roundJitter    = 0.1                    // part of the interval by which rounds vary; in step, some processes would always see the bucket before the others
	staleIntervals = 3                      // time without an answer after which a partition is stale, in T or round trips
	unusablePause  = 500 * time.Millisecond // time after which a key is due again whose partition does not answer
	announcePart   = 4                      // announcements are at least an interval/announcePart apart
	demoteEvery    = time.Minute            // time in which all keys are searched for idle ones

	closeFlush       = time.Second             // longest time of Close for a last round
	closeMost        = 1800 * time.Millisecond // longest time of Close for all calls
	closeLines       = 100 * time.Millisecond  // longest time of Close for log lines
	limitsDifferMost = 10 * time.Second        // time for which limits may differ within the fleet without a log line
	warnEvery        = time.Minute             // time between log lines that Redis can't be used, in one outage
	warnPause        = 10 * time.Second        // least time between those of different outages
	warnHang         = 5 * time.Second         // time without an answer before a log line; a call that hangs may return an error that says more
)

// Errors of no call.
var (
	errNoAnswer = errors.New("limiter: sync: no answer yet") // a call hangs
	errNotYet   = errors.New("limiter: Redis has not been reached yet")
)

// Log lines while Redis can't be used.
const (
	onLastShares  = "limiter: Redis can't be used: going on with the last shares"
	onEqualShares = "limiter: Redis can't be used: going on with 1/N of each limit, N = Processes"
	neverReached  = "limiter: Redis was never reached: going on with 1/N of each limit, N = Processes"
	neverAlone    = neverReached + ", and Config.Processes is 1 or not set: each process admits the full limit by itself"
)

// syncer exchanges the recorded usage with Redis. One goroutine, that of run, owns all
// fields below "loop". Each call has a goroutine of its own, because the client may
// block for as long as it pleases: two at most.
type syncer struct {
	store    exchange.Exchanger // Redis, or a simulation of it
	local    *local
	base     time.Time            // base of the limiter's clock
	interval time.Duration        // T as configured
	process  [8]byte              // random id of the process
	logger   *notify.Log          // log with the limiter's name
	notices  notify.Queue[Status] // changes of state, for Config.OnChange
	noAnswer error                // errNoAnswer with the limiter's name

	requests chan *request // requests to the loop
	results  chan *batch   // batches whose calls have ended
	quit     chan struct{} // closed when the loop is to end
	done     chan struct{} // closed when the loop has ended
	closing  sync.Once
	status   atomic.Pointer[Status]
	counts   counts

	// loop
	ctx           context.Context // context of all calls
	random        *rand.Rand
	courier       *delivery.Courier[cargo]
	fleet         *membership.Fleet
	regular       *batch     // batch of a round that is under way; nil: none
	probing       *batch     // batch of a probe that is under way; nil: none
	forced        []*request // Sync requests that wait for regular
	nextRound     mono.Time  // instant of the next whole round
	outbox        news.Outbox
	pace          news.Pace
	received      int64                         // number of the last received news
	behind        bool                          // true if the fleet has later news
	fleetCalledAt mono.Time                     // instant of the last round that called the fleet's key
	announcedAt   mono.Time                     // instant of the last announcement
	ownNews       map[string]bool               // fields of announced news that may still come back
	overshoot     float64                       // tokens of Stats.OverAdmitted
	healedAt      mono.Time                     // instant of the last heal
	demotedShard  int                           // number of the shard that was last searched for idle keys
	demotedAt     mono.Time                     // instant of that search
	forcedAt      mono.Time                     // instant since which each key is to have a report; 0: only due keys are reported
	unfinished    bool                          // true if something is left for another round at once
	syncs         []*request                    // Sync requests for the next round
	resets        []*request                    // Reset requests that are in no report
	toRestore     []news.Item                   // news to be reported after a loss
	resetting     map[*account.Account]*request // Reset requests in a report, by account of the key
	fullParts     map[int]bool                  // partitions without room for a record, in this round
	answered      []*request                    // requests to be answered at the end of the step
	err           error                         // error of the last call that failed; nil: all calls succeed again
	warnedAt      mono.Time                     // instant of the last log line about an outage; 0: none
	warned        bool                          // true if there was one since the state was last Synced
	intervalsErr  error                         // error that intervals differ within the fleet; nil: they do not
	agreedAt      mono.Time                     // instant of the last reply by which limits do not differ within the fleet; 0: none
	limitsLogged  bool                          // true if the log has a line that they differ
}

type (
	batch   = delivery.Batch[cargo]
	report  = delivery.Report[cargo]
	outcome = delivery.Outcome[cargo]
)

// request is a call of Sync or Reset that waits for the loop.
type request struct {
	kind     requestKind
	localKey string    // local key to reset
	field    string    // field of that key
	limit    Limit     // limit of that key, if it is not in memory
	part     int       // partition of that key
	at       mono.Time // instant of a Sync request
	queued   bool      // true if a round has been forced for the Sync request
	ctx      context.Context
	done     chan error
	err      error // answer
}

type requestKind uint8

const (
	syncRequest requestKind = iota
	resetRequest
)

// counts are the syncer's part of Stats.
type counts struct {
	rounds, roundErrors, keys, losses, duplicates, dropped, news, overshoot atomic.Uint64
}

// addTo adds the counts to s.
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

// newSyncer returns a syncer that has not begun, with all partitions stale.
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
		fullParts: map[int]bool{},
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

// start begins the loop.
func (s *syncer) start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.ctx = ctx
	go func() {
		defer close(s.done)
		defer cancel()
		s.run()
	}()
}

// run is the loop: it handles ticks, ended calls and requests, until close.
func (s *syncer) run() {
	every := min(s.interval, urgentEvery)
	tick := time.NewTicker(time.Microsecond * time.Duration(1+s.random.Int64N(every.Microseconds()))) // so that processes which start together do not call together
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

// step starts the calls that are due, and publishes the status.
func (s *syncer) step(now mono.Time) {
	s.local.holds.Announce(&s.outbox, now)
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

// roundDue reports whether there is a reason for a round.
func (s *syncer) roundDue(now mono.Time) bool {
	return now >= s.nextRound || s.unfinished || len(s.syncs) > 0 || len(s.resets) > 0 || s.local.urgent.Load() || s.announceDue(now) || s.receiveDue(now)
}

// announceDue reports whether there is news that need not wait for the next whole round.
func (s *syncer) announceDue(now mono.Time) bool {
	p := s.local.params.Load()
	return !s.outbox.Empty() && s.mayAnnounce() && now.Sub(s.announcedAt) >= p.Interval/announcePart && s.pace.Room(p.Fleet, now) > 0
}

// mayAnnounce reports whether a call may carry news. A process that is behind announces
// none, because there is too much news already, and it would take its own for that of
// others.
func (s *syncer) mayAnnounce() bool { return s.courier.FleetAnswers() && !s.behind }

// receiveDue reports whether the next page of news is to be read now.
func (s *syncer) receiveDue(now mono.Time) bool {
	return s.behind && s.courier.FleetAnswers() && now.Sub(s.fleetCalledAt) >= urgentEvery
}

// updateStaleness updates the state of partitions, for decisions: stale or not.
func (s *syncer) updateStaleness(now mono.Time) {
	s.courier.UpdateStaleness(now, staleIntervals*max(s.interval, s.local.params.Load().RTT))
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

// do passes a request to the loop, and waits for its answer.
func (s *syncer) do(ctx context.Context, r *request) error {
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

// accept takes a request into the loop.
func (s *syncer) accept(r *request) {
	switch {
	case r.kind == resetRequest && !s.courier.Usable(r.part):
		s.answer(r, s.unusableErr())
	case r.kind == resetRequest:
		s.resets = append(s.resets, r)
	default:
		r.at = mono.Now(s.base)
		s.syncs = append(s.syncs, r)
		s.courier.ProbeNow()
	}
}

// unusableErr returns the reason why Redis can't be used now.
func (s *syncer) unusableErr() error {
	switch {
	case s.err != nil:
		return s.err
	case s.courier.LastAnswer() == 0:
		return s.named(errNotYet)
	}
	return s.noAnswer
}

// named returns an error with the limiter's name in its text.
func (s *syncer) named(err error) error { return &limiterError{s.local.prefix, err} }

// answer has a request answered at the end of the step, once Status shows the result.
func (s *syncer) answer(q *request, err error) {
	q.err = err
	s.answered = append(s.answered, q)
}

// answerAll has several requests answered alike.
func (s *syncer) answerAll(list []*request, err error) {
	for _, q := range list {
		s.answer(q, err)
	}
}

// flushAnswers answers requests, at the end of a step.
func (s *syncer) flushAnswers() {
	for _, q := range s.answered {
		q.done <- q.err
	}
	s.answered = s.answered[:0]
}

// round sends one batch to the partitions that answer. A whole round, each T or for
// Sync, carries all keys that are due and calls the fleet's key. Any other carries the
// keys that are due at once, resets, or news.
func (s *syncer) round(now mono.Time) {
	whole := now >= s.nextRound || s.unfinished || len(s.syncs) > 0
	by := dueUrgent
	var fleet *exchange.FleetCall
	if whole || s.announceDue(now) || s.receiveDue(now) {
		fleet = s.fleetCall(now)
		s.fleetCalledAt = now
		s.announce(fleet, now)
	}
	if whole {
		by = now
		interval := float64(s.local.params.Load().Interval)
		s.nextRound = now + mono.Time(interval*(1+roundJitter*(2*s.random.Float64()-1)))
		s.demoteIdle(now)
	}
	for _, q := range s.syncs {
		if !q.queued {
			q.queued, s.forcedAt = true, now
		}
	}
	s.unfinished = false
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

// fleetCall returns a call of the fleet's key.
func (s *syncer) fleetCall(now mono.Time) *exchange.FleetCall {
	c := s.fleet.Call(s.process, s.local.params.Load().RTT, now)
	c.Received, c.Degraded = s.received, s.courier.Degraded()
	if lim := newBucket(*s.local.limit.Load(), now); lim.Shared() {
		c.Limit = lim.ExchangeLimit()
	}
	return c
}

// announce puts the news of the lowest buckets into a call that will be sent.
func (s *syncer) announce(fleet *exchange.FleetCall, now mono.Time) {
	if s.mayAnnounce() {
		fleet.Announce, s.announcedAt = s.outbox.Take(s.pace.Room(s.local.params.Load().Fleet, now), now), now
	}
}

// demoteIdle demotes idle keys in some shards: in all within demoteEvery.
func (s *syncer) demoteIdle(now mono.Time) {
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

// sendResets puts the requested resets into reports, as far as there is room.
func (s *syncer) sendResets(now mono.Time) {
	wait := s.resets[:0]
	for _, q := range s.resets {
		switch {
		case q.ctx.Err() != nil:
		case !s.courier.Usable(q.part):
			s.answer(q, s.unusableErr())
		default:
			room := func() *report { return s.courier.Room(q.part, now) }
			if a := s.local.reportReset(q, now, room); a != nil {
				s.resetting[a] = q
			} else {
				wait = append(wait, q)
			}
		}
	}
	s.resets = wait
}

// sendRestored reports the TATs of toRestore as floors, as far as there is room.
func (s *syncer) sendRestored(now mono.Time) {
	wait := s.toRestore[:0]
	for _, it := range s.toRestore {
		part := exchange.Partition(it.Field, len(s.local.parts))
		switch r := (*report)(nil); {
		case it.TAT <= now:
		case !s.courier.Usable(part):
			wait = append(wait, it)
		default:
			if r = s.courier.Room(part, now); r == nil {
				wait, s.unfinished = append(wait, it), true
				break
			}
			r.Append(exchange.Record{Field: it.Field, Limit: it.Limit}, delivery.Span{Begin: now, Late: mono.Never, Empty: mono.Never}, cargo{})
			full := time.Duration(it.Limit.Full) * time.Microsecond
			r.Floor(len(r.Records)-1, min(it.TAT, now.Add(full+bucket.LongestDebt)))
		}
	}
	s.toRestore = wait
}

// collect puts keys that are due by an instant into reports. Keys without room in a
// report stay due.
func (s *syncer) collect(now, by mono.Time) {
	clear(s.fullParts)
	s.local.drain(now, by, s.forcedAt, s)
	if len(s.fullParts) == 0 {
		s.forcedAt = 0
	}
}

// usable implements carrier.
func (s *syncer) usable(part int) bool { return s.courier.Usable(part) }

// room implements carrier.
func (s *syncer) room(part int, now mono.Time) *report {
	r := s.courier.Room(part, now)
	if r == nil {
		s.unfinished, s.fullParts[part] = true, true
	}
	return r
}

// full implements carrier.
func (s *syncer) full() bool { return len(s.fullParts) == len(s.local.parts) }

// send starts the calls of a batch on a goroutine. The batch then comes back in results.
func (s *syncer) send(b *batch) {
	ctx := s.ctx
	go func() {
		s.store.Exchange(ctx, b.Fleet, b.Chunks)
		s.results <- b
	}()
}

// finish applies the results of a batch, whose calls have ended.
func (s *syncer) finish(b *batch, now mono.Time) {
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
	s.finishAnnounce(b, now)
	if res.Fleet != nil {
		s.applyFleet(b.Fleet, res.Back, now)
	}
	if res.Failures > 0 {
		s.counts.roundErrors.Add(1)
	} else {
		s.counts.rounds.Add(1)
		s.measureRoundTrip(b, now)
	}
	s.finishSyncs(b, res.Failures > 0)
}

// heal makes this process report all that partitions have lost: the TATs of keys in
// memory and of news. Until demand is learnt again, shares stay.
func (s *syncer) heal(outcomes []outcome, now mono.Time) {
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
	s.fleet.Regain(s.relearn(), now)
	s.local.heal(lost, now)
	s.restoreNews(now)
	s.nextRound = min(s.nextRound, max(now, s.healedAt.Add(s.interval))) // at once, except that a server which loses state all the time is healed once per T
	s.healedAt = now
}

// restoreNews makes all TATs that are known by news alone reported again, to all
// partitions. Because this process may have no lane in a partition, it would not notice
// its loss. Holds are announced again.
func (s *syncer) restoreNews(now mono.Time) {
	s.local.holds.AnnounceAll()
	s.toRestore = slices.DeleteFunc(s.local.news.All(now), func(it news.Item) bool { return s.local.repliedSince(it.Field, now) })
}

// handleOutcome applies the outcome of one report, by its fate.
func (s *syncer) handleOutcome(o outcome, now mono.Time) {
	switch o.Fate {
	case delivery.Delivered:
		if o.Reply.Status == exchange.Duplicate {
			s.counts.duplicates.Add(1)
		}
		s.acknowledge(o.Report, now)
	case delivery.Refused:
		s.addFloors(o.Report, now)
		s.unfinished = true
	case delivery.Failed:
		s.failResets(o.Report)
	case delivery.GivenUp:
		s.failResets(o.Report)
		s.giveUp(o.Report, now)
	}
}

// acknowledge applies the reply to a report, key by key.
func (s *syncer) acknowledge(r *report, now mono.Time) {
	for i, of := range r.Cargo {
		if of.account != nil {
			s.overshoot += s.local.applyReply(of, r, i, &s.outbox, now)
			s.finishReset(of.account, nil)
		}
	}
	s.counts.overshoot.Store(uint64(s.overshoot))
	s.counts.keys.Add(uint64(len(r.Cargo)))
}

// addFloors adds the last known TATs to a report that Redis refused because it has lost
// state.
func (s *syncer) addFloors(r *report, now mono.Time) {
	for i, of := range r.Cargo {
		if of.account != nil { // a record of restored news has its floor
			s.local.addFloor(of, r, i, now)
		}
	}
}

// failResets answers the resets of a report that failed. The report is sent again with
// them.
func (s *syncer) failResets(r *report) {
	for _, of := range r.Cargo {
		s.finishReset(of.account, s.named(fmt.Errorf("limiter: reset: %w", r.Err)))
	}
}

// giveUp drops a report whose fate is unknown.
func (s *syncer) giveUp(r *report, now mono.Time) {
	for i, of := range r.Cargo {
		if of.account != nil {
			s.counts.dropped.Add(s.local.giveUp(of, r.Records[i].Field, now))
		}
	}
}

// finishReset answers the reset of an account, if there is one, and announces it if it
// succeeded.
func (s *syncer) finishReset(a *account.Account, err error) {
	if q := s.resetting[a]; q != nil {
		if err == nil {
			it := news.Item{Field: q.field, Reset: true}
			s.local.news.Put(it) // receive passes this process's own news over
			s.outbox.Put(it)
		}
		delete(s.resetting, a)
		s.answer(q, err)
	}
}

// finishAnnounce drops the announced news if the call has succeeded, and otherwise puts
// it back into the outbox. A key whose news was cut counts as not announced.
func (s *syncer) finishAnnounce(b *batch, now mono.Time) {
	if b.Fleet != nil && b.Fleet.Err == nil {
		s.outbox.Announced()
	} else if b.Fleet != nil {
		s.outbox.PutBack()
	}
	for _, field := range s.outbox.Cut() {
		s.local.unannounce(field, now)
	}
}

// measureRoundTrip updates the running mean of the round trip. A probe does not count.
func (s *syncer) measureRoundTrip(b *batch, now mono.Time) {
	if b.Probe {
		return
	}
	p, took := *s.local.params.Load(), now.Sub(b.Sent)
	if p.RTT == 0 {
		p.RTT = took
	}
	p.RTT += time.Duration(account.MeanWeight * float64(took-p.RTT))
	s.local.params.Store(&p)
}

// finishSyncs answers the Sync requests of a batch, or keeps them for the next round
// while something is left to exchange.
func (s *syncer) finishSyncs(b *batch, failed bool) {
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
	case s.unfinished || s.behind || s.courier.Failing():
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

// hasUnreported reports whether a key has usage up to an instant that no reply has
// confirmed. If so, the next round reports all such keys.
func (s *syncer) hasUnreported(at mono.Time) bool {
	for sh := range s.local.eachShard() {
		if sh.hasUnreported(at) {
			s.forcedAt = at
			return true
		}
	}
	return false
}

// applyFleet applies the reply of the fleet's key.
func (s *syncer) applyFleet(c *exchange.FleetCall, back bool, now mono.Time) {
	p := s.local.params.Load()
	if back {
		s.nextRound = now + mono.Time(s.random.Int64N(int64(p.Interval))) // not at the same time as all others
	}
	s.fleet.ApplyReply(&c.Reply, back, s.relearn(), p.RTT, now)
	s.courier.Members = s.fleet.Members()
	s.publishParams(p.RTT)
	s.compareIntervals()
	s.compareLimits(c.Limit, c.Reply.Other, now)
	s.receive(c, now)
	s.nextRound = min(s.nextRound, now.Add(2*s.fleet.Interval())) // in case the interval was much longer
}

// relearn returns the time for which demand and the size of the fleet are learnt again,
// after a loss or an outage.
func (s *syncer) relearn() time.Duration {
	return account.RelearnTaus * demand.TauIntervals * s.interval
}

// publishParams stores the state of the fleet for decisions and grants.
func (s *syncer) publishParams(rtt time.Duration) {
	p := account.NewParams(s.fleet.Members(), s.fleet.Lost(), s.fleet.Scale(), s.fleet.Interval(), rtt, demand.TauIntervals*s.fleet.Slowest())
	p.Relearn = s.relearn()
	p.SilentAt, p.Silence = s.fleet.SilentAt(), s.fleet.Silence(rtt)
	if sim, ok := s.store.(exchange.Simulated); ok {
		p.Without = sim.Without()
	}
	s.local.params.Store(p)
}

// compareIntervals sets intervalsErr, and logs once that SyncInterval differs within the
// fleet.
func (s *syncer) compareIntervals() {
	shortest, longest := s.fleet.Fastest(), s.fleet.Slowest()
	switch {
	case shortest == longest:
		s.intervalsErr = nil
	case s.intervalsErr == nil:
		s.intervalsErr = s.named(fmt.Errorf("limiter: the processes of the fleet have SyncIntervals from %v to %v: all should have the same", shortest, longest))
		s.logger.Warn("limiter: SyncInterval differs within the fleet", "own", s.interval, "shortest", shortest, "longest", longest)
	}
}

// compareLimits logs once that another process has another Config.Limit: at once if it
// had from the first call on, otherwise after limitsDifferMost. Because a change of
// limit reaches each process in its time, limits may differ for a while.
func (s *syncer) compareLimits(own, other exchange.Limit, now mono.Time) {
	switch {
	case other == exchange.Limit{}:
		s.agreedAt, s.limitsLogged = now, false
	case !s.limitsLogged && (s.agreedAt == 0 || now.Sub(s.agreedAt) > limitsDifferMost):
		s.limitsLogged = true
		s.logger.Warn("limiter: another limiter under this prefix has another limit: a rollout, or two that need prefixes of their own", "own", asLimit(own).String(), "other", asLimit(other).String())
	}
}

// asLimit returns the limit of one in the exchange's form, to a precision of 6e-8.
func asLimit(l exchange.Limit) Limit {
	return Per(int(l.Burst), time.Duration(l.Full)*time.Microsecond)
}

// receive applies the news of a reply. Except that news of keys that this process has
// announced itself is passed over, because it may be out of date by now; holds, and
// resets of held keys, are not.
func (s *syncer) receive(c *exchange.FleetCall, now mono.Time) {
	r := &c.Reply
	if r.Latest < s.received { // the fleet's key has lost the news
		s.restoreNews(now)
		s.courier.CheckAll()
	}
	s.behind = r.Received < r.Latest && r.Received != s.received // without progress it would be a loop
	s.received = r.Received
	s.pace.Latest(r.Latest)
	for _, n := range c.Announce {
		s.ownNews[n.Field] = true
	}
	for _, n := range r.News {
		if s.ownNews[n.Field] && !n.Held && !(n.Reset && s.local.holds.Until(n.Field) > now) {
			continue
		}
		later := mono.Time(0) // end of a hold that came after the reset
		if n.Reset {
			later = max(s.outbox.HeldUntil(n.Field), s.local.holds.Pending(n.Field))
			s.outbox.Drop(n.Field)
		}
		field, tat := strings.Clone(n.Field), now.Add(time.Duration(min(n.ToGo, bucket.MaxMicros))*time.Microsecond)
		if n.Held {
			until := min(tat, now.Add(longestHold))
			if p := s.local.params.Load(); !s.ownNews[field] || until > s.local.holds.Until(field).Add(p.Interval+p.RTT) { // an own one comes back later by a trip
				s.local.receiveHold(field, until, false, now)
			}
			continue
		}
		s.local.receive(news.Item{Field: field, Reset: n.Reset, Demand: n.Demand, Limit: n.Limit, TAT: tat}, now)
		if later > now {
			s.local.receiveHold(field, later, true, now)
		}
	}
	if !s.behind {
		clear(s.ownNews)
	}
	s.counts.news.Add(uint64(len(r.News)))
}

// publishStatus updates the status, and logs and announces a change of state.
func (s *syncer) publishStatus(now mono.Time) {
	old := s.status.Load()
	st := Status{State: s.state(), Since: old.Since, Processes: int(s.fleet.Members()), Silent: s.fleet.Silent(), Err: s.err}
	if at := s.courier.LastAnswer(); at != 0 {
		st.LastSync = s.wall(at)
	}
	if st.Err == nil && (st.State == Degraded || st.State == Connecting && s.wall(now).Sub(s.base) > staleIntervals*s.interval) {
		st.Err = s.noAnswer
	}
	if st.Err == nil {
		st.Err = s.intervalsErr
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

// state returns the state by the partitions.
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

// log logs changes of state. Except that not each is logged if they come fast. While
// Redis can't be used, it logs that again from time to time.
func (s *syncer) log(st, old *Status, now mono.Time) {
	switch {
	case st.State == Synced:
		if old.State == Connecting || old.State == Degraded && s.warned {
			s.logger.Info("limiter: in step with the fleet", "processes", st.Processes, "was", old.State.String(), "for", st.Since.Sub(old.Since))
		}
		s.warned = false
	case st.Err != nil && s.warningDue(st, now):
		s.warnedAt, s.warned = now, true
		s.logger.Warn(s.outageLine(st), "processes", st.Processes, "since", st.Since, "err", st.Err)
	}
}

// outageLine returns the log line for a Redis that can't be used. It names the shares by
// which decisions go on.
func (s *syncer) outageLine(st *Status) string {
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

// warningDue reports whether the log is to say now that Redis can't be used.
func (s *syncer) warningDue(st *Status, now mono.Time) bool {
	if st.Err == s.noAnswer && s.wall(now).Sub(st.Since) < warnHang { //nolint:errorlint // errors.Is would call methods of errors that the client's hooks made
		return false
	}
	pause := warnPause
	if s.warned {
		pause = warnEvery
	}
	return s.warnedAt == 0 || now.Sub(s.warnedAt) >= pause
}

// wall returns the time of day of an instant of the limiter's clock.
func (s *syncer) wall(at mono.Time) time.Time { return s.base.Add(time.Duration(at) - time.Second) }

// close ends the loop with a last round. It waits for that and, for a moment, for log
// lines.
func (s *syncer) close() {
	s.closing.Do(func() { close(s.quit) })
	<-s.done
	s.logger.Wait(closeLines)
}

// leave does a last round, leaves the fleet, and makes all partitions stale. Decisions
// go on with their shares.
func (s *syncer) leave(tick *time.Ticker) {
	begin := mono.Now(s.base)
	if s.courier.FleetAnswers() {
		last := &request{kind: syncRequest, ctx: context.Background(), done: make(chan error, 1)}
		s.accept(last)
		s.await(tick, begin.Add(closeFlush), func() bool {
			s.step(mono.Now(s.base))
			return len(last.done) > 0
		})
		s.sendLeave(tick, begin.Add(closeMost))
	}
	now := mono.Now(s.base)
	closed := s.named(ErrClosed)
	s.answerAll(s.syncs, closed)
	s.answerAll(s.forced, closed)
	s.answerAll(s.resets, closed)
	for a := range s.resetting {
		s.finishReset(a, closed)
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

// await handles ended calls until done returns true, at most until an instant.
func (s *syncer) await(tick *time.Ticker, end mono.Time, done func() bool) {
	for !done() && mono.Now(s.base) < end {
		select {
		case <-tick.C:
		case b := <-s.results:
			s.finish(b, mono.Now(s.base))
		}
	}
}

// sendLeave takes this process and its numbers out of Redis. Except that it does nothing
// while a call hangs.
func (s *syncer) sendLeave(tick *time.Ticker, end mono.Time) {
	idle := func() bool { return s.regular == nil && s.probing == nil }
	s.await(tick, end, idle) // the last step may have begun another round
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
