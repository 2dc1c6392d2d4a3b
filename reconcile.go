package limiter

import (
	"math"
	"time"

	"github.com/seed-e56e777b/limiter/internal/delivery"
	"github.com/seed-e56e777b/limiter/internal/demand"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/outage"
	"github.com/seed-e56e777b/limiter/internal/table"
)

// Constants of docs/design.md; each is argued for there.
const (
	tauIntervals   = 5                  // τ in intervals
	lazyMost       = 15 * time.Second   // longest that a key far from its limit goes unreported
	expiry         = 10                 // intervals after which a grant that was not renewed has expired
	holdTaus       = 3                  // τ for which share mode stays after a loss or a spell of staleness
	alarmPart      = 4                  // a pool-mode key that has used 1/alarmPart of its level is told at once
	alarmDeviation = 4                  // standard deviations of a count that exceeds what is expected by chance: no jump of demand
	headroom       = 0.25               // of what a round asks for on the mean, or of the burst, that it may ask for beyond, before shares are kept to
	longestDebt    = time.Hour          // time that a debt takes to repay, beyond which it is not believed on another's word, nor told again after a loss
	attemptsMilli  = 1000               // attempts travel in thousandths
	demandStep     = 1. / 16            // of τ, for which demand is not brought forward
	evenly         = 0.25               // of τ: what comes in less counts as of its middle, to 0.3 %
	restAfter      = 4 * demand.SlowTau // without a decision or an exchange: what averages say is as good as gone
	lateRounds     = 2                  // in T; a report of older usage is late
	unlimitedPart  = 0.125              // of the rate, for which a key need not remember who fell silent
	untoldPart     = 0.6                // of a round's refill, the mean that others have taken since they last reported
)

// world is what a process knows of its fleet and of its way to Redis.
// It is replaced as a whole, never changed.
type world struct {
	fleet     float64       // N, processes, the silent ones included
	scale     float64       // (N − s)/N: the least that the s silent ones leave of a rate
	silentAt  int64         // since when some are silent, a minute at most: those that were before are gone; 0: none is
	silence   time.Duration // after which one is
	lost      float64       // processes that are gone and never left: in an outage their demand counts
	interval  time.Duration // T_eff
	rtt       time.Duration // running mean of the round trip
	tau       time.Duration // time constant of demand: of the slowest process
	hold      time.Duration // for which share mode stays after a loss or an outage: by this process's own interval
	perTau    float64       // 1/τ, per nanosecond
	grantTime int64         // nanoseconds for which a grant lasts at least
	without   outage.Rules  // none, outside of simulations
}

func newWorld(fleet, lost, scale float64, interval, rtt, tau time.Duration) *world {
	return &world{
		fleet: fleet, lost: lost, scale: scale, interval: interval, rtt: rtt, tau: tau, hold: holdTaus * tau,
		perTau: 1 / float64(tau), grantTime: int64(expiry * interval),
	}
}

// horizon is H, the time to the next reply, in seconds.
func (w *world) horizon() float64 { return (w.interval + w.rtt).Seconds() }

// wordTakes is how long news may be on its way, with the time that an outage
// takes to be noticed.
func (w *world) wordTakes() time.Duration { return 4 * (w.interval + w.rtt) }

// lazyPeriod is how long a key far from its limit may go unreported.
func lazyPeriod(b *bucket) time.Duration {
	return min(lazyMost, seconds(b.burst/(alarmPart*b.rate)))
}

// newBuffer has room for so many tokens, in costs that are as easy.
func newBuffer(room int64, easy float64) table.Buffer {
	return table.Buffer{
		Room: uint16(max(0, min(room, math.MaxUint16))),
		Easy: uint16(min(easy, math.MaxUint16)),
	}
}

// account is what a process keeps of one key for the exchange. Instants are
// nanoseconds of the limiter's clock, never 0; rates are tokens per second.
type account struct {
	// What most decisions read, in one cache line:
	grant
	fastUntil int64 // until when decisions need look at nothing else
	lastEvent int64 // bucket.lastEvent, where that is later than bucket.at
	reserved  int64 // when the latest reservation that there was may act
	identity

	dealings
}

// identity tells which of a shard's accounts an account is.
type identity struct {
	number     uint32 // from 1
	generation uint32 // of the keys that it has been of
	orphan     uint32 // of the orphan that it is of, from 1; 0: its key is in memory
}

// light is the account of a key far from its limit, in short: 64 bytes beside its slot.
// What is not here follows from the slot, or matters near the limit alone.
type light struct {
	exchanged int64
	tat       int64 // account.tat and replied; before the first reply, replied
	heldAt    int64
	first     ticks
	chainEnd  ticks
	stale     ticks  // account.staleSince
	met       uint32 // account.met, in 2^metShift ns
	held      float32
	demand    float32 // when it was exchanged
	meanOwn   float32
	meanOther float32
	share     float32
	cost      uint16 // the upper half of account.cost
	carry     int8   // account.carry, in 1/128 µs
	threshold uint8  // bucket.threshold in an outage, in 1/256, less 1
}

// ticks are an instant, in 2^tickShift ns (131 µs) after the last exchange, or, before
// the first one, after the key came; 0: none.
type ticks int32

const (
	tickShift = 17
	tickRange = 1 << (31 + tickShift - 1) // 39 hours
	metShift  = 24
)

func ticksOf(at, epoch int64) ticks {
	d := (at - epoch) >> tickShift
	switch {
	case at == 0:
		return 0
	case d == 0:
		return -1
	}
	return ticks(d)
}

func (t ticks) after(epoch int64) int64 {
	if t == 0 {
		return 0
	}
	return epoch + int64(t)<<tickShift
}

func (l *light) epoch() int64 {
	if l.exchanged != 0 {
		return l.exchanged
	}
	return int64(l.met) << metShift
}

