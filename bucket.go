package limiter

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter/internal/account"
	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/demand"
	"github.com/seed-e56e777b/limiter/internal/keyform"
	"github.com/seed-e56e777b/limiter/internal/limittext"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/table"
	"github.com/seed-e56e777b/limiter/internal/waitqueue"
)

// newBucket returns a full bucket with its limit to itself.
func newBucket(lim Limit, now mono.Time) bucket.Bucket {
	return bucket.New(float64(lim.Rate), float64(lim.Burst), now)
}

// limitOf returns the limit of a bucket.
func limitOf(b *bucket.Bucket) Limit {
	return Limit{Rate: rate.Limit(b.Rate), Burst: bucket.ToInt(b.Burst)}
}

// Limit is the size of a token bucket: it holds up to Burst tokens and is refilled at Rate
// tokens per second. [rate.Inf] admits everything, whatever the Burst. The zero Limit
// denies everything; it is valid for [Config.LimitFor] and [Limiter.SetLimit], not for
// [Config.Limit]. With Redis, a bucket of up to 2^31 tokens fills within 71 years,
// whatever the Rate.
type Limit struct {
	Rate  rate.Limit
	Burst int
}

// Per returns the limit of n tokens per d, with a burst of n: Per(100, 15*time.Minute). A
// bucket is full at the start, so up to 2n tokens are admitted in the first d, and n in
// each d after it. See [Limit.WithBurst] for a smaller burst.
func Per(n int, d time.Duration) Limit {
	return Limit{Rate: rate.Limit(float64(n) / d.Seconds()), Burst: n}
}

// WithBurst returns the limit with another burst. A burst of 1 admits requests one by one,
// evenly spaced.
func (l Limit) WithBurst(b int) Limit {
	l.Burst = b
	return l
}

// String returns the plainest text from which [ParseLimit] gets exactly this limit:
// "100/m", "100/15m", "10/h", "20/s burst 5", "unlimited"; of the zero Limit it is
// "0/s burst 0".
func (l Limit) String() string { return limittext.Format(float64(l.Rate), l.Burst) }

// MarshalText returns the text of String, or an error for a limit that [ParseLimit] would
// refuse. So a limit is a string in JSON and YAML.
func (l Limit) MarshalText() ([]byte, error) {
	if err := l.validate(); err != nil {
		return nil, fmt.Errorf("limiter: limit %q: %w", l, err)
	}
	return []byte(l.String()), nil
}

// UnmarshalText sets the limit to that of a text, by [ParseLimit]; so flag.TextVar reads a
// limit. After an error the limit is as before.
func (l *Limit) UnmarshalText(text []byte) error {
	parsed, err := ParseLimit(string(text))
	if err == nil {
		*l = parsed
	}
	return err
}

// ParseLimit returns the limit of a text: "100/15m" (100 tokens per 15 minutes, burst 100),
// "10/s burst 50", "0.5/s burst 10", "unlimited". The time is a unit with or without a
// number: s, sec, second; m, min, minute; h, hour; d, day (24 hours); a plural of these; or
// a duration of [time.ParseDuration], such as "1h30m".
func ParseLimit(s string) (Limit, error) {
	r, burst, err := limittext.Parse(s)
	l := Limit{Rate: rate.Limit(r), Burst: burst}
	if err == nil {
		err = l.validate()
	}
	if err != nil {
		return Limit{}, fmt.Errorf(`limiter: limit %q: %w; want "100/15m", "10/s burst 50" or "unlimited"`, s, err)
	}
	return l, nil
}

// fillable returns the limit with a rate at which a bucket fills within the time that Redis
// can keep.
func (l Limit) fillable() Limit {
	if l.Rate > 0 {
		l.Rate = max(l.Rate, rate.Limit(min(float64(l.Burst), maxBurst)*1e6/bucket.MaxMicros))
	}
	return l
}

func (l Limit) validate() error { return limittext.Check(float64(l.Rate), l.Burst) }