// open makes an account what it was when it was shortened. staleSince is that of the
// key's partition.
func (l *light) open(a *account, b *bucket, others float32, staleSince int64, w *world) {
	epoch := l.epoch()
	*a = account{
		fastUntil: forever, identity: a.identity,
		dealings: dealings{
			first: l.first.after(epoch), notedAt: l.first.after(epoch), planned: forever, chainEnd: l.chainEnd.after(epoch),
			demand: float64(l.demand), demandAt: epoch, exchanged: l.exchanged, carry: float64(l.carry) / 128,
			reported: epoch, demandThen: l.demand, ownThen: l.demand, steadyThen: l.meanOwn,
			cost: math.Float32frombits(uint32(l.cost) << 16), meanOthers: l.meanOther, held: l.held,
			others: float64(others), meanOwn: float64(l.meanOwn), heldAt: l.heldAt, met: int64(l.met) << metShift,
			replied: l.tat, standing: standing{part: a.part},
		},
	}
	if l.exchanged != 0 {
		a.tat = l.tat
	}
	b.grant = grant{refill: max(0, b.rate-a.others), capacity: b.burst, threshold: 1, mode: modePool}
	a.expires = max(later(epoch, max(expiry*w.interval, lazyPeriod(b))), a.tat)
	a.until = a.expires
	if l.stale != 0 {
		a.share, a.staleSince, a.until = float64(l.share), l.stale.after(epoch), 0
		if ticksOf(staleSince, epoch) == l.stale {
			a.staleSince = staleSince
		}
		b.threshold = (float32(l.threshold) + 1) / 256
		a.outageGrant(b, a.drifted(a.staleSince, b.at, w), w)
	}
}

// shorten writes a short form of an account with an empty ledger, but for what is in the
// buffer, and reports whether that has all that matters.
func (a *account) shorten(l *light, b *bucket, buffer table.Buffer, now int64, w *world) bool {
	full := seconds(b.burst / b.rate)
	switch {
	case a.frozen, a.queued != 0, a.inflight != 0, a.usage != 0, a.asked != 0, a.marks&^inShort != 0:
		return false
	case a.said > now, a.holdUntil > now, a.reserved >= now, b.lastEvent > b.at, buffer.Attempts != buffer.Taken:
		return false
	case a.exchanged == 0 && a.tat != 0, a.exchanged != 0 && a.replied != a.tat && max(a.replied, a.tat) > now:
		return false
	case b.mode == modeShare, b.mode == modePool && a.staleSince != 0, b.mode == modeStale && a.staleSince == 0:
		return false
	case b.mode == modePool && (a.tat > later(now, full/2) || a.scale(w) != 1):
		return false
	case (a.silence != outage.Silence{}) && a.meanOwn+float64(a.meanOthers) > b.rate*unlimitedPart:
		return false
	}
	epoch := a.exchanged
	if epoch == 0 {
		epoch = a.met >> metShift << metShift
	}
	for _, at := range []int64{a.first, a.chainEnd, a.staleSince} {
		if at != 0 && (at-epoch > tickRange || epoch-at > tickRange) {
			return false
		}
	}
	*l = light{
		exchanged: a.exchanged, tat: a.replied, heldAt: a.heldAt,
		first: ticksOf(a.first, epoch), chainEnd: ticksOf(a.chainEnd, epoch), stale: ticksOf(a.staleSince, epoch),
		met: uint32(a.met >> metShift), held: a.held,
		demand:  float32(demand.Decay(a.demand, time.Duration(epoch-a.demandAt), w.tau)),
		meanOwn: float32(a.meanOwn), meanOther: a.meanOthers, share: float32(a.share),
		cost: uint16(math.Float32bits(a.cost) >> 16), carry: int8(max(-127, min(a.carry*128, 127))),
	}
	if b.mode == modeStale {
		l.threshold = uint8(max(0, min(b.threshold*256-1, 255)))
	}
	return true
}

// dealings are what is between a key and the fleet.
type dealings struct {
	usage   int64 // tokens admitted less those given back, not yet reported
	asked   int64 // tokens asked for, not yet reported
	until   int64 // when the grant has to be looked at again
	alarm   int64 // the count of usage (pool) or attempts (share) that is to be told at once
	first   int64 // first unreported admission; 0: none
	notedAt int64 // instant of the last decision that is counted here
	planned int64 // when it is to be exchanged; forever: not at all

	staleSince int64   // the outage that the grant is for; 0: none
	chainEnd   int64   // end of this process's own chain of emission intervals
	fair       int64   // the same for a bucket of rate r/N: is this no more than a fair part?
	demand     float64 // d at demandAt
	demandAt   int64
	exchanged  int64 // last reply; 0: none yet

	said        int64   // the TAT in the last news of the key
	takenBefore int64   // of the tokens admitted less those given back, ever, all but usage
	carry       float64 // microseconds of the bucket's time, not yet reported: what is left of a rounding, or of a change of limit
	inflight    int64   // usage that is reported and not yet acknowledged
	sentFirst   int64   // first admission of what is in flight
	reported    int64   // when attempts were last taken for a report
	demandThen  float32 // d at reported
	ownThen     float32 // d at the last reply
	steadyThen  float32 // d̄ at the last reply

	heldShare  float32 // most of a share until holdUntil
	cost       float32 // of a request, of late; what a share has to be able to save up for
	meanOthers float32 // D̄_o
	held       float32 // tokens of ours in Redis's count of attempts, at heldAt
	silence    outage.Silence
	askedSince int64   // tokens asked for since it and reported
	others     float64 // D_o of the last reply
	meanOwn    float64 // d̄
	heldAt     int64   // microseconds of the partition's clock
	met        int64   // when the key became resident

	tat       int64 // last TAT seen
	replied   int64 // the TAT by the last reply; before the first, when the key was last evicted, if it was: no news for others
	expires   int64 // when the grant is no longer good for anything
	holdUntil int64 // share mode at least until then, with at most heldShare
	share     float64
	standing
}

// standing is where a key stands in its process.
type standing struct {
	rng    uint64  // state of the thresholds' generator
	queued float32 // demand of waiting callers, tokens per second: beside demand
	part   uint16  // the number of its partition, from 1; 0: its limit is not shared
	frozen bool    // true if it is part of a report without a reply yet
	marks  marks
}

// marks are what is true of an account.
type marks uint8

const (
	floorDue  marks = 1 << iota // Redis has lost state: the last TAT has to be told
	gaveBack                    // tokens were given back: a charge says little of what was asked for
	toldQueue                   // the last report had demand of waiting callers in it
	limitDue                    // the limit has changed: until Redis knows, it goes on refilling by the old one

	inShort = floorDue | limitDue // those that a key far from its limit can have
)

func (a *account) marked(m marks) bool { return a.marks&m != 0 }

// setMark makes a mark true, or untrue.
func (a *account) setMark(m marks, is bool) {
	a.marks &^= m
	if is {
		a.marks |= m
	}
}

func newAccount(now int64) account {
	return account{
		grant:    grant{threshold: 1},
		dealings: dealings{planned: forever, met: now, reported: now, demandAt: now, alarm: maxTokens},
	}
}

// reset forgets what is between the key and the fleet, except demand.
func (a *account) reset(now int64) {
	kept := a.dealings
	a.dealings = newAccount(now).dealings
	a.standing, a.planned, a.staleSince = kept.standing, kept.planned, kept.staleSince
	a.marks, a.queued = 0, 0
	a.demand, a.demandAt, a.demandThen = kept.demand, kept.demandAt, float32(kept.demand)
	a.held, a.heldAt = kept.held, kept.heldAt
	a.share, a.takenBefore = kept.share, kept.takenBefore+kept.usage
}

// forgetGrant makes the account that of a key of which only averages matter.
func (a *account) forgetGrant() {
	a.said, a.holdUntil, a.staleSince, a.marks = 0, 0, 0, 0
	a.silence = outage.Silence{}
}

// flush takes in what is in a buffer. Of denials it is not known when they were,
// except that it was before now, and by fastUntil.
func (a *account) flush(buffer table.Buffer, b *bucket, now int64, w *world) {
	attempts, taken := int64(buffer.Attempts), int64(buffer.Taken)
	from, to := a.notedAt, a.notedAt
	if taken != 0 {
		a.usage = addTokens(a.usage, taken)
		to = max(to, min(b.at, a.fastUntil))
		latest := later(max(a.chainEnd, to), seconds(float64(taken)/b.rate))
		a.chain(taken, from, to, b.rate, w)
		// What came late in a long time stands behind more, but not behind more than all
		// have taken. The level knows of that as late as the reply was on its way, which
		// a busy key would be charged for in every round.
		if b.mode == modePool && to-from > int64(w.interval) {
			a.chainEnd = max(a.chainEnd, min(latest, later(b.at, delay(b.level-b.burst, b.rate))))
		}
	}
	if attempts != taken {
		to = max(to, min(now, a.fastUntil))
	}
	a.asked = addTokens(a.asked, attempts)
	a.addDemand(attempts, from, to, w)
	a.notedAt = to
}

// unfold takes out of the demand, and out of the process's own chain, what was taken since
// a reply that came just now, as if it had come evenly.
func (a *account) unfold(rate float64, w *world) {
	x := float64(a.exchanged-a.first) * w.perTau
	part := 1.
	if x > demandStep {
		part = -math.Expm1(-x) / x
	}
	d := demand.Decay(a.demand, time.Duration(a.exchanged-a.demandAt), w.tau)
	a.demand, a.demandAt = max(0, d-part*float64(a.usage)/w.tau.Seconds()), a.exchanged
	a.chainEnd = max(0, a.chainEnd-int64(seconds(float64(a.usage)/rate)))
	a.usage, a.asked = 0, 0
}

// before reports whether the last report of the key was made by an instant, or does not
// have all usage until then.
func (a *account) before(at int64) bool { return a.reported <= at || a.first != 0 && a.first <= at }

// alarming is the count that the alarm is about.
func (a *account) alarming(b *bucket) int64 {
	if b.mode == modePool {
		return a.usage
	}
	return a.asked
}

// lazyDue is when a key far from its limit is to be exchanged: a lazy period after its
// first usage, or, so that a shard is not looked through for each of its keys, up to an
// eighth of that later.
func (a *account) lazyDue(b *bucket, phase int64) int64 {
	return lazyDue(b, max(a.first, a.reported), phase)
}

func lazyDue(b *bucket, first, phase int64) int64 {
	period := lazyPeriod(b)
	step := max(1, int64(period/lazyScans))
	due := later(first, period)
	return due + (step - (due+phase)%step)
}

// soonest is when a key may be exchanged again that need not be at once.
func (a *account) soonest(now int64, w *world) int64 {
	return max(now, a.exchanged+int64(w.interval/2))
}

// exchanges reports whether the fleet is told of the key.
func (a *account) exchanges() bool { return a != nil && a.part != 0 }

// unreported is what Redis may not know of yet, in tokens of the given rate.
func (a *account) unreported(rate float64) float64 {
	tokens := float64(a.usage) + float64(a.inflight)
	if math.Abs(a.carry) >= 1 { // else it is what is left of a rounding, by which a full bucket would not be full
		tokens += a.carry * rate / 1e6
	}
	return tokens
}

func (a *account) somethingToReport() bool {
	return a.queued != 0 || a.marked(toldQueue) || a.usage != 0 || a.asked != 0 || a.carry >= 1 || a.carry <= -1
}

// count counts tokens that were attempted, and taken, at an instant.
func (a *account) count(now, asked, taken int64, rate float64, w *world) {
	a.notedAt = now
	a.asked = addTokens(a.asked, asked)
	a.addDemand(asked, now, now, w)
	a.requested(asked)
	if taken != 0 {
		a.usage = addTokens(a.usage, taken)
		a.chain(taken, now, now, rate, w)
		if a.first == 0 {
			a.first = now
		}
	}
}

// requested takes in the cost of a request.
func (a *account) requested(n int64) {
	if cost := float32(n); n != 0 && a.cost != cost {
		a.cost = max(cost, a.cost-(a.cost-cost)*meanWeight)
	}
}

// request is what a request takes, of late.
func (a *account) request() float64 { return max(1, float64(a.cost)) }

// addDemand adds attempts to d that came evenly from one instant to another: in the
// middle of a short time, at the end of a long one, by when the first of them have
// decayed. Demand is kept as of demandAt, which moves now and then only, for an
// exponential takes long too.
func (a *account) addDemand(attempts, from, to int64, w *world) {
	if attempts == 0 {
		return
	}
	at, part := from+(to-from)/2, 1.
	if span := float64(to-from) * w.perTau; span > evenly {
		at, part = to, -math.Expm1(-span)/span
	}
	x := float64(at-a.demandAt) * w.perTau
	if x > demandStep {
		a.demand, a.demandAt, x = demand.Decay(a.demand, time.Duration(at-a.demandAt), w.tau), at, 0
	}
	a.demand += part * float64(attempts) * 1e9 * w.perTau * (1 + x*(1+x*(1./2)*(1+x*(1./3)))) // e^x, within 1e-6
}