// Result is a decision with its details, as HTTP headers need them.
type Result struct {
	// Allowed is true if the tokens were taken, or if Shadow is true.
	Allowed bool
	// Shadow is true if the request was let through in shadow mode only (see
	// [Config.Shadow]). Nothing was taken, so there is nothing to refund.
	Shadow bool
	// Limit is the limit that was applied.
	Limit Limit
	// Remaining is the number of whole tokens that this process could admit now, one by
	// one; math.MaxInt without a limit.
	Remaining int
	// RetryAfter is 0 if allowed. If denied, it is above 0: the time until the fleet's
	// bucket is expected to hold enough, at least until the next grant, and in an outage
	// by the local bucket. Other processes may take the tokens first: a call at exactly
	// this time may be denied again, for about a SyncInterval. It is [rate.InfDuration]
	// if the cost exceeds the burst.
	RetryAfter time.Duration
	// ResetAfter is the time until the bucket is full, if nothing more is taken; in an
	// outage, for a key that was never exchanged, until this process's share is full.
	ResetAfter time.Duration
	// Age is the time since the exchange behind this decision: 0 without Redis, and -1
	// if there was none yet, or none in the last minutes.
	Age time.Duration
}

// result returns the result of a decision, while so many tokens wait.
func (k *lockedKey) result(now mono.Time, n int64, taken bool, waiting float64) Result {
	r := Result{Allowed: taken || k.flags.is(shadow), Shadow: !taken && k.flags.is(shadow), Limit: k.applied(), Age: k.age(now)}
	if k.flags.is(unlimited) {
		r.Remaining = math.MaxInt
		if k.account.Held(now) {
			r.Remaining, r.ResetAfter = 0, k.account.HeldUntil.Sub(now)
		}
		if !r.Allowed {
			r.RetryAfter = max(1, r.ResetAfter)
		}
		return r
	}
	if !k.flags.is(blocked) {
		r.Remaining = k.bucket.Remaining(now, waiting)
	}
	if !r.Allowed {
		r.RetryAfter = k.retryAfter(now, float64(n), waiting)
	}
	r.ResetAfter = k.resetAfter(now, waiting)
	return r
}

// tightness returns a number by which results of one decision are ordered: the larger, the
// less they leave to a next request of n tokens.
func (r *Result) tightness(n int64) int64 {
	switch {
	case !r.Allowed:
		return int64(r.RetryAfter) // the largest, if the cost can never be admitted
	case r.Shadow:
		return 1
	}
	return -int64(r.Remaining) / max(1, n)
}

// admits reports whether a cost of n is admitted at the given level. A hold is in the
// level, except under no limit.
func (k *lockedKey) admits(level, n float64) bool {
	if k.flags.is(unlimited | blocked) {
		return !k.account.Held(k.now) && (k.flags.is(unlimited) || n == 0)
	}
	return k.bucket.Admits(level, n)
}

// exceeds reports whether no level admits a cost of n.
func (k *lockedKey) exceeds(n float64) bool {
	return !k.flags.is(unlimited) && (n > k.bucket.Burst || k.flags.is(blocked) && n > 0)
}

// applied returns the limit by which decisions go.
func (k *lockedKey) applied() Limit {
	switch {
	case k.flags.is(unlimited):
		return Limit{Rate: rate.Inf}
	case k.flags.is(blocked):
		return Limit{}
	}
	return limitOf(&k.bucket)
}

// admitted reports whether a decision would admit a cost of n now.
func (k *lockedKey) admitted(now mono.Time, n int64) bool {
	level, cost := k.bucket.LevelAt(now), float64(n)
	return k.admits(level, cost) && (!k.flags.is(awaited) || k.admits(level-k.waiting(), cost))
}

// waiting returns the tokens for which callers wait.
func (k *lockedKey) waiting() float64 {
	if !k.flags.is(awaited) {
		return 0
	}
	return float64(k.shard.local.queues.Tokens(k.key()))
}

// delay returns the expected time until the bucket holds a cost. In a fleet it is at most
// that of the shared bucket, or the time until the next grant: by its present share alone,
// a process with little demand would wait for hours.
func (k *lockedKey) delay(now mono.Time, cost float64) time.Duration {
	d := bucket.Delay(k.bucket.LevelAt(now)-cost, k.bucket.Refill)
	if d == 0 || !k.fleetLevelKnown() {
		return d
	}
	a, p := k.account, k.shard.local.params.Load()
	return min(d, max(a.SharedDelay(&k.bucket, float64(k.buffer.Taken)+cost, now), a.NextGrant(now, p)))
}

// expectedWait returns the expected wait for n tokens behind all callers that wait already;
// -1: no wait would be long enough.
func (k *lockedKey) expectedWait(now mono.Time, n int64) time.Duration {
	switch {
	case k.flags.is(unlimited):
		return max(0, k.heldUntil().Sub(now))
	case k.exceeds(float64(n)):
		return -1
	}
	return k.delay(now, float64(n)+k.waiting())
}

// fleetLevelKnown reports whether the key's bucket is shared with other processes, and its
// shared level known.
func (k *lockedKey) fleetLevelKnown() bool {
	return k.exchanges() && k.bucket.Mode != bucket.Stale && k.account.RepliedAt != 0 && k.shard.local.params.Load().Fleet > 1
}

// retryAfter returns the time after which n tokens that were denied are expected to be
// there, behind the tokens that wait.
func (k *lockedKey) retryAfter(now mono.Time, n, waiting float64) time.Duration {
	if k.exceeds(n) {
		return rate.InfDuration
	}
	if !k.fleetLevelKnown() {
		d := bucket.Delay(k.bucket.LevelAt(now)-waiting-k.bucket.Need(n), k.bucket.Refill)
		return min(d, rate.InfDuration-1) + 1
	}
	a := k.account
	return max(a.SharedDelay(&k.bucket, n+waiting+float64(k.buffer.Taken), now), a.NextGrant(now, k.shard.local.params.Load()))
}

// age returns the time since the last exchange of the key; -1: there was none.
func (k *lockedKey) age(now mono.Time) time.Duration {
	switch {
	case k.needsAccount():
		return -1
	case !k.exchanges():
		return 0
	case k.account.RepliedAt == 0:
		return -1
	}
	return max(0, now.Sub(k.account.RepliedAt))
}

// resetAfter returns the time until the bucket is full, behind the tokens that wait.
func (k *lockedKey) resetAfter(now mono.Time, waiting float64) time.Duration {
	b := &k.bucket
	if k.exchanges() && k.account.RepliedAt != 0 {
		return k.account.SharedDelay(b, b.Burst+waiting+float64(k.buffer.Taken), now)
	}
	if b.Mode == bucket.Stale { // only the share is known
		return bucket.Delay(b.LevelAt(now)-waiting-b.Capacity, b.Refill)
	}
	return bucket.Delay(b.LevelAt(now)-waiting-b.Burst, b.Rate)
}

// hold admits nothing of the key before an instant.
func (k *lockedKey) hold(until, now mono.Time) {
	if k.account == nil {
		k.takeAccount(now)
	}
	k.promote()
	k.flush(now)
	k.account.Hold(&k.bucket, until, now)
}

// receiveHold applies a hold in the news, or one of this process after a reset in the
// news.
func (lo *local) receiveHold(field string, until mono.Time, own bool, now mono.Time) {
	lo.holds.Put(field, until, own)
	var k lockedKey
	if lo.findField(&k, field, now) {
		k.hold(until, now)
		k.close()
	}
}

// holdAgain applies a hold to a key that was not in memory, though it may have ended; 0:
// there is none.
func (k *lockedKey) holdAgain(until, now mono.Time) {
	switch {
	case until > now:
		k.hold(until, now)
	case until != 0 && k.bucket.Shared():
		k.bucket.Level = min(k.bucket.Level, k.bucket.Rate*mono.Elapsed(now.Sub(until)))
		if k.exchanges() {
			k.account.HeldUntil = until
			k.endHold(now)
		}
	}
}

// endHold ends a hold whose time has passed.
func (k *lockedKey) endHold(now mono.Time) {
	if k.account.EndHold(&k.bucket, now) && !k.account.Frozen {
		k.scheduleBy(now)
	}
}

// heldUntil returns the instant before which nothing of the key is admitted; 0: none.
func (k *lockedKey) heldUntil() mono.Time {
	if k.account == nil {
		return 0
	}
	return k.account.HeldUntil
}

// free reports whether the key has no limit and no hold.
func (k *lockedKey) free(now mono.Time) bool { return k.flags.is(unlimited) && !k.account.Held(now) }

// Reservation is a number of tokens taken ahead of time, with the instant from which they
// may be used. Copies of it are one reservation.
type Reservation struct {
	l          *Limiter
	key        string
	account    *account.Account // account of the key; nil: the key needs none
	generation uint32           // generation of the account, which another key may have by now
	id         uint64           // number in l.reservations, the same in all copies
	n          int64
	order      uint64    // place in the order of arrival of waiting callers; 0: none waited
	ahead      int64     // tokens that waited at the reservation
	act        mono.Time // instant from which the tokens may be used; a grant may bring it forward
	taken      int64     // lockedKey.totalUsage just after the reservation
	given      bool      // true if there are tokens to give back
	ok         bool
}

// reservations are the cancelled reservations, so that no copy is cancelled again.
type reservations struct {
	last atomic.Uint64 // id

	mu        sync.Mutex
	cancelled map[uint64]mono.Time // instants until which they could be cancelled again, by id
	sweepAt   int                  // size of cancelled at which expired ones are dropped
}