// chain puts tokens behind those taken before them: the first at one instant, the last
// at another.
func (a *account) chain(taken, from, to int64, rate float64, w *world) {
	own := float64(taken) / rate
	last := min(own, a.request()/rate)
	a.chainEnd = max(later(max(a.chainEnd, from), seconds(own)), later(to, seconds(last)))
	a.fair = max(later(max(a.fair, from), seconds(own*w.fleet)), later(to, seconds(last*w.fleet)))
}

func (a *account) demandAfter(now int64, w *world) float64 {
	return demand.Decay(a.demand, time.Duration(now-a.demandAt), w.tau)
}

// own is this process's demand for the key, that of waiting callers included.
func (a *account) own(now int64, w *world) float64 {
	return a.demandAfter(now, w) + float64(a.queued)
}

// taken is the tokens admitted less those given back, ever.
func (a *account) taken() int64 {
	if a == nil {
		return 0
	}
	return a.takenBefore + a.usage
}

// giveBack uncounts tokens taken: what is unreported first, the rest becomes
// a refund.
func (a *account) giveBack(n int64, rate float64) {
	a.setMark(gaveBack, true)
	a.usage = addTokens(a.usage, -n)
	a.chainEnd = max(0, a.chainEnd-int64(seconds(float64(n)/rate)))
	if a.usage <= 0 {
		a.first = 0
	}
}

// relimit makes time by one limit time by another: tokens stay what they are.
func (a *account) relimit(from, to *bucket, now int64) {
	stretch := from.rate / to.rate
	a.carry *= stretch
	a.fair = now + int64(float64(a.fair-now)*stretch)
	if a.exchanged == 0 {
		a.replied = max(a.replied, now) // for what this process has not taken itself
	}
	for _, tat := range []*int64{&a.tat, &a.said, &a.replied, &a.chainEnd} {
		*tat = underLimit(*tat, now, from.inExchange(), to.inExchange())
	}
	a.expires = max(a.expires, a.tat)
}

// withinFair reports whether the key's use here fits a bucket of rate r/N and
// burst b/2N.
func (a *account) withinFair(now int64, b *bucket) bool {
	return float64(a.fair-now)*b.rate <= b.burst*(1e9/2)
}

// fairRoom is for how many tokens more it would be.
func (a *account) fairRoom(now int64, b *bucket, w *world) int64 {
	over := max(0, elapsed(a.fair-now))
	return int64(clampTokens((b.burst/2 - over*b.rate) / w.fleet))
}

// report moves what is unreported into a record, with the span of its charge.
func (a *account) report(now int64, b *bucket, w *world) (rec exchange.Record, span delivery.Span) {
	scale := a.scale(w)
	exact := a.carry + float64(a.usage)*1e6/(b.rate*scale)
	whole := math.Trunc(max(-maxMicros, min(exact, maxMicros)))
	a.carry = exact - whole
	if math.Abs(a.carry) >= 1 {
		a.carry = 0
	}
	rec.Delta = int64(whole)
	if rec.Delta < 0 {
		rec.Op, rec.Delta = exchange.Refund, -rec.Delta
	}
	span = delivery.Span{Begin: now, Late: forever, Empty: forever}
	if a.first != 0 {
		others := a.others
		if now < a.holdUntil {
			others = max(others, float64(a.meanOthers)) // Redis does not know the others' demand again yet
		}
		late := lateRounds*w.interval + w.rtt + lazyPeriod(b)
		if a.exchanged == 0 && w.fleet > 1 && now >= later(a.first, late) {
			others = b.rate // they may have used as much since, and nothing is known of them
		}
		span.Begin = chargeBegin(a.first, a.chainEnd, time.Duration(whole*1e3), others/b.rate, now, b.lateness(w))
		span.Late, span.Empty = later(a.first, late), later(a.first, max(late, exchange.MaxUnused))
		span.Full, span.Owed = a.owes(b, now, w)
	}
	rec.Left = uint8(256 * (1 - scale))
	rec.Attempts = int64(attemptsMilli * a.takeAsked(now, w))
	rec.Limit = b.inExchange()
	a.setMark(limitDue, false)
	a.takenBefore += a.usage
	a.inflight, a.usage = a.usage, 0
	a.sentFirst, a.first = a.first, 0
	return rec, span
}

// owes returns how far ahead a late charge may leave the TAT, and how much of it its
// callers know to owe, in microseconds. A level below empty is a debt of Charge and
// Reserve, or a part of the fleet's debt; each process waits while the fleet repays it.
func (a *account) owes(b *bucket, now int64, w *world) (full, owed int64) {
	debt := max(0, -b.levelAt(now)) * 1e6
	return b.full() + int64(debt/max(b.refill, b.rate/w.fleet)), int64(debt / b.rate)
}

// maxMicros bounds a charge: 71 years.
const maxMicros = 1 << 51

// chargeBegin is where a charge begins: for a process alone at the end of its
// own chain, for one among many late before now, in between by how much the
// others ask, o = min(1, D_o/r) (docs/design.md §4, Age).
func chargeBegin(first, chainEnd int64, usage time.Duration, o float64, now int64, late time.Duration) int64 {
	o = min(1, o)
	span := float64(max(chainEnd-first, int64(usage)))
	f := float64(first) + max(0, span*(1-o)-float64(usage))
	f = min(f, (1-o)*f+o*float64(now-int64(late)))
	return min(now, int64(f))
}

// lateness is how late others may be with what they used before: a round and
// its trip. What that credits is refill that a full bucket might have lost, so
// that it matters less the larger the burst is beside a round's refill.
func (b *bucket) lateness(w *world) time.Duration {
	h := w.horizon()
	return seconds(h * min(1, b.rate*h/(2*b.burst)))
}