// cancel reports whether a reservation, which acts at the given instant, is cancelled for
// the first time.
func (r *reservations) cancel(id uint64, act, now mono.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, again := r.cancelled[id]; again {
		return false
	}
	if r.cancelled == nil {
		r.cancelled = map[uint64]mono.Time{}
	}
	if len(r.cancelled) >= r.sweepAt {
		maps.DeleteFunc(r.cancelled, func(_ uint64, act mono.Time) bool { return act < now })
		r.sweepAt = max(64, 2*len(r.cancelled))
	}
	r.cancelled[id] = act
	return true
}

// reserve takes n tokens, if they can ever be used, and closes the key.
func (l *Limiter) reserve(k *lockedKey, key string, now mono.Time, n int64) Reservation {
	defer k.unlock()
	d := k.expectedWait(now, n)
	if d < 0 && !k.flags.is(shadow) {
		k.count(false)
		return Reservation{l: l}
	}
	if d > 0 && k.exchanges() && now < k.account.RelearnUntil { // the others may not have reported yet
		d = bucket.Delay(k.bucket.LevelAt(now)-float64(n)-k.waiting(), k.bucket.Refill)
	}
	return l.reserveFor(k, key, now, n, d)
}

// reserveFor takes n tokens that may be used after d. In shadow mode it takes none if there
// would be a wait.
func (l *Limiter) reserveFor(k *lockedKey, key string, now mono.Time, n int64, d time.Duration) Reservation {
	if d != 0 && k.flags.is(shadow) {
		k.admitInShadow(now, n)
		return Reservation{l: l, act: now, ok: true}
	}
	k.count(true)
	if k.flags.is(unlimited) {
		return Reservation{l: l, act: now.Add(d), ok: true}
	}
	r := Reservation{l: l, key: key, id: l.reservations.last.Add(1), n: n, act: now.Add(d), given: true, ok: true}
	if k.account == nil && d > 0 {
		k.takeAccount(now)
	}
	k.promote()
	k.bucket.Charge(now, float64(n))
	k.bucket.LastEvent = r.act
	k.record(now, n, true)
	if a := k.account; a != nil {
		a.Reserved = max(a.Reserved, r.act)
		r.account, r.generation, r.taken = a, a.Generation, k.totalUsage()
	}
	if k.flags.is(awaited) {
		r.order, r.ahead = l.local.queues.Reserve(k.key(), n)
	}
	return r
}

// OK reports whether the tokens were taken: false if n exceeds the burst.
func (r Reservation) OK() bool { return r.ok }

// Delay returns the time to wait before acting; [rate.InfDuration] if the reservation is
// not OK. After an exchange it may turn out shorter, never longer.
func (r Reservation) Delay() time.Duration {
	if !r.ok {
		return rate.InfDuration
	}
	return r.left()
}

// left returns the time left to wait, which a grant may have shortened.
func (r *Reservation) left() time.Duration {
	now := r.l.now()
	var k lockedKey
	if r.act > now && r.account != nil && r.l.local.find(&k, keyform.Local(r.key), now) {
		r.shorten(&k, now)
		k.unlock()
	}
	return max(0, r.act.Sub(now))
}

// shorten brings the reservation forward as far as the key's grant allows.
func (r *Reservation) shorten(k *lockedKey, now mono.Time) {
	if !r.isOf(k) || !k.exchanges() || k.flags.is(awaited) {
		return
	}
	if a := k.account; a.RepliedAt != 0 && k.bucket.Mode != bucket.Stale && now >= a.RelearnUntil {
		d := a.SharedDelay(&k.bucket, float64(k.buffer.Taken)-float64(r.overtaken(k)), now)
		r.act = min(r.act, now.Add(d))
	}
}

// isOf reports whether the key's bucket has the reservation in it: the key was not evicted
// since.
func (r *Reservation) isOf(k *lockedKey) bool {
	return r.account == nil || k.account == r.account && k.account.Generation == r.generation
}

// Cancel gives back the tokens of the reservation that later ones have not overtaken, if it
// has not acted yet. A reservation without a delay has acted: use [Limiter.Refund]. Copies
// are one reservation: cancelling it again, or a copy of it, does nothing.
func (r Reservation) Cancel() {
	if !r.given {
		return
	}
	now := r.l.now()
	if r.act < now || !r.l.reservations.cancel(r.id, r.act, now) {
		return
	}
	var k lockedKey
	r.l.acquire(&k, r.key, now)
	k.flush(now)
	switch {
	case !r.isOf(&k):
		if r.n > 0 && !k.bucket.Unlimited() { // only the fleet learns of it: the bucket was not charged
			k.giveBack(now, r.n)
		}
	case !k.exchanges() && !k.bucket.Unlimited():
		r.unreserve(&k, int64(k.bucket.Unreserve(now, float64(r.n), r.act)))
	default:
		if n := min(r.n, r.n-r.overtaken(&k)); n > 0 && !k.bucket.Unlimited() {
			k.giveBack(now, n)
			k.bucket.Refund(now, float64(n))
			r.unreserve(&k, n)
		}
	}
	k.account.KeepHeld(&k.bucket, 0, now)
	k.close()
}

// overtaken returns the number of tokens taken after the reservation, except by callers
// that waited before it.
func (r *Reservation) overtaken(k *lockedKey) int64 { return max(0, k.totalUsage()-r.taken-r.ahead) }

// unreserve takes note that n tokens of the reservation are in the bucket again.
func (r *Reservation) unreserve(k *lockedKey, n int64) {
	if k.flags.is(awaited) && r.order != 0 {
		r.l.local.queues.Unreserve(k.key(), r.order, n)
	}
}

// Estimate is a number of tokens taken for a cost that is known only afterwards. Copies of
// it are one estimate. The zero Estimate has taken nothing.
type Estimate struct {
	part    Part
	result  Result
	settled *atomic.Bool // the same in all copies; nil: nothing was taken
}

// Estimate takes n tokens as [Limiter.TakeN] does, for a cost that is known only
// afterwards. Then [Estimate.Settle] charges or refunds the difference:
//
//	e, r := l.Estimate("tenant:7", 2500)
//	if !r.Allowed {
//		return errDenied
//	}
//	e.Settle(ask(prompt)) // the tokens used
func (l *Limiter) Estimate(key string, n int) (Estimate, Result) {
	e := Estimate{part: l.Part(key, n), result: l.TakeN(key, n)}
	if e.took() {
		e.settled = new(atomic.Bool)
	}
	return e, e.result
}

// Estimate is [Limiter.Estimate].
func (k *Key) Estimate(n int) (Estimate, Result) { return k.l.Estimate(k.key, n) }

// EstimateAll takes the tokens of all parts, or none, as [TakeAll] does, and returns an
// estimate for each part beside the result and the index of the tightest. Settle those
// whose cost was estimated; the others stay as they are:
//
//	es, r, _ := limiter.EstimateAll(requests.Part(tenant, 1), tokens.Part(tenant, 2500))
//	if !r.Allowed {
//		return errDenied
//	}
//	es[1].Settle(ask(prompt)) // the tokens used
//
// After a denial there is nothing to settle, and [Estimate.Result] says which parts denied.
func EstimateAll(parts ...Part) (es []Estimate, r Result, tightest int) {
	es = make([]Estimate, len(parts))
	r, tightest = takeAll(parts, es)
	settled := make([]atomic.Bool, len(parts))
	for i, p := range parts {
		first := slices.IndexFunc(parts, func(q Part) bool { return q.l == p.l && q.key == p.key })
		es[i] = Estimate{part: p, result: es[first].result}
		if r.Allowed && es[i].took() {
			es[i].settled = &settled[i]
		}
	}
	return es, r, tightest
}

// takeAll is [TakeAll]. Unless es is nil, it has an estimate for each part: takeAll sets
// the result of the first one on each key.
func takeAll(parts []Part, es []Estimate) (r Result, tightest int) {
	var room [fewParts]stake
	stakes := lockAll(stakesOf(parts, room[:0]))
	defer unlockAll(stakes)
	allowed := true
	for i := range stakes {
		s := &stakes[i]
		s.ok = s.locked.flags.is(shadow) || s.locked.admitted(s.now, s.cost)
		allowed = allowed && s.ok
	}
	r, tightest = Result{Allowed: true, Remaining: math.MaxInt}, -1
	most := int64(math.MinInt64)
	for i := range stakes {
		s := &stakes[i]
		if s.ok != allowed { // another part denies: this one takes and counts nothing
			if es != nil {
				es[s.index].result = s.locked.result(s.now, s.cost, s.locked.admitted(s.now, s.cost), s.locked.waiting())
			}
			continue
		}
		taken := s.locked.decide(s.now, s.cost)
		own := s.locked.result(s.now, s.cost, taken, s.locked.waiting())
		if es != nil {
			es[s.index].result = own
		}
		if t := own.tightness(s.cost); t > most {
			r, tightest, most = own, s.index, t
		}
	}
	return r, tightest
}