// takeAsked empties the count of attempts into d̄ and returns the number to
// report: all of them, or, with waiting callers, or where they span long and all
// would look like a flood, the number that Redis's decayed count lacks.
func (a *account) takeAsked(now int64, w *world) float64 {
	asked, span := float64(a.asked), time.Duration(now-a.reported)
	a.meanOwn = a.ownMean(now, w)
	a.askedSince = addTokens(a.askedSince, a.asked)
	a.demandThen = float32(a.demandAfter(now, w))
	a.asked, a.reported = 0, now
	waited := a.marked(toldQueue)
	a.setMark(toldQueue, a.queued != 0)
	if a.queued == 0 && !waited && span <= 2*w.tau {
		return asked
	}
	want, since := float64(a.demandThen), time.Duration(now-a.exchanged)
	if a.queued != 0 || waited {
		next := max(w.interval, min(span, 2*(w.interval+w.rtt)))
		mean := demand.Risen(next, w.tau) * w.tau.Seconds() / next.Seconds() // of a count that decays from 1 until the next report
		want = (want + float64(a.queued)) / mean
		since += w.rtt // from one report's arrival to the next one's
	}
	missing := want*w.tau.Seconds() - demand.Decay(float64(a.held), since, w.tau)
	if waited {
		return missing // negative if waiters have left
	}
	return max(0, missing)
}

// ownMean is d̄ with what was asked since the last report: the mean of d over
// that time, which its integral gives exactly. Others see our demand through
// the same filter, so that the shares of all sum to 1 from the start.
func (a *account) ownMean(now int64, w *world) float64 {
	span := time.Duration(now - a.reported)
	if span <= 0 {
		return a.meanOwn
	}
	mean := demand.Counted(a.asked, float64(a.demandThen), a.demandAfter(now, w), span, w.tau) + float64(a.queued)
	return a.slowMean(a.meanOwn, mean, span, now, w)
}

// slowMean moves a mean towards a value that was held for span.
func (a *account) slowMean(mean, value float64, span time.Duration, now int64, w *world) float64 {
	return demand.Average(mean, value, span, time.Duration(now-a.met), w.tau)
}

// settle takes in a reply that acknowledges what was in flight, in a record.
func (a *account) settle(b *bucket, st exchange.KeyState, clock int64, rec *exchange.Record, now int64, w *world) {
	tat := now + rec.Limit.ToGo(st.ToGo, b.inExchange())*int64(time.Microsecond)
	if a.marked(floorDue) {
		tat = max(tat, a.tat) // Redis has lost what we are about to tell it
	}
	a.learnDemand(b, tat, st.Demand, clock, rec.Attempts, now, w)
	a.inflight, a.tat, a.replied = 0, tat, tat
	a.observeSilence(now, w)
	a.exchanged, a.ownThen, a.steadyThen, a.askedSince = now, a.demandThen, float32(a.meanOwn), 0
	if b.mode == modeStale {
		a.hold(now, w)
		if a.first != 0 && a.first < now-2*int64(w.interval+w.rtt) {
			a.until = later(now, expiry*w.interval)
			return // what the outage has run up is yet to be told; until then this reply says little
		}
	}
	a.regrant(b, now, w)
}

// observeSilence remembers the fleet's demand while processes are silent.
func (a *account) observeSilence(now int64, w *world) {
	lost := w.lost / (w.fleet + w.lost)
	if w.silentAt == 0 {
		a.silence.End(lost)
		return
	}
	a.silence.Observe(outage.Observation{
		Mean:    a.meanOwn + float64(a.meanOthers),
		Now:     a.steadied(float64(a.demandThen)+float64(a.queued), w) + a.others,
		Request: a.request(), Age: time.Duration(now - a.met), Since: time.Duration(now - a.exchanged),
		Tau: w.tau, SilentAfter: w.silence, Lost: lost,
	}, a.exchanged < w.silentAt)
}

// scale is the part of the key's rate that is for the processes that are not silent.
func (a *account) scale(w *world) float64 {
	switch {
	case w.without.Has(outage.Room):
		return 1
	case w.without.Has(outage.Moved):
		return w.scale
	}
	return a.silence.Scale(w.scale, a.request(), w.tau)
}

// learnDemand finds D_o: what Redis counts, less what it holds of ours. Where
// that is not complete again the average may rise by it, not fall. Over a span
// of which Redis's count knows the end alone the average rises by no more than
// was charged: where all processes ask at the same time, replies see nothing
// but such times.
func (a *account) learnDemand(b *bucket, tat, total, clock, sent, now int64, w *world) {
	if a.heldAt != 0 {
		a.held = float32(demand.Decay(float64(a.held), time.Duration(clock-a.heldAt)*time.Microsecond, w.tau))
	}
	a.held += float32(float64(sent) / attemptsMilli)
	a.heldAt = clock
	before := a.others
	a.others = 0
	if w.fleet > 1 {
		a.others = max(0, float64(total)/attemptsMilli-float64(a.held)) / w.tau.Seconds()
	}
	span := time.Duration(now - a.exchanged)
	switch {
	case a.exchanged == 0:
		a.meanOthers = float32(a.others)
		return
	case span <= 0:
		return
	}
	went := demand.Between(before, a.others, span, w.tau)
	if b.mode == modeStale || now < a.holdUntil {
		went = max(went, float64(a.meanOthers))
	} else if span > 2*w.tau {
		if most, least := a.chargedOf(b, tat, now, w); went > most {
			went = least
		}
	}
	a.meanOthers = float32(a.slowMean(float64(a.meanOthers), went, span, now, w))
}

// chargedOf returns the most and the least that others have requested since the last
// reply, as rates, by how far the TAT has moved: by what they charged. The least holds
// if the bucket was full in between, for as long as it can have been; of a bucket that
// fills faster than news travels the TAT says no more than the most. A bucket below
// half its level has denied them as often as this process. If it has denied this
// process everything, their requests are taken to have come together with its own. Of
// few requests, or if few were denied though news says that the bucket was low before,
// both are unbounded.
func (a *account) chargedOf(b *bucket, tat, now int64, w *world) (most, least float64) {
	span, full, each := time.Duration(now-a.exchanged), seconds(b.burst/b.rate), 1.
	if a.marked(gaveBack) || a.inflight < 0 {
		return math.Inf(1), math.Inf(1)
	}
	if time.Duration(tat-now) > full/2 {
		few := float64(a.askedSince) < demand.SteadyRequests*a.request()
		low := a.said > later(now, full/2)
		switch {
		case full < w.wordTakes(), few && (low || a.inflight == 0):
			return math.Inf(1), math.Inf(1)
		case a.inflight == 0:
			together := a.others * w.tau.Seconds() / span.Seconds()
			return together, together
		case low && 2*a.inflight > a.askedSince:
			return math.Inf(1), math.Inf(1)
		}
		each = float64(a.askedSince) / float64(a.inflight)
	}
	charged := func(from int64) float64 {
		return max(0, time.Duration(tat-from).Seconds()*b.rate-float64(a.inflight)) * max(1, each) / span.Seconds()
	}
	most = charged(a.replied)
	if full < w.wordTakes() {
		return most, most
	}
	return most, charged(max(a.replied, now))
}

// hold keeps the bucket in share mode with at most its present share, while
// demand is being learnt anew.
func (a *account) hold(now int64, w *world) {
	if now >= a.holdUntil {
		a.heldShare = float32(a.share)
	}
	if !w.without.Has(outage.Holding) {
		a.holdUntil = later(now, w.hold)
	}
}

// forget drops what was learnt of demand from a Redis that has lost it. The
// bucket keeps its share until demand is learnt anew.
func (a *account) forget(b *bucket, now int64, w *world) {
	a.heldAt, a.held = 0, 0
	if b.mode == modeShare {
		a.hold(now, w)
	}
}

// floor is the last TAT seen, as far as it is believed.
func (a *account) floor(b *bucket, now int64) int64 {
	return min(a.tat, b.furthest(now, longestDebt))
}

// furthest is the latest TAT that is believed on another's word: an empty bucket, and
// a debt that takes so long to repay, an hour at most. Who told it may have lost its
// state, or have been wrong.
func (b *bucket) furthest(now int64, debt time.Duration) int64 {
	return later(later(now, seconds(b.burst/b.rate)), min(debt, longestDebt))
}

// outlasts reports whether a Redis that has lost the last TAT seen has to be
// told: it is still to come, or what is unreported was taken before it.
func (a *account) outlasts(now int64) bool {
	return a.tat > now || a.first != 0 && a.tat > a.first || a.inflight != 0 && a.tat > a.sentFirst
}

// refundable is how many of n tokens given back count: all that are not yet
// reported, and beyond them no more than fill the shared bucket.
func (a *account) refundable(b *bucket, n int64, now int64) int64 {
	unsaid := min(n, max(0, a.usage))
	level := b.levelAt(now)
	if a.exchanged != 0 {
		level = min(b.burst, a.sharedLevel(b, now, b.rate)) - a.unreported(b.rate)
	}
	missing := b.burst - level - float64(unsaid)
	return unsaid + int64(max(0, min(float64(n-unsaid), math.Floor(missing))))
}

// sharedLevel is B at now: the level of the fleet's one bucket as last seen,
// not clipped at full.
func (a *account) sharedLevel(b *bucket, now int64, rate float64) float64 {
	return b.burst - time.Duration(a.tat-now).Seconds()*rate
}

// regrant sets the bucket by what the last reply said (docs/design.md §4, Grant).
func (a *account) regrant(b *bucket, now int64, w *world) {
	a.regrantFor(b, a.own(now, w), now, w)
}

func (a *account) regrantFor(b *bucket, own float64, now int64, w *world) {
	rate := b.rate * a.scale(w)
	horizon := w.horizon()
	unclipped := (w.interval + w.rtt + max(w.interval, w.rtt)).Seconds() * rate
	level := min(a.sharedLevel(b, now, rate), b.burst+unclipped)
	share := demand.Share(a.steadied(own, w), a.others, b.rate, w.fleet)
	asked := max(a.others, float64(a.meanOthers)) + max(own, a.meanOwn)
	asked = asked*horizon + headroom*min(asked*horizon, b.burst)
	contended := w.fleet > 1 && asked > min(level, b.burst)+rate*horizon
	most, saved := math.Inf(1), a.request()
	if w.fleet > 1 && now < a.holdUntil {
		contended, share, saved = true, min(share, float64(a.heldShare)), a.saved(share*rate, w)
		most = b.levelAt(now) // the others may not have told yet what they used: a grant may take, not give
	}
	a.share = share
	b.at = now
	if contended {
		b.level = min(most, share*(level-a.untold(b, rate, share, w))-a.unreported(b.rate))
		b.grant = grant{
			refill:    share * rate,
			capacity:  min(b.burst, share*(b.burst+rate*horizon)+saved),
			threshold: b.threshold,
			mode:      modeShare,
		}
		a.alarm = addTokens(a.asked, shareAlarm(own*horizon))
	} else {
		b.level = min(level, b.burst) - a.unreported(b.rate)
		b.grant = grant{refill: max(0, rate-a.others), capacity: b.burst, threshold: 1, mode: modePool}
		a.alarm = addTokens(max(0, a.usage), poolAlarm(b.level, w))
	}
	a.expires = max(later(now, max(expiry*w.interval, lazyPeriod(b))), a.tat)
	a.until = min(a.expires, later(now, 2*(w.interval+w.rtt)))
}

// untold is the mean of the tokens that other processes have taken since their
// last reports, for a key with waiting callers:
//
//	(1 − w)·0.6·r·T · b/(b + r·T)
//
// Waiting callers take a grant at once, so a reply shows the usage of the others
// late. A small share suffers less from that than a large one, and got 31 % of
// the tokens for 25 % of the waiting callers. The last factor spares buckets that
// can't hold back so much.
func (a *account) untold(b *bucket, rate, share float64, w *world) float64 {
	if a.queued == 0 {
		return 0
	}
	round := rate * w.interval.Seconds()
	return (1 - share) * untoldPart * round * b.burst / (b.burst + round)
}

// lapse carries on with a grant that no reply has renewed for two rounds,
// because this process asks too seldom. What it was made by no longer holds:
// the demand of an instant would give every one of many such processes
// a share as if it asked all the time. Where the averages say that more is asked
// for than there is they give the share, as in an outage, and it is saved up.
func (a *account) lapse(b *bucket, now int64, w *world) bool {
	others := a.revertedMean(now, w)
	own := a.ownMean(now, w)
	rate := b.rate * a.scale(w)
	if w.fleet <= 1 || a.exchanged == 0 || own+others <= rate || now > max(later(a.exchanged, demand.SlowTau), a.tat) {
		a.until = a.expires
		return false
	}
	share := demand.Share(own, others, b.rate, w.fleet)
	a.share = share
	capacity := min(b.burst, share*(b.burst+rate*w.horizon())+a.request())
	level := min(b.levelAt(a.until), capacity)
	b.set(a.until, level)
	b.grant = grant{refill: share * rate, capacity: capacity, threshold: b.threshold, mode: modeShare}
	a.until = later(now, time.Second)
	return true
}