// took reports whether the decision that admitted the estimate took its tokens: not in
// shadow mode, and not without a limit.
func (e *Estimate) took() bool {
	return e.result.Allowed && !e.result.Shadow && e.result.Remaining != math.MaxInt
}

// Result returns the result of the decision. After [EstimateAll] it is that of the part,
// for all of its key's tokens: if another part denied, it is Allowed where this one would
// have admitted, and nothing was taken.
func (e Estimate) Result() Result { return e.result }

// Name returns the name that [Part.Named] gave to the part; "" if it has none.
func (e Estimate) Name() string { return e.part.name }

// Settle charges or refunds the difference between the estimate and the actual cost, in
// tokens, as [Limiter.Charge] and [Limiter.Refund] do: by the limit that the key has now. A
// cost above the estimate may leave a debt, above the burst too; one below never fills the
// bucket above its burst. A negative cost counts as 0.
//
// Only the first call has an effect, over copies and goroutines too. An estimate that is
// never settled stays as it is. Settle does nothing if the estimate took nothing, because
// it was denied, or admitted in shadow mode only ([Result].Shadow), or without a limit.
func (e Estimate) Settle(actual int) {
	if e.settled == nil || e.settled.Swap(true) {
		return
	}
	more := tokens(actual) - tokens(e.part.n)
	if more == 0 {
		return
	}
	l, now := e.part.l, e.part.l.now()
	var k lockedKey
	l.acquire(&k, e.part.key, now)
	if more > 0 {
		k.charge(now, more)
	} else {
		k.refund(now, -more)
	}
}

// joinQueue puts a cost into the queue of the key, and counts it as demand. The name is the
// one by which serve finds the key.
func (k *lockedKey) joinQueue(name string, now mono.Time, n int64) *waitqueue.Waiter {
	k.record(now, n, false)
	k.setAwaited(true)
	return k.shard.local.queues.Join(k.key(), name, n, now)
}

// serve admits callers that wait for the key, as far as its bucket does. While some are
// left, the key is exchanged in every round. It is called after each change that may let
// them go on, and when a turn has come.
func (k *lockedKey) serve() {
	lo := k.shard.local
	now := mono.Now(lo.base)
	k.refresh(now)
	k.flush(now)
	b := k.awaited(now)
	left := lo.queues.Serve(k.key(), b, now)
	*k = b.k
	k.countQueue()
	k.setAwaited(left)
	if k.exchanges() && !k.account.Frozen && (left || k.account.Is(account.ReportedQueue)) {
		k.scheduleBy(k.account.Soonest(now, lo.params.Load()))
	}
}

// awaitedBucket is the bucket of a key with waiting callers, for waitqueue. It has a copy of
// the key, so that the key itself need not be on the heap.
type awaitedBucket struct {
	k   lockedKey
	now mono.Time
}

func (k *lockedKey) awaited(now mono.Time) *awaitedBucket { return &awaitedBucket{*k, now} }

// countQueue counts the tokens that wait as demand, as if each was requested again in every
// interval, so that shares follow queues.
func (k *lockedKey) countQueue() {
	if k.exchanges() {
		interval := k.shard.local.params.Load().Tau / demand.TauIntervals
		k.account.Queued = float32(k.waiting() / interval.Seconds())
	}
}

// Exceeds reports whether a cost exceeds the burst.
func (b *awaitedBucket) Exceeds(n int64) bool {
	return !b.k.flags.is(shadow) && b.k.exceeds(float64(n))
}

// Turn returns the instant at which the present grant admits a cost.
func (b *awaitedBucket) Turn(from mono.Time, n, extra int64) mono.Time {
	k := &b.k
	switch {
	case k.flags.is(shadow):
		return from
	case k.flags.is(unlimited):
		return max(from, k.heldUntil())
	}
	from = max(from, k.bucket.At)
	more := float64(extra)
	if more > 0 && k.bucket.Mode == bucket.Share {
		more *= k.account.Share // the rest of the reserved tokens is for the others to wait for
	}
	level, cost := k.bucket.LevelAt(from)+more, float64(n)
	if k.admits(level, cost) {
		return from
	}
	if !k.admits(k.bucket.Capacity+more, cost) {
		if k.account != nil {
			k.account.Cost = max(k.account.Cost, float32(n)) // for the next grant to have room for it
		}
		return mono.Never
	}
	return from.Add(bucket.Delay(level-k.bucket.Need(cost), k.bucket.Refill))
}

// Take takes a cost as of an instant that Turn returned.
func (b *awaitedBucket) Take(at mono.Time, n int64) {
	k := &b.k
	if k.flags.is(shadow) {
		k.admitInShadow(b.now, n)
		return
	}
	k.count(true)
	if k.flags.is(unlimited) {
		return
	}
	k.bucket.Set(at, k.bucket.LevelAt(at)-float64(n))
	k.bucket.LastEvent = max(k.bucket.LastEvent, at)
	if n == 0 || !k.exchanges() {
		return
	}
	p := k.shard.local.params.Load()
	k.account.Count(max(at, k.account.CountedAt), 0, n, k.bucket.Rate, p)
	k.schedule(b.now, true, p)
	if k.bucket.Mode == bucket.Stale {
		k.redrawThreshold(p)
	}
}

// Until returns the instant at which the grant has to be looked at again.
func (b *awaitedBucket) Until() mono.Time {
	if !b.k.exchanges() {
		return mono.Never
	}
	return max(b.k.account.Until, b.now.Add(time.Millisecond))
}

// wait takes n tokens, or a place in the key's queue, closes the key, and waits.
func (l *Limiter) wait(ctx context.Context, k *lockedKey, key string, now mono.Time, n int64) error {
	if k.flags.is(shadow) || k.admitted(now, n) {
		k.allow(now, n)
		return nil
	}
	p, err := k.enqueue(ctx, key, now, n)
	k.close()
	if err != nil {
		return err
	}
	select {
	case <-p.Ready():
	case <-ctx.Done():
		if l.local.queues.Leave(p) {
			return ctx.Err()
		}
	}
	if p.Refused() { // the limit has changed
		return l.local.refusal(key, n)
	}
	return nil
}

// refusal returns the error of a wait for more tokens than the key's burst by now.
func (lo *local) refusal(key string, n int64) error {
	var k lockedKey
	if !lo.find(&k, keyform.Local(key), mono.Now(lo.base)) { // evicted since: its limit is not known any more
		return &limiterError{lo.prefix, fmt.Errorf("%w: %d tokens of %q", ErrExceedsBurst, n, key)}
	}
	defer k.unlock()
	return k.waitError(key, n, -1)
}

// enqueue puts a cost into the key's queue, unless it would be served too late, or never.
// The name is the caller's form of the key.
func (k *lockedKey) enqueue(ctx context.Context, name string, now mono.Time, n int64) (*waitqueue.Waiter, error) {
	k.flush(now)
	if d := k.expectedWait(now, n); d < 0 || d > longestWait(ctx) {
		k.count(false)
		k.record(now, n, false)
		return nil, k.waitError(name, n, d)
	}
	return k.joinQueue(name, now, n), nil
}

// longestWait returns the longest wait that the deadline of ctx allows.
func longestWait(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return rate.InfDuration
}

// waitError returns the error of a wait of d for n tokens that was not begun; a negative d
// stands for a wait without end.
func (k *lockedKey) waitError(name string, n int64, d time.Duration) error {
	prefix := k.shard.local.prefix
	if d < 0 {
		lim := k.applied()
		return &limiterError{prefix, fmt.Errorf("%w: %d tokens of %q, whose limit %v has a burst of %d", ErrExceedsBurst, n, name, lim, lim.Burst)}
	}
	return &limiterError{prefix, fmt.Errorf("limiter: a wait of %v for %q would pass the deadline: %w", d, name, context.DeadlineExceeded)}
}

// fewParts is the number of parts up to which a decision on several allocates nothing.
const fewParts = 4

// lockTries is the number of times that a decision on several looks for its keys.
const lockTries = 3

// stake is the state of one key in a decision on several.
type stake struct {
	Part
	digest [keyform.MaxKey + 1]byte // of a long key
	shard  *shard
	hash   uint64
	index  int   // of the first part on the key
	cost   int64 // of all parts on the key
	now    mono.Time
	slot   table.Ref // of the key when it was found
	locked lockedKey // while it is locked
	gone   bool
	ok     bool
	place  waitqueue.Place // in the key's queue, of WaitAll
	placed bool            // true if the place is still held
}

// localKey returns the local key of the stake, in memory of the stake if it is a digest.
func (s *stake) localKey() string {
	if len(s.key) > keyform.MaxKey {
		return table.Digest(s.key, keyform.DigestSize, s.digest[:])
	}
	return s.key
}