// steadied is own demand, drawn towards its long mean where it is made of few
// requests: else each of many processes that ask now and then would have, just
// after it has asked, a share as if it did so all the time.
func (a *account) steadied(own float64, w *world) float64 {
	trust := min(1, own*w.tau.Seconds()/(demand.SteadyRequests*a.request()))
	return a.meanOwn + trust*(own-a.meanOwn)
}

// poolAlarm is the usage at which a pool-mode key is told at once: about a
// quarter of its level, for a small burst the first token. A process alone has
// nobody to tell.
func poolAlarm(level float64, w *world) int64 {
	if w.fleet <= 1 {
		return maxTokens
	}
	return int64(max(1, clampTokens(level/alarmPart)))
}

// shareAlarm is the count of tokens asked for at which a share-mode key's demand
// has jumped, where so many are expected until the next reply: more than twice as
// many, and more than chance makes of few. Told of chance, a fleet with hundreds
// of contended keys makes four calls where three would do.
func shareAlarm(expected float64) int64 {
	chance := alarmDeviation*math.Sqrt(expected) - 1
	return int64(clampTokens(expected+max(expected, chance))) + 2
}

// metByNews reports whether news is all that is known of the fleet's bucket.
func (a *account) metByNews() bool { return a.exchanged == 0 && a.said != 0 }

// worthTelling reports whether the fleet should hear of a reply to a charge of
// this process: that it has taken the key below half of its burst, or a further
// quarter beyond what was last said of it. One charge alone crosses that line;
// where that went unheard, anybody tells after another quarter. An admission by news
// alone (byNews) is told at once, because processes that live for one decision know of
// each other by nothing else. Nothing is told that would be over before it is heard.
func (a *account) worthTelling(b *bucket, charged time.Duration, byNews bool, now int64, w *world) bool {
	full := int64(seconds(b.burst / b.rate))
	if a.tat-now < 2*int64(w.interval+w.rtt) {
		return false
	}
	if byNews && charged > 0 && a.tat > max(later(a.said, w.interval+w.rtt), now+full/2) {
		return true
	}
	line := max(a.said+full/4, now+full/2)
	return a.tat > line && (a.tat-int64(charged) <= line || a.tat > line+full/4)
}

// hear takes in what another process said of a key that is resident here. It
// may take from the bucket, not give; from a share its part of the new debt
// alone, or what it has saved up would be gone at every word.
func (a *account) hear(b *bucket, tat, demand, now int64, w *world) {
	tat = min(tat, b.furthest(now, seconds((w.fleet-1)*b.burst/b.rate))) // a burst of each other process: the rest is for the next reply to tell
	a.said = max(a.said, tat)
	if tat <= a.tat || b.mode == modeStale {
		return
	}
	debt := min(0, a.sharedLevel(b, now, b.rate))
	a.tat, a.expires = tat, max(a.expires, tat)
	level := b.levelAt(now)
	if b.mode == modeShare {
		b.set(now, level+a.share*min(0, a.sharedLevel(b, now, b.rate)-debt))
		return
	}
	a.others = max(a.others, float64(demand)/attemptsMilli/w.tau.Seconds()-a.own(now, w))
	a.regrant(b, now, w)
	b.level = min(b.level, level)
}

// hearReset forgets what was known of a key but for what is yet to be told.
func (a *account) hearReset(b *bucket, now int64, w *world) {
	a.said, a.tat, a.replied = 0, min(a.tat, now), min(a.replied, now)
	a.others, a.meanOthers, a.meanOwn, a.steadyThen = 0, 0, 0, 0
	if b.mode != modeStale && a.exchanged != 0 {
		a.regrant(b, now, w)
	}
}

// overshoot is how many tokens of a charge of this process the last reply found
// in debt.
func (a *account) overshoot(b *bucket, charged time.Duration, now int64) float64 {
	debt := -a.sharedLevel(b, now, b.rate)
	return max(0, min(debt, charged.Seconds()*b.rate))
}

// meet sets the bucket of a key whose grant has expired, or that was never
// exchanged: full, but for what this process has taken and not yet told, or by
// what was heard of it.
func (a *account) meet(b *bucket, now int64, w *world) {
	if a.exchanged == 0 && a.tat > now {
		a.regrantFor(b, a.own(now, w)+1/w.tau.Seconds(), now, w) // with the request that brings it here
		b.level = min(b.level, a.startLevel(b, now)-a.unreported(b.rate))
		return
	}
	b.grant = b.alone()
	b.level, b.at = a.startLevel(b, now)-a.unreported(b.rate), now
	a.alarm = addTokens(max(0, a.usage), poolAlarm(b.level, w))
	a.until = later(now, max(expiry*w.interval, lazyPeriod(b)))
	a.expires = a.until
}

// startLevel is the level that a bucket begins with before any reply: full, but
// for what is remembered of it.
func (a *account) startLevel(b *bucket, now int64) float64 {
	if a.exchanged != 0 {
		return b.burst
	}
	return b.levelUntil(a.replied, now)
}

// stale sets the bucket for an outage that began at since: the share that
// slow averages of demand give (docs/design.md §6).
func (a *account) stale(b *bucket, since, now int64, w *world) {
	if b.mode != modeStale {
		a.share = a.outageShare(b, since, w)
		b.at = max(since, a.met)
		b.level = a.outageLevel(b, b.at)
	} else {
		b.set(now, b.levelAt(now))
	}
	a.outageGrant(b, a.drifted(since, now, w), w)
	a.alarm = maxTokens // there is nobody to tell
	a.until = later(now, time.Second)
}

// outageGrant gives the bucket a share for an outage.
func (a *account) outageGrant(b *bucket, share float64, w *world) {
	b.grant = grant{
		refill:    share * b.rate,
		capacity:  min(b.burst, share*b.burst+a.saved(share*b.rate, w)),
		threshold: b.threshold,
		mode:      modeStale,
	}
	if w.fleet+w.lost <= 1 {
		b.grant = grant{refill: b.rate, capacity: b.burst, threshold: 1, mode: modeStale}
	}
}

// saved is the number of tokens that the bucket may hold beyond its part of the burst,
// in an outage and just after.
func (a *account) saved(refill float64, w *world) float64 {
	if w.without.Has(outage.Saving) {
		return a.request()
	}
	return outage.Allowance(a.request(), refill)
}

// outageLevel is the share of the shared level that is left at the instant at:
// what it was when the first unreported token was taken, refilled since, less
// what was taken. Clipped before that, a busy bucket would lose the refill of
// the time that it takes to notice an outage.
func (a *account) outageLevel(b *bucket, at int64) float64 {
	begin := at
	if a.first != 0 {
		begin = min(begin, a.first)
	}
	if a.inflight != 0 && a.sentFirst != 0 {
		begin = min(begin, a.sentFirst)
	}
	full := a.startLevel(b, begin)
	if a.exchanged != 0 {
		full = min(full, a.sharedLevel(b, begin, b.rate))
	}
	full += time.Duration(at-begin).Seconds() * b.rate
	return min(a.share*b.burst, a.share*full-a.unreported(b.rate))
}

func (a *account) outageShare(b *bucket, since int64, w *world) float64 {
	switch {
	case w.fleet+w.lost <= 1:
		return 1
	case a.exchanged == 0:
		return 1 / w.fleet
	}
	own, others := a.ownMean(since, w), a.othersMean(since, w)
	if a.wouldHear(b, w) {
		others = a.revertedMean(since, w)
	}
	if !w.without.Has(outage.Absence) {
		others = max(others, float64(a.silence.Then)-own) + float64(a.silence.Lost) // those that are cut off still ask
	}
	share := demand.Share(own, others, b.rate, w.fleet)
	return share + (1/w.fleet-share)*a.quiet(b, since, w)
}

// wouldHear reports whether there would be news of the key if others asked for
// more than there is: its bucket takes longer to fill than news to travel. Where
// no more than there is was asked for at last, there is nothing to tell.
func (a *account) wouldHear(b *bucket, w *world) bool {
	return seconds(b.burst/b.rate) > w.wordTakes() || a.others+float64(a.ownThen)+float64(a.queued) < b.rate
}

// quiet is how sure it is that a load which has left here since the last reply
// has stopped, rather than moved: many requests are missing, and there has been
// time to hear that the key runs low elsewhere, and no word of it. Nobody's
// share by the averages is then worth more than another's.
func (a *account) quiet(b *bucket, now int64, w *world) float64 {
	span := time.Duration(now - a.exchanged)
	low := a.tat > a.replied && later(a.tat, w.wordTakes()) > now // by another's word
	if span <= 0 || low || w.without.Has(outage.Stop) || !a.wouldHear(b, w) {
		return 0
	}
	requested := float64(a.askedSince+a.asked) + float64(a.queued)*span.Seconds()
	word := seconds(b.burst/(alarmPart*b.rate)) + w.wordTakes()
	return outage.StoppedConfidence(float64(a.steadyThen)*span.Seconds(), requested, a.request(), span, word)
}

// revertedMean is D̄_o at now for a key that there would be news of. Since the
// last reply the total is taken to have gone back, as demand decays, to its
// mean: the instant of a reply is one at which this process, and where requests
// come in clumps the others too, have just asked.
func (a *account) revertedMean(now int64, w *world) float64 {
	span := time.Duration(now - a.exchanged)
	if span <= 0 {
		return float64(a.meanOthers)
	}
	own := a.ownSinceReply(span, now, w)
	mean := float64(a.meanOthers)
	went := demand.Between(a.others, mean, span, w.tau)
	return a.slowMean(mean, went+max(0, float64(a.steadyThen)-own), span, now, w)
}

// othersMean is D̄_o at now where others may ask without a word of it. Since the
// last reply the total is taken to have stayed: what this process no longer asks
// has moved to others. Were D_o alone held, every process that a load has passed
// through would claim the whole.
func (a *account) othersMean(now int64, w *world) float64 {
	span := time.Duration(now - a.exchanged)
	if span <= 0 {
		return float64(a.meanOthers)
	}
	own := a.ownSinceReply(span, now, w)
	return a.slowMean(float64(a.meanOthers), a.others+max(0, a.steadied(float64(a.ownThen)+float64(a.queued), w)-own), span, now, w)
}

// ownSinceReply is the mean of own over the span since the last reply.
func (a *account) ownSinceReply(span time.Duration, now int64, w *world) float64 {
	return demand.Counted(a.askedSince+a.asked, float64(a.ownThen), a.demandAfter(now, w), span, w.tau) + float64(a.queued)
}

// drifted is the share of an outage by now: a process that was idle takes part
// after a while.
func (a *account) drifted(since, now int64, w *world) float64 {
	if w.without.Has(outage.Drift) {
		return a.share
	}
	return outage.ShareAfter(a.share, w.fleet, time.Duration(now-since))
}

// nextGrant is how long it is until the next reply may be expected.
func (a *account) nextGrant(now int64, w *world) time.Duration {
	if left := time.Duration(a.exchanged - now + int64(w.interval+w.rtt)); left > 0 {
		return left
	}
	return w.interval + w.rtt
}

// sharedDelay is how long until the fleet's one bucket is expected to hold n
// tokens beyond what this process has taken.
func (a *account) sharedDelay(b *bucket, n float64, now int64) time.Duration {
	level := min(b.burst, a.sharedLevel(b, now, b.rate)) - a.unreported(b.rate)
	return delay(level-n, b.rate)
}

// seconds is a duration of s seconds, held within its range.
func seconds(s float64) time.Duration {
	if s >= float64(forever)/1e9 {
		return time.Duration(forever)
	}
	return time.Duration(s * 1e9)
}

// maxTokens bounds every count of tokens: to it float64 is exact.
const maxTokens = 1 << 53

func clampTokens(n float64) float64 { return max(-maxTokens, min(n, maxTokens)) }

func addTokens(a, n int64) int64 { return max(-maxTokens, min(a+n, maxTokens)) }