// stakesOf puts the keys of the parts into room, which grows if there are many. It reads
// the clock once: the clocks of two limiters differ by their base.
func stakesOf(parts []Part, room []stake) []stake {
	if len(parts) == 0 {
		return room
	}
	first := parts[0].l
	now := first.now()
	for i, p := range parts {
		j := 0
		for j < len(room) && (room[j].l != p.l || room[j].key != p.key) {
			j++
		}
		if j == len(room) {
			room = append(room, stake{Part: p, index: i, now: now.Add(first.base.Sub(p.l.base))})
			room[j].shard, room[j].hash = p.l.local.locate(room[j].localKey())
		}
		room[j].cost = bucket.AddTokens(room[j].cost, tokens(p.n))
	}
	return room
}

// lockAll finds the keys of all stakes, renews their grants, and locks them in the order
// of their addresses, which is the same for all callers. A key that was evicted for a
// later one is looked for again, a few times. If the keys don't all fit into memory, the
// last ones become orphans, which loses no more than an eviction after the decision.
func lockAll(stakes []stake) []stake {
	for tries := 1; ; tries++ {
		for i := range stakes {
			stakes[i].find(tries)
		}
		for s := nextSlot(stakes, nil); s != nil; s = nextSlot(stakes, s) {
			s.Lock()
		}
		again := false
		for i := range stakes {
			again = stakes[i].check(tries) || again
		}
		if !again {
			break
		}
		for s := nextSlot(stakes, nil); s != nil; s = nextSlot(stakes, s) {
			s.Unlock()
		}
	}
	for i := range stakes {
		s := &stakes[i]
		if s.locked.orphan == nil {
			s.locked.load(s.shard, s.slot, s.now)
		}
		s.locked.refresh(s.now)
	}
	return stakes
}

// find finds the key. If it was evicted again after the last try, find makes it an orphan.
func (s *stake) find(tries int) {
	k := &s.locked
	switch {
	case tries <= lockTries:
		s.l.acquire(k, s.key, s.now)
		s.slot = k.slot
		k.unlock()
	case s.gone:
		r := s.l.ruleOf(s.key)
		s.shard.makeOrphan(k, s.localKey(), r.limit, s.now)
		k.flags.mark(shadow, r.shadow)
		s.slot = table.Ref{}
	}
}

// check reports whether the key, now that its slot is locked, was evicted since it was
// found, or needs its limit from the configuration. The last try leaves that to the next
// decision.
func (s *stake) check(tries int) bool {
	if s.slot.Slot == nil {
		s.gone = false
		return false
	}
	s.gone = !s.shard.keys.Holds(s.slot, s.hash, s.localKey()) || tries < lockTries && flags(s.slot.Flags).is(relimited)
	return s.gone
}

func unlockAll(stakes []stake) {
	for i := range stakes {
		if k := &stakes[i].locked; k.orphan == nil {
			if k.flags.is(awaited) {
				k.serve()
			}
			k.save()
		}
	}
	for s := nextSlot(stakes, nil); s != nil; s = nextSlot(stakes, s) {
		s.Unlock()
	}
	for i := range stakes {
		if s := &stakes[i]; s.locked.orphan != nil {
			s.shard.adoptOrphan(&s.locked, s.now)
		}
	}
}

// nextSlot returns the slot of a stake that follows another one in the order of addresses,
// which never change.
func nextSlot(stakes []stake, after *table.Slot) (next *table.Slot) {
	for i := range stakes {
		s := stakes[i].slot.Slot
		if s != nil && (after == nil || after.Before(s)) && (next == nil || s.Before(next)) {
			next = s
		}
	}
	return next
}

// try sets ok if the stake's tokens may be taken, from its place in the queue or behind the
// queue.
func (s *stake) try() error {
	k := &s.locked
	if k.flags.is(shadow) || k.free(s.now) {
		s.ok = true
		return nil
	}
	if k.exceeds(float64(s.cost)) {
		return k.waitError(s.key, s.cost, -1)
	}
	if s.placed = s.place.Queued(); !s.placed {
		s.ok = k.admitted(s.now, s.cost)
		return nil
	}
	k.flush(s.now)
	s.ok = s.place.Admits(k.awaited(s.now), s.now)
	return nil
}

// take takes the stake's tokens and gives up its place.
func (s *stake) take() {
	if !s.placed {
		s.locked.decide(s.now, s.cost)
		return
	}
	s.leave()
	s.locked.flush(s.now)
	b := s.locked.awaited(s.now)
	b.Take(s.now, s.cost)
	s.locked = b.k
}

// leave gives up the stake's place, if it has one.
func (s *stake) leave() {
	s.place.Leave()
	s.place = waitqueue.Place{}
}
