package limiter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/redisstore"
	"github.com/seed-e56e777b/limiter/internal/table"
	"github.com/seed-e56e777b/limiter/internal/waitqueue"
)

// Errors to match with [errors.Is], beside those of the context.
var (
	// ErrExceedsBurst: the cost is larger than the burst, so that no wait
	// would ever be long enough.
	ErrExceedsBurst = errors.New("limiter: cost exceeds burst")
	// ErrClosed: the limiter no longer exchanges anything.
	ErrClosed = errors.New("limiter: closed")
)

// limiterError is an error of one limiter: its text names it, by
// [Config.Prefix].
type limiterError struct {
	prefix string
	err    error
}

// Error returns the text of the error, which begins with "limiter: ", with the
// name in that.
func (e *limiterError) Error() string {
	return fmt.Sprintf("limiter %q: %s", e.prefix, strings.TrimPrefix(e.err.Error(), "limiter: "))
}

// Unwrap returns the error without the name.
func (e *limiterError) Unwrap() error { return e.err }

// Limit is a token bucket: it holds up to Burst tokens and is refilled at Rate
// tokens per second. [rate.Inf] admits everything, whatever the Burst. The
// zero Limit, Rate 0 and Burst 0, denies everything; it is valid for
// [Config.LimitFor] and [Limiter.SetLimit], not for [Config.Limit]. With Redis a bucket
// of up to 2^31 tokens fills within 71 years, whatever the Rate.
type Limit struct {
	Rate  rate.Limit
	Burst int
}

// Per is the limit of n tokens per d, all of which may be taken at once:
// Per(100, 15*time.Minute).
func Per(n int, d time.Duration) Limit {
	return Limit{Rate: rate.Limit(float64(n) / d.Seconds()), Burst: n}
}

// WithBurst returns the limit with another burst.
func (l Limit) WithBurst(b int) Limit {
	l.Burst = b
	return l
}

// String returns the limit in the form that [ParseLimit] reads: "100/15m0s"
// where [Per] of the burst gives the limit exactly, "0.5/s burst 10"
// elsewhere, "unlimited" for an infinite rate.
func (l Limit) String() string {
	if l.Rate == rate.Inf {
		return "unlimited"
	}
	if d := seconds(float64(l.Burst) / float64(l.Rate)).Round(time.Millisecond); d > 0 && Per(l.Burst, d) == l {
		return fmt.Sprintf("%d/%v", l.Burst, d)
	}
	return strconv.FormatFloat(float64(l.Rate), 'g', -1, 64) + "/s burst " + strconv.Itoa(l.Burst)
}

// ParseLimit reads a limit: "100/15m" (100 tokens per 15 minutes, burst 100),
// "10/s burst 50", "0.5/s burst 10", "unlimited". The time is a number with a
// unit that [time.ParseDuration] knows, or a unit alone.
func ParseLimit(s string) (Limit, error) {
	l, err := parseLimit(s)
	if err == nil {
		err = l.validate()
	}
	if err != nil {
		return Limit{}, fmt.Errorf(`limiter: limit %q: %w; want "100/15m", "10/s burst 50" or "unlimited"`, s, err)
	}
	return l, nil
}

func parseLimit(s string) (Limit, error) {
	words := strings.Fields(s)
	if len(words) == 1 && words[0] == "unlimited" {
		return Limit{Rate: rate.Inf}, nil
	}
	if len(words) != 1 && (len(words) != 3 || words[1] != "burst") {
		return Limit{}, errors.New("not understood")
	}
	count, per, ok := strings.Cut(words[0], "/")
	if !ok {
		return Limit{}, errors.New("no time given")
	}
	n, err := strconv.ParseFloat(count, 64)
	if err != nil {
		return Limit{}, fmt.Errorf("%q is no number", count)
	}
	if per != "" && (per[0] < '0' || per[0] > '9') && per[0] != '.' {
		per = "1" + per
	}
	d, err := time.ParseDuration(per)
	if err != nil || d <= 0 {
		return Limit{}, fmt.Errorf("%q is no time", per)
	}
	if len(words) == 1 {
		if n < 1 || n != math.Trunc(n) || n > maxTokens {
			return Limit{}, fmt.Errorf("%q is no whole number from 1, and no burst is given", count)
		}
		return Per(int(n), d), nil
	}
	burst, err := strconv.Atoi(words[2])
	if err != nil {
		return Limit{}, fmt.Errorf("%q is no burst", words[2])
	}
	return Limit{Rate: rate.Limit(n / d.Seconds()), Burst: burst}, nil
}

// fillable is the limit of a bucket whose time to fill can be told in Redis.
func (l Limit) fillable() Limit {
	if l.Rate > 0 {
		l.Rate = max(l.Rate, rate.Limit(min(float64(l.Burst), hugeBurst)*1e6/maxMicros))
	}
	return l
}

func (l Limit) validate() error {
	r := float64(l.Rate)
	switch {
	case math.IsNaN(r), r < 0, math.IsInf(r, 0):
		return fmt.Errorf("rate %v: want a finite number of tokens per second from 0, or rate.Inf", r)
	case l.Burst < 0:
		return fmt.Errorf("burst %d is negative", l.Burst)
	case r == 0 && l.Burst > 0:
		return fmt.Errorf("rate 0 with burst %d: a burst that never comes back", l.Burst)
	case r > 0 && l.Rate != rate.Inf && l.Burst == 0:
		return fmt.Errorf("burst 0 with rate %v would deny everything", r)
	}
	return nil
}

// Config says what to limit and where to share it. Only Limit is required.
type Config struct {
	// Limit is every key's limit unless LimitFor says otherwise.
	Limit Limit
	// LimitFor gives a key its own limit; !ok means Limit. It is called when a
	// key becomes resident, after [Limiter.Reload], and by Reset and by Peek of a key
	// that is not resident. It runs on the goroutine that asks about the key or,
	// for callers that wait, on a timer's, never under a lock, maybe on many at
	// once: one that blocks holds up its key alone. An invalid limit counts as
	// !ok, and in [Stats]. Nil means Limit for all.
	LimitFor func(key string) (l Limit, ok bool)
	// Shadow says of a key that its limit is only on trial: decisions over it
	// are counted, in Stats.Shadowed, and let through without taking anything,
	// as a denial takes nothing; Wait and Reserve never wait. It is called when
	// LimitFor is, likewise never under a lock. Nil means that every limit holds.
	Shadow func(key string) bool
	// Redis is where the fleet shares its limits: a standalone, Sentinel,
	// Cluster or Ring client, owned by the caller, who closes it after the
	// limiter. [Tune] makes the best of one. Nil: purely local, no goroutine.
	Redis redis.UniversalClient
	// Prefix is the namespace of all keys in Redis. Processes that share
	// limits have the same; limits of different kinds, say two windows on the
	// same keys, have different ones, and may share a client. Default "limiter".
	Prefix string
	// KeySecret, at least 16 bytes, keeps the text of keys out of Redis: what
	// is sent in place of a key is its HMAC-SHA-256 under the secret, cut to 16
	// bytes. All processes that share limits have the same; one with another
	// secret, or with none, meets every key as a fresh one, and so does the
	// fleet when the secret changes. In this process keys up to 64 bytes are
	// still held as they are. [Limiter.Reload] then acts at each key's next
	// decision. Nil: keys travel as they are, those above 64 bytes as digests
	// that anybody can compute.
	KeySecret []byte
	// MaxKeys bounds the keys resident in this process; one that has not been
	// used of late makes room. More cost memory, fewer make keys in use forget their
	// debts. Default 65536.
	MaxKeys int
	// SyncInterval is T, the time between two exchanges of a busy key, from
	// 1 ms to 1 minute. A longer one costs Redis less and converges later; the
	// same in all processes. Default 100 ms.
	SyncInterval time.Duration
	// Processes is the size of the fleet to assume until Redis has told:
	// before that, each process admits 1/Processes of every limit. With an
	// autoscaler it is the largest number of processes. Default 1: a process that
	// has never reached Redis then admits the full limit by itself, as each of the
	// others does. The log warns of that, and New too where Processes is not set.
	Processes int
	// Logger receives changes of state, except where they follow each other fast;
	// once a minute, while Redis can't be used, why; and the warnings of New. Lines
	// are written on a goroutine of their own: a Logger that blocks holds up
	// nothing. Of the lines that wait for it the newest 64 are kept; the next one
	// written says how many are missing, as lines_dropped. Default [slog.Default].
	Logger *slog.Logger
	// OnChange is called on every change of [Status.State] except that of Close, in
	// order, on a goroutine of its own. It may block: of the changes that wait for
	// it the newest 64 are kept.
	OnChange func(Status)
}

const (
	hugeBurst       = 1 << 31 // tokens that nobody takes at once
	defaultPrefix   = "limiter"
	minSecret       = 16 // bytes: 128 random bits are beyond guessing
	defaultMaxKeys  = 65536
	defaultInterval = 100 * time.Millisecond
	minInterval     = time.Millisecond
	maxInterval     = time.Minute
)

// checked returns the configuration with its defaults, or all its faults.
func (c Config) checked() (Config, error) {
	var faults []error
	if c.Prefix == "" {
		c.Prefix = defaultPrefix
	}
	fault := func(field string, err error) {
		if err != nil {
			faults = append(faults, &limiterError{c.Prefix, fmt.Errorf("limiter: Config.%s: %w", field, err)})
		}
	}
	if (c.Limit == Limit{}) {
		fault("Limit", errors.New("required, and the zero Limit would deny everything"))
	} else {
		fault("Limit", c.Limit.validate())
	}
	if c.KeySecret != nil && len(c.KeySecret) < minSecret {
		fault("KeySecret", fmt.Errorf("%d bytes: want at least %d, or nil for none", len(c.KeySecret), minSecret))
	}
	if c.MaxKeys < 0 || c.MaxKeys > math.MaxInt32 {
		fault("MaxKeys", fmt.Errorf("%d: want 0 (default) to %d", c.MaxKeys, math.MaxInt32))
	}
	if c.SyncInterval != 0 && (c.SyncInterval < minInterval || c.SyncInterval > maxInterval) {
		fault("SyncInterval", fmt.Errorf("%v: want %v to %v", c.SyncInterval, minInterval, maxInterval))
	}
	if c.Processes < 0 {
		fault("Processes", fmt.Errorf("%d is negative", c.Processes))
	}
	if v := reflect.ValueOf(c.Redis); v.Kind() == reflect.Pointer && v.IsNil() {
		fault("Redis", fmt.Errorf("a nil %T: leave the field out for a local limiter", c.Redis))
	}
	if c.MaxKeys == 0 {
		c.MaxKeys = defaultMaxKeys
	}
	if c.SyncInterval == 0 {
		c.SyncInterval = defaultInterval
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, errors.Join(faults...)
}

// Tune fills the zero fields of o with what a limiter's own client should
// have: short timeouts, no retries inside the client, a pool of up to 100
// connections, of which few are ever opened, and a Dialer that guards the process against its server; and returns o.
//
//	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: addrs}))
//
// The Dialer dials by DialTimeout and TLSConfig of o, which it reads at each dial:
// set them there, not in options made from o, and don't change them later. It
// ends a connection on which a reply claims more than 16 MiB, a line more than
// 64 KiB, or values are more than 32 deep; go-redis alone would allocate what is
// claimed before it has come, and the process might die of it. Put it into the
// options of other clients of go-redis to guard those.
//
// A client shared with the rest of the program works too: its retries are
// harmless and its long timeouts delay nothing but the return from an outage.
func Tune(o *redis.UniversalOptions) *redis.UniversalOptions { return redisstore.Tune(o) }

// Limiter decides by key. Make one with [New]; the zero Limiter can't be used.
// All methods may be called from any goroutine.
type Limiter struct {
	base     time.Time
	local    *local
	syncer   *syncer // nil without Redis
	limitFor func(string) (Limit, bool)
	shadow   func(string) bool

	changing  sync.Mutex    // one SetLimit or Reload at a time
	limits    atomic.Uint64 // counts changes of limit and limitFor
	badLimits atomic.Uint64

	reservations reservations
}

// New returns a limiter, or all the faults of cfg at once. It never dials and
// never blocks: starting without Redis is normal.
func New(cfg Config) (*Limiter, error) {
	checked, err := cfg.checked()
	if err != nil {
		return nil, err
	}
	if cfg.Redis == nil {
		return newLimiter(checked, nil, 0, rand.Uint64()), nil
	}
	store, seed := redisstore.Open(cfg.Redis, checked.Prefix), rand.Uint64()
	if sim, ok := store.(exchange.Simulated); ok {
		seed = sim.Seed()
	}
	return newLimiter(checked, store, store.Partitions(), seed), nil
}

// newLimiter makes a limiter on a store that may be none, by a checked
// configuration. Thresholds and names come from the seed.
func newLimiter(cfg Config, s exchange.Exchanger, partitions int, seed uint64) *Limiter {
	l := &Limiter{
		base:     time.Now(),
		local:    newLocal(cfg.MaxKeys, partitions, seed, bytes.Clone(cfg.KeySecret)),
		limitFor: cfg.LimitFor,
		shadow:   cfg.Shadow,
	}
	l.local.prefix, l.local.base, l.local.due = cfg.Prefix, l.base, l.serve
	if s != nil {
		cfg.Limit = cfg.Limit.fillable()
	}
	l.local.limit.Store(&cfg.Limit)
	l.local.recall.relimit(cfg.Limit, l.now())
	if s != nil {
		l.syncer = newSyncer(cfg, s, l.local, l.base, seed)
		if cfg.Processes == 0 {
			l.syncer.logger.Warn("limiter: Config.Processes is not set: until Redis is reached, this process admits the full limit by itself")
		}
		l.syncer.start()
	}
	return l
}

// clock is the limiter's time: nanoseconds that never go back and are never 0.
func clock(base time.Time) int64 { return int64(time.Since(base)) + int64(time.Second) }

func (l *Limiter) now() int64 { return clock(l.base) }

// Allow reports whether one token may be taken, and takes it.
func (l *Limiter) Allow(key string) bool { return l.AllowN(key, 1) }

// AllowN reports whether n tokens may be taken, and takes them. More than the
// burst are never admitted; n = 0 takes nothing and is true while the key is
// not in debt; a negative n is as 0.
func (l *Limiter) AllowN(key string, n int) bool {
	now, cost := l.now(), tokens(n)
	held := heldKey(key)
	hash := l.local.seeds.Hash(held)
	sh := l.local.shardOf(hash)
	if ref, ok := sh.keys.Find(hash, held, true); ok {
		if ok, done := sh.decideFast(ref, now, cost); done {
			return ok
		}
	}
	return l.allowSlowly(key, now, cost)
}

// allowSlowly is AllowN where a decision needs all that is known of the key.
func (l *Limiter) allowSlowly(key string, now, n int64) bool {
	var k lockedKey
	l.acquire(&k, key, now)
	return k.allow(now, n)
}

// allow decides, and closes the key.
func (k *lockedKey) allow(now, n int64) bool {
	ok := k.decide(now, n) || k.flags.is(shadow)
	k.unlock()
	return ok
}

// Take is [Limiter.Allow] that says more.
func (l *Limiter) Take(key string) Result { return l.TakeN(key, 1) }

// TakeN is [Limiter.AllowN] that says more.
func (l *Limiter) TakeN(key string, n int) Result {
	now := l.now()
	var k lockedKey
	l.acquire(&k, key, now)
	return k.take(now, tokens(n))
}

// take is allow that says more.
func (k *lockedKey) take(now, n int64) Result {
	taken := k.decide(now, n)
	r := k.result(now, n, taken, k.waiting())
	k.unlock()
	return r
}

// Peek returns what [Limiter.Take] would see. It takes nothing and makes
// nothing resident.
func (l *Limiter) Peek(key string) Result {
	now := l.now()
	var (
		k    lockedKey
		seen account
	)
	waiting := l.glimpse(&k, key, now, &seen)
	ok := k.admits(k.bucket.levelAt(now)-waiting, 1)
	return k.result(now, 1, ok, waiting)
}

// glimpse makes k a copy of a key that nobody else sees, with an account in seen if it
// needs one. A key that is not in memory is made up. It returns the tokens that wait for
// the key too.
func (l *Limiter) glimpse(k *lockedKey, key string, now int64, seen *account) (waiting float64) {
	held := heldKey(key)
	found := l.local.find(k, held, now)
	if found && k.flags.is(relimited) {
		k.unlock()
		l.relimit(held, l.ruleOf(key), now)
		found = l.local.find(k, held, now)
	}
	if !found {
		r := l.ruleOf(key)
		sh, _ := l.local.locate(held)
		sh.makeUp(k, held, r.limit, now)
		k.flags.mark(shadow, r.shadow)
		if k.account != nil {
			*seen = *k.account
			sh.accounts.release(k.account)
			k.account = seen
		}
		if !k.fresh(now) {
			k.renew(now)
		}
		return 0
	}
	waiting = k.waiting()
	if a := k.account; a != nil {
		*seen = *a
		if k.account = seen; k.light {
			k.shard.accounts.release(a)
		}
	}
	k.flush(now)
	if !k.fresh(now) {
		k.renew(now)
	}
	k.slot.Unlock()
	return waiting
}

// serve admits callers that wait for a key. A timer calls it when a turn has come.
func (l *Limiter) serve(key string) {
	var k lockedKey
	l.acquire(&k, key, l.now())
	k.setAwaited(true) // it may have become resident beside one that was not
	k.close()
}

// acquire locks and loads a key, which it brings into memory if need be, its grant up
// to date.
func (l *Limiter) acquire(k *lockedKey, key string, now int64) {
	held := heldKey(key)
	sh, hash := l.local.locate(held)
	ref, ok := sh.keys.Find(hash, held, true)
	l.load(k, key, held, sh, hash, ref, ok, now)
}

// load is acquire of a key that was looked for.
func (l *Limiter) load(k *lockedKey, key, held string, sh *shard, hash uint64, ref table.Ref, found bool, now int64) {
	if found && !flags(ref.Flags).is(relimited) {
		k.load(sh, ref, now)
	} else {
		if found {
			ref.Unlock()
		}
		l.meet(k, key, held, sh, hash, now)
	}
	k.prepare(now)
}

// meet brings a key into memory, or requests the limit of one that is there, and loads
// it. The limit is requested without a lock, and once more if limits
// changed meanwhile; if they did so again, the next decision asks.
func (l *Limiter) meet(k *lockedKey, key, held string, sh *shard, hash uint64, now int64) {
	for again := false; ; again = true {
		r := l.ruleOf(key)
		sh.mu.Lock()
		if current := l.limits.Load() == r.version; current || again {
			l.applyLocked(k, held, sh, hash, r, now)
			k.flags.mark(relimited, !current)
			sh.mu.Unlock()
			return
		}
		sh.mu.Unlock()
	}
}

// applyLocked brings a key into memory by a rule, or gives it to one that is
// there and has to have its limit requested. It loads the key.
func (l *Limiter) applyLocked(k *lockedKey, held string, sh *shard, hash uint64, r rule, now int64) {
	if ref, ok := sh.keys.Find(hash, held, true); ok {
		k.load(sh, ref, now)
		if k.flags.is(relimited) {
			k.obey(r, now)
		}
		return
	}
	sh.insertLocked(k, held, hash, r.limit, now)
	k.flags.mark(byDefault, r.byDefault)
	k.flags.mark(shadow, r.shadow)
}

// obey gives a key what its rule says.
func (k *lockedKey) obey(r rule, now int64) {
	k.flags.mark(shadow, r.shadow)
	k.flags.mark(relimited, false)
	k.relimit(r.limit, r.byDefault, now)
}

// rule is what the configuration says of a key, and the version of the limits
// that it is of.
type rule struct {
	limit     Limit
	byDefault bool // the limit is Config.Limit
	shadow    bool // the limit is on trial
	version   uint64
}

// ruleOf asks the configuration; never under a lock.
func (l *Limiter) ruleOf(key string) rule {
	r := rule{byDefault: true, version: l.limits.Load()}
	r.shadow = l.shadow != nil && l.shadow(key)
	if l.limitFor != nil {
		if lim, ok := l.limitFor(key); ok {
			if lim.validate() == nil {
				if l.syncer != nil {
					lim = lim.fillable()
				}
				r.limit, r.byDefault = lim, false
				return r
			}
			l.badLimits.Add(1)
		}
	}
	r.limit = *l.local.limit.Load()
	return r
}

// tokens is a cost as it is counted.
func tokens(n int) int64 { return max(0, min(int64(n), maxTokens)) }

// Refund gives back n tokens that were taken: a job that did not run, a cost
// estimated too high. It never fills a bucket above full. An n of 0 or less
// does nothing.
func (l *Limiter) Refund(key string, n int) {
	if n > 0 {
		now := l.now()
		var k lockedKey
		l.acquire(&k, key, now)
		k.refund(now, tokens(n))
	}
}

// refund gives n tokens back, and closes the key.
func (k *lockedKey) refund(now, n int64) {
	if !k.flags.is(open) {
		k.flush(now)
		k.giveBack(now, n)
		k.bucket.refund(now, float64(n))
	}
	k.close()
}

// Charge takes n tokens without asking, for costs known only afterwards:
// bytes, LLM tokens. The key may go into debt. An n of 0 or less does nothing.
func (l *Limiter) Charge(key string, n int) {
	if n > 0 {
		now := l.now()
		var k lockedKey
		l.acquire(&k, key, now)
		k.charge(now, tokens(n))
	}
}

// charge takes n tokens without asking, and closes the key.
func (k *lockedKey) charge(now, n int64) {
	if k.bucket.shared() && !k.flags.is(open) {
		k.bucket.charge(now, float64(n))
		k.note(now, n, true)
	}
	k.unlock()
}

// Reset makes the key full again: here in any case, and in Redis, with an
// error if that was not confirmed before ctx was done or the exchange failed.
// The other processes follow within a round or two. [ErrClosed] after Close.
func (l *Limiter) Reset(ctx context.Context, key string) error {
	now := l.now()
	held := heldKey(key)
	sh, hash := l.local.locate(held)
	lim, field := l.ruleOf(key).limit, l.local.fieldOf(held)
	sh.mu.Lock()
	if ref, ok := sh.keys.Find(hash, held, false); ok {
		var k lockedKey
		k.load(sh, ref, now)
		k.flush(now)
		k.reset(now)
		k.close()
	}
	sh.forgetOrphanLocked(field)
	sh.mu.Unlock()
	l.local.queues.Wake(held)
	if l.syncer == nil {
		return nil
	}
	return l.syncer.ask(ctx, &request{
		kind: askReset, held: held, field: field, limit: lim, part: exchange.Partition(field, len(l.local.parts)),
	})
}

// SetLimit changes [Config.Limit] while running, for every key that LimitFor
// gives no limit of its own. What a key has left stays left, at most the new burst,
// and what it owes stays owed, in tokens, as with SetLimit and SetBurst of
// [golang.org/x/time/rate]. Under the zero Limit and under [rate.Inf] the level goes on
// beneath, refilled by the limit of before, and comes back with the next one; no
// decision takes from it, and only under the zero Limit Charge does.
func (l *Limiter) SetLimit(lim Limit) error {
	if err := lim.validate(); err != nil {
		return &limiterError{l.local.prefix, fmt.Errorf("limiter: SetLimit: %w", err)}
	}
	if l.syncer != nil {
		lim = lim.fillable()
	}
	l.changing.Lock()
	defer l.changing.Unlock()
	l.local.limit.Store(&lim)
	l.limits.Add(1)
	now := l.now()
	l.local.recall.relimit(lim, now) // before entries that are resident without a limit ask it
	l.local.each(now, func(k *lockedKey) {
		if k.flags.is(byDefault) {
			k.relimit(lim, true, now)
		}
	})
	l.local.queues.WakeAll() // also those of keys that are not resident, or have to ask for their limit
	return nil
}

// Reload asks [Config.LimitFor] and [Config.Shadow] again for every resident
// key; for one sent as a digest (above 64 bytes, or with a Config.KeySecret) at
// its next decision.
func (l *Limiter) Reload() {
	var keys []string
	l.changing.Lock()
	l.limits.Add(1)
	now := l.now()
	l.local.each(now, func(k *lockedKey) {
		k.flags.mark(relimited, true)
		if l.local.secret == nil && len(k.key()) <= maxKey {
			keys = append(keys, k.key())
		}
	})
	l.changing.Unlock()
	now = l.now()
	for _, key := range keys {
		l.relimit(key, l.ruleOf(key), now)
	}
	l.local.queues.WakeAll()
}

// relimit gives the entry of a held key, if it is resident, what its rule says. Where
// limits have changed again meanwhile, the next decision asks.
func (l *Limiter) relimit(held string, r rule, now int64) {
	var k lockedKey
	if !l.local.find(&k, held, now) {
		return
	}
	if k.flags.is(relimited) && l.limits.Load() == r.version {
		k.obey(r, now)
	}
	k.close()
}

// Sync does one full round now. It returns nil when all that this process has
// admitted is exchanged, the grant of every resident key is new, and all news
// that the fleet keeps of keys that run low is read; otherwise the reason:
// [ErrClosed] after Close. Nil without Redis. It costs Redis about 3 µs for each
// resident key: for tests, starts and shutdowns, not for every request.
//
// A job that ends after a few decisions calls Sync before the first and Close
// after the last. Then such jobs share each limit as one bucket does
// [TestJobsAreOneBucket]. A job that is killed before the next round may leave
// its decisions uncounted.
func (l *Limiter) Sync(ctx context.Context) error {
	if l.syncer == nil {
		return nil
	}
	return l.syncer.ask(ctx, &request{kind: askSync})
}

// Close tells Redis what is left to tell, leaves the fleet and stops. It
// returns within 2 seconds, whatever Redis, the Logger and the other functions
// of [Config] do; a call that the client won't give up, and a function that
// blocks, end by themselves later. For log lines it waits at most a tenth of a
// second. Decisions go on locally, with the share that the process had.
// Closing again does nothing.
func (l *Limiter) Close() error {
	if l.syncer != nil {
		l.syncer.close()
	}
	return nil
}

// Result says what became of a decision, and what to tell the one who asked.
type Result struct {
	// Allowed: the tokens were taken, or Shadow.
	Allowed bool
	// Shadow: it was let through only because the limit is on trial (see
	// [Config.Shadow]); nothing was taken, so that there is nothing to refund.
	Shadow bool
	// Limit is the limit that was applied.
	Limit Limit
	// Remaining is the number of whole tokens that this process could admit
	// now, one by one. math.MaxInt where there is no limit.
	Remaining int
	// RetryAfter is 0 if allowed, and never 0 if denied: the time until the
	// fleet's bucket is expected to hold enough, at least until the next
	// grant; by the local bucket during an outage. [rate.InfDuration] if never:
	// the cost exceeds the burst.
	RetryAfter time.Duration
	// ResetAfter is the time until the bucket is full, if nothing more is taken;
	// in an outage, of a key that Redis was never asked for, this process's share.
	ResetAfter time.Duration
	// Age is the time since the exchange behind this decision: 0 when purely
	// local, -1 when there was none yet, or none since nobody asked for minutes.
	Age time.Duration
}

// result is the result of a decision while so many tokens wait.
func (k *lockedKey) result(now, n int64, taken bool, waiting float64) Result {
	r := Result{Allowed: taken || k.flags.is(shadow), Shadow: !taken && k.flags.is(shadow), Limit: k.applied(), Age: k.age(now)}
	if k.flags.is(open) {
		r.Remaining = math.MaxInt
		return r
	}
	if !k.flags.is(shut) {
		r.Remaining = k.bucket.remaining(now, waiting)
	}
	if !r.Allowed {
		r.RetryAfter = k.retryAfter(now, float64(n), waiting)
	}
	r.ResetAfter = k.resetAfter(now, waiting)
	return r
}

// Reservation is a number of tokens taken ahead of time, and the instant from
// which they may be used. Copies of it are one reservation.
type Reservation struct {
	l          *Limiter
	key        string
	account    *account // of the key; nil: it need not have one
	generation uint32   // of the account: by now it may be another key's
	id         uint64   // in l.reservations: copies of a reservation have the same
	n          int64
	order      uint64 // in the order of arrival of waiters; 0: none waited
	ahead      int64  // tokens that waited then
	act        int64  // when the tokens may be used; a grant may bring it nearer
	taken      int64  // lockedKey.taken with this reservation
	given      bool   // true if there are tokens to give back
	ok         bool
}

// reservations remembers the cancelled ones, so that no copy is cancelled again.
type reservations struct {
	last atomic.Uint64 // id

	mu        sync.Mutex
	cancelled map[uint64]int64 // until when they could be cancelled again, by id
	sweepAt   int              // size of cancelled at which those that can't are dropped
}

// cancel reports whether a reservation, which acts at the given instant, is
// cancelled for the first time.
func (r *reservations) cancel(id uint64, act, now int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, again := r.cancelled[id]; again {
		return false
	}
	if r.cancelled == nil {
		r.cancelled = map[uint64]int64{}
	}
	if len(r.cancelled) >= r.sweepAt {
		maps.DeleteFunc(r.cancelled, func(_ uint64, act int64) bool { return act < now })
		r.sweepAt = max(64, 2*len(r.cancelled))
	}
	r.cancelled[id] = act
	return true
}

// Reserve is ReserveN of one token.
func (l *Limiter) Reserve(key string) Reservation { return l.ReserveN(key, 1) }

// ReserveN takes n tokens now and says how long to wait before acting on
// them: until the bucket, which goes into debt for them, holds them, after all
// callers that are in [Limiter.Wait] now. In a fleet that is the shared bucket,
// as it was at the last exchange. The reservation is not OK if n exceeds the burst.
func (l *Limiter) ReserveN(key string, n int) Reservation {
	now := l.now()
	if l.syncer == nil {
		sh, _ := l.local.locate(heldKey(key))
		sh.sweep(now)
	}
	var k lockedKey
	l.acquire(&k, key, now)
	return l.reserve(&k, key, now, tokens(n))
}

// reserve takes n tokens, if they can ever be used, and closes the key.
func (l *Limiter) reserve(k *lockedKey, key string, now, n int64) Reservation {
	defer k.unlock()
	d := k.expectedWait(now, n)
	if d < 0 && !k.flags.is(shadow) {
		k.count(false)
		return Reservation{l: l}
	}
	if d > 0 && k.exchanges() && now < k.account.holdUntil { // the others may not have reported yet
		d = delay(k.bucket.levelAt(now)-float64(n)-k.waiting(), k.bucket.refill)
	}
	return l.reserveFor(k, key, now, n, d)
}

// reserveFor takes n tokens that may be used after d, or, where the limit is
// in shadow mode and there would be a wait, none.
func (l *Limiter) reserveFor(k *lockedKey, key string, now, n int64, d time.Duration) Reservation {
	if d != 0 && k.flags.is(shadow) {
		k.pass(now, n)
		return Reservation{l: l, act: now, ok: true}
	}
	k.count(true)
	if k.flags.is(open) {
		return Reservation{l: l, act: now, ok: true}
	}
	r := Reservation{l: l, key: key, id: l.reservations.last.Add(1), n: n, act: later(now, d), given: true, ok: true}
	if k.account == nil && d > 0 {
		k.takeAccount(now)
	}
	k.promote()
	k.bucket.charge(now, float64(n))
	k.bucket.lastEvent = r.act
	k.note(now, n, true)
	if a := k.account; a != nil {
		a.reserved = max(a.reserved, r.act)
		r.account, r.generation, r.taken = a, a.generation, k.taken()
	}
	if k.flags.is(awaited) {
		r.order, r.ahead = l.local.queues.Reserve(k.key(), n)
	}
	return r
}

// OK reports whether the tokens were taken: false if n exceeds the burst.
func (r Reservation) OK() bool { return r.ok }

// Delay is the time to wait before acting; [rate.InfDuration] when not OK. It
// may turn out shorter when asked again after an exchange, never longer.
func (r Reservation) Delay() time.Duration {
	if !r.ok {
		return rate.InfDuration
	}
	return r.left()
}

// left is the time left to wait, which a grant may have shortened.
func (r *Reservation) left() time.Duration {
	now := r.l.now()
	var k lockedKey
	if r.act > now && r.account != nil && r.l.local.find(&k, heldKey(r.key), now) {
		r.shorten(&k, now)
		k.unlock()
	}
	return time.Duration(max(0, r.act-now))
}

// shorten takes in the key's grant.
func (r *Reservation) shorten(k *lockedKey, now int64) {
	if !r.isOf(k) || !k.exchanges() || k.flags.is(awaited) {
		return
	}
	if a := k.account; a.exchanged != 0 && k.bucket.mode != modeStale && now >= a.holdUntil {
		d := a.sharedDelay(&k.bucket, float64(k.buffer.Taken)-float64(r.overtaken(k)), now)
		r.act = min(r.act, later(now, d))
	}
}

// isOf reports whether the key's bucket knows of the reservation: the key has not been
// evicted since.
func (r *Reservation) isOf(k *lockedKey) bool {
	return r.account == nil || k.account == r.account && k.account.generation == r.generation
}

// Cancel gives back the tokens that later reservations have not overtaken, if
// the reservation has not acted yet. Copies are one reservation: cancelling it
// again, or another copy, does nothing.
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
		if r.n > 0 && !k.bucket.unlimited() { // its bucket was not charged: the fleet alone is told
			k.giveBack(now, r.n)
		}
	case !k.exchanges() && !k.bucket.unlimited():
		r.unreserve(&k, int64(k.bucket.unreserve(now, float64(r.n), r.act)))
	default:
		if n := min(r.n, r.n-r.overtaken(&k)); n > 0 && !k.bucket.unlimited() {
			k.giveBack(now, n)
			k.bucket.refund(now, float64(n))
			r.unreserve(&k, n)
		}
	}
	k.close()
}

// overtaken is the number of tokens taken after the reservation, less those of
// callers that waited before it.
func (r *Reservation) overtaken(k *lockedKey) int64 { return max(0, k.taken()-r.taken-r.ahead) }

// unreserve notes that n tokens of the reservation are in the bucket again.
func (r *Reservation) unreserve(k *lockedKey, n int64) {
	if k.flags.is(awaited) && r.order != 0 {
		r.l.local.queues.Unreserve(k.key(), r.order, n)
	}
}

// Wait is WaitN of one token.
func (l *Limiter) Wait(ctx context.Context, key string) error { return l.WaitN(ctx, key, 1) }

// WaitN waits until n tokens may be used, and takes them; a negative n counts as
// 0. The callers of one key in one process are served in order of arrival. A
// waiting caller holds a place in the queue and no tokens: if its ctx is done it
// returns the context's error, has cost nothing, and the next one takes its
// place. (With [golang.org/x/time/rate] a cancelled wait goes on delaying those
// behind it.)
//
// WaitN fails at once, having taken nothing, with [ErrExceedsBurst] if n exceeds
// the burst, and with [context.DeadlineExceeded] if the wait is expected to end
// after the deadline of ctx. The expectation follows from the queue, the level
// and the present refill. A wait may end earlier, because others leave, or
// later, because other processes request more; it ends at the deadline at the
// latest.
//
// While callers wait for a key, [Limiter.Allow] is denied unless it would be
// admitted after all of them, and [Limiter.Reserve] acts after them.
func (l *Limiter) WaitN(ctx context.Context, key string, n int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now := l.now()
	var k lockedKey
	l.acquire(&k, key, now)
	return l.wait(ctx, &k, key, now, tokens(n))
}

// wait takes n tokens, or a place in the key's queue, closes the key, and waits.
func (l *Limiter) wait(ctx context.Context, k *lockedKey, key string, now, n int64) error {
	if k.flags.is(shadow) || k.admitted(now, n) {
		k.allow(now, n)
		return nil
	}
	w, err := k.enqueue(ctx, key, now, n)
	k.close()
	if err != nil {
		return err
	}
	select {
	case <-w.Ready():
	case <-ctx.Done():
		if l.local.queues.Leave(w) {
			return ctx.Err()
		}
	}
	if w.Refused() { // the limit has changed
		return l.local.refusal(key, n)
	}
	return nil
}

// refusal is the error of a wait for more than the burst that a key has by now.
func (lo *local) refusal(key string, n int64) error {
	var k lockedKey
	if !lo.find(&k, heldKey(key), clock(lo.base)) { // evicted since: which limit it was is not known any more
		return &limiterError{lo.prefix, fmt.Errorf("%w: %d tokens of %q", ErrExceedsBurst, n, key)}
	}
	defer k.unlock()
	return k.waitError(key, n, -1)
}

// enqueue puts a cost into the key's queue, unless it would be served too late, or
// never. The name is the key as the caller knows it.
func (k *lockedKey) enqueue(ctx context.Context, name string, now, n int64) (*waitqueue.Waiter, error) {
	k.flush(now)
	if d := k.expectedWait(now, n); d < 0 || d > longestWait(ctx) {
		k.count(false)
		k.note(now, n, false)
		return nil, k.waitError(name, n, d)
	}
	return k.joinQueue(name, now, n), nil
}

// longestWait is the longest wait that the deadline of ctx allows.
func longestWait(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return rate.InfDuration
}

// waitError is the error of a wait of d for n tokens, which was not begun; negative: of
// a wait that would never end.
func (k *lockedKey) waitError(name string, n int64, d time.Duration) error {
	prefix := k.shard.local.prefix
	if d < 0 {
		lim := k.applied()
		return &limiterError{prefix, fmt.Errorf("%w: %d tokens of %q, whose limit %v has a burst of %d", ErrExceedsBurst, n, name, lim, lim.Burst)}
	}
	return &limiterError{prefix, fmt.Errorf("limiter: a wait of %v for %q would pass the deadline: %w", d, name, context.DeadlineExceeded)}
}

// Key is a key that is not looked up again for every decision, for those that
// are asked of often. Make one with [Limiter.Key]; the zero Key can't be used.
// All methods may be called from any goroutine, and do what the Limiter's of the
// same name do.
type Key struct {
	l     *Limiter
	key   string
	held  string
	shard *shard
	hash  uint64
	index atomic.Uint32 // where the key was found last in the shard's table
}

// Key returns a handle for a key. It is good for as long as the limiter is:
// where the key has made room for others, or has got another limit, the next
// decision looks it up. Making one makes nothing resident.
func (l *Limiter) Key(key string) *Key {
	held := heldKey(key)
	sh, hash := l.local.locate(held)
	return &Key{l: l, key: key, held: held, shard: sh, hash: hash}
}

// find locks the key, if it is in memory.
func (k *Key) find() (table.Ref, bool) {
	ref, ok := k.shard.keys.At(k.index.Load(), k.hash, k.held)
	if !ok {
		if ref, ok = k.shard.keys.Find(k.hash, k.held, true); ok {
			k.index.Store(ref.Index())
		}
	}
	return ref, ok
}

// acquire is [Limiter.acquire].
func (k *Key) acquire(locked *lockedKey, now int64) {
	ref, ok := k.find()
	if k.l.load(locked, k.key, k.held, k.shard, k.hash, ref, ok, now); !ok {
		k.index.Store(locked.slot.Index())
	}
}

// Allow is [Limiter.Allow].
func (k *Key) Allow() bool { return k.AllowN(1) }

// AllowN is [Limiter.AllowN].
func (k *Key) AllowN(n int) bool {
	now, cost := k.l.now(), tokens(n)
	if ref, ok := k.find(); ok {
		if ok, done := k.shard.decideFast(ref, now, cost); done {
			return ok
		}
	}
	return k.l.allowSlowly(k.key, now, cost)
}

// Take is [Limiter.Take].
func (k *Key) Take() Result { return k.TakeN(1) }

// TakeN is [Limiter.TakeN].
func (k *Key) TakeN(n int) Result {
	now := k.l.now()
	var locked lockedKey
	k.acquire(&locked, now)
	return locked.take(now, tokens(n))
}

// Peek is [Limiter.Peek].
func (k *Key) Peek() Result { return k.l.Peek(k.key) }

// Part is [Limiter.Part].
func (k *Key) Part(n int) Part { return k.l.Part(k.key, n) }

// Refund is [Limiter.Refund].
func (k *Key) Refund(n int) { k.l.Refund(k.key, n) }

// Charge is [Limiter.Charge].
func (k *Key) Charge(n int) { k.l.Charge(k.key, n) }

// Reserve is [Limiter.Reserve].
func (k *Key) Reserve() Reservation { return k.ReserveN(1) }

// ReserveN is [Limiter.ReserveN].
func (k *Key) ReserveN(n int) Reservation { return k.l.ReserveN(k.key, n) }

// Wait is [Limiter.Wait].
func (k *Key) Wait(ctx context.Context) error { return k.WaitN(ctx, 1) }

// WaitN is [Limiter.WaitN].
func (k *Key) WaitN(ctx context.Context, n int) error { return k.l.WaitN(ctx, k.key, n) }

// Reset is [Limiter.Reset].
func (k *Key) Reset(ctx context.Context) error { return k.l.Reset(ctx, k.key) }

// Part is one limit's part in a decision on several: see [TakeAll]. Make one
// with [Limiter.Part]; the zero Part can't be used.
type Part struct {
	l   *Limiter
	key string
	n   int
}

// Part is n tokens of a key, counted as AllowN counts them.
func (l *Limiter) Part(key string, n int) Part { return Part{l: l, key: key, n: n} }

// AllowAll is [TakeAll] that says less.
func AllowAll(parts ...Part) bool {
	r, _ := TakeAll(parts...)
	return r.Allowed
}

// TakeAll takes the tokens of all parts, or, where one of them would be
// denied, none at all: several windows on one key; limits for a user, a tenant
// and everybody.
//
//	r, i := limiter.TakeAll(perSecond.Part(user, 1), perHour.Part(user, 1), tenants.Part(tenant, 1))
//
// It is one decision: nothing else in this process comes between its parts,
// which may be of one limiter or of many. What parts ask of the same key of the
// same limiter adds up. Up to four parts it allocates nothing.
//
// The result is that of the tightest part, whose index among the parts is told
// too: of those denied the one that takes longest, else the one that would
// admit the fewest further calls. No parts at all are Allowed, and -1.
//
// A denial counts, in [Stats] and in what the fleet is told of demand, with
// the parts that denied and with no other: a user far above a limit of its own
// would else take for this process a share of everybody's limit that it could
// not use.
func TakeAll(parts ...Part) (r Result, tightest int) {
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
		if s.ok != allowed {
			continue
		}
		taken := s.locked.decide(s.now, s.cost)
		own := s.locked.result(s.now, s.cost, taken, s.locked.waiting())
		if t := own.tightness(s.cost); t > most {
			r, tightest, most = own, s.index, t
		}
	}
	return r, tightest
}

// WaitAll waits until the tokens of all parts may be used, and takes them all
// at once. Until then it holds no tokens, and a place in the queue of each part
// that was short of tokens when it tried, by the time of its call. So no caller
// starves, and none blocks another for good, in whatever order parts are given.
// WaitAll fails at once, having taken nothing, with [ErrExceedsBurst] if a cost
// exceeds its burst, and with [context.DeadlineExceeded] if a part is expected
// to come after the deadline of ctx (see [Limiter.WaitN]). If ctx is done while
// it waits, it has cost nothing, and returns the context's error.
func WaitAll(ctx context.Context, parts ...Part) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var room [fewParts]stake
	stakes := stakesOf(parts, room[:0])
	done, err := waitAllNow(ctx, stakes)
	if done || err != nil {
		return err
	}
	return waitAllInQueues(ctx, stakesOf(parts, nil))
}

// waitAllNow takes the tokens of all stakes, if none is short. Its error says
// that a wait would never end, or too late.
func waitAllNow(ctx context.Context, stakes []stake) (done bool, err error) {
	lockAll(stakes)
	defer unlockAll(stakes)
	done = true
	for i := range stakes {
		s := &stakes[i]
		s.ok = s.locked.flags.is(shadow) || s.locked.admitted(s.now, s.cost)
		done = done && s.ok
	}
	if done {
		for i := range stakes {
			s := &stakes[i]
			s.locked.decide(s.now, s.cost)
		}
		return true, nil
	}
	longest := longestWait(ctx)
	for i := range stakes {
		s := &stakes[i]
		if s.ok {
			continue
		}
		s.locked.flush(s.now)
		if d := s.locked.expectedWait(s.now, s.cost); d < 0 || d > longest {
			s.locked.count(false)
			s.locked.note(s.now, s.cost, false)
			err = s.locked.waitError(s.key, s.cost, d)
		}
	}
	return false, err
}

// waitAllInQueues takes the tokens of all stakes as soon as none is short.
func waitAllInQueues(ctx context.Context, stakes []stake) error {
	g := waitqueue.NewGroup()
	defer func() {
		for i := range stakes {
			stakes[i].leave()
		}
	}()
	for {
		done, err := tryAll(g, stakes)
		if done || err != nil {
			return err
		}
		select {
		case <-g.Ready():
		case <-ctx.Done():
			return ctx.Err()
		}
		first := &stakes[0]
		now := first.l.now()
		for i := range stakes {
			s := &stakes[i]
			s.now = now + int64(first.l.base.Sub(s.l.base))
		}
	}
}

// tryAll takes the tokens of all stakes, or has the group wait for those that
// it is short of.
func tryAll(g *waitqueue.Group, stakes []stake) (done bool, err error) {
	lockAll(stakes)
	defer unlockAll(stakes)
	done = true
	for i := range stakes {
		s := &stakes[i]
		if err := s.try(); err != nil {
			return false, err
		}
		done = done && s.ok
	}
	for i := range stakes {
		switch s := &stakes[i]; {
		case done:
			s.take()
		case !s.ok && s.placed:
			s.place.CallAgain()
		case !s.ok:
			s.locked.note(s.now, s.cost, false)
			s.locked.setAwaited(true)
			s.place = g.Join(s.l.local.queues, s.locked.key(), s.key, s.cost)
			if s.locked.orphan != nil { // more keys than there is room for: nobody else sets its timer
				s.l.local.queues.Wake(s.locked.key())
			}
		}
	}
	return done, nil
}

// try sets ok if the stake's tokens may be taken, in its place in the queue or
// behind it.
func (s *stake) try() error {
	k := &s.locked
	if k.flags.is(shadow | open) {
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

// fewParts is how many parts a decision on several may have without
// allocating.
const fewParts = 4

// lockTries is how often a decision on several looks for its entries.
const lockTries = 3

// stake is what a decision on several keeps of one key.
type stake struct {
	Part
	digest [maxKey + 1]byte // of a long key
	shard  *shard
	hash   uint64
	index  int   // of the first part on the key
	cost   int64 // of all parts on the key
	now    int64
	slot   table.Ref // of the key when it was found
	locked lockedKey // while it is locked
	gone   bool
	ok     bool
	place  waitqueue.Place // in the key's queue, of WaitAll
	placed bool            // true if it is still held
}

// held is the key in the form in which it is held.
func (s *stake) held() string {
	if len(s.key) > maxKey {
		return table.Digest(s.key, digestSize, s.digest[:])
	}
	return s.key
}

// stakesOf puts the keys of the parts into room, which grows where there are
// many. It reads the clock once, and lets the limiters' clocks differ by what
// their beginnings do.
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
			room = append(room, stake{Part: p, index: i, now: now + int64(first.base.Sub(p.l.base))})
			room[j].shard, room[j].hash = p.l.local.locate(room[j].held())
		}
		room[j].cost = addTokens(room[j].cost, tokens(p.n))
	}
	return room
}

// lockAll finds the keys of all stakes, their grants up to date, and locks
// them, in the one order in which everybody takes several. A key that has
// made room for a later one is looked for again, a few times: where the keys
// don't all fit in, it gets an orphan of its own, which loses no more than an
// eviction just after the decision.
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
		s.locked.prepare(s.now)
	}
	return stakes
}

// find finds the key, or makes it an orphan, where the tries are used up, if it has
// gone.
func (s *stake) find(tries int) {
	k := &s.locked
	switch {
	case tries <= lockTries:
		s.l.acquire(k, s.key, s.now)
		s.slot = k.slot
		k.unlock()
	case s.gone:
		r := s.l.ruleOf(s.key)
		s.shard.makeUp(k, s.held(), r.limit, s.now)
		k.flags.mark(shadow, r.shadow)
		s.slot = table.Ref{}
	}
}

// check reports whether the key, now that its slot is locked, has gone since it was
// found, or, unless it was looked for often enough, has to have its limit requested.
func (s *stake) check(tries int) bool {
	if s.slot.Slot == nil {
		s.gone = false
		return false
	}
	s.gone = !s.shard.keys.Holds(s.slot, s.hash, s.held()) || tries < lockTries && flags(s.slot.Flags).is(relimited)
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
			s.shard.adopt(&s.locked, s.now)
		}
	}
}

// nextSlot is the slot of a stake that comes next after another, in the order
// of their addresses, which never change.
func nextSlot(stakes []stake, after *table.Slot) (next *table.Slot) {
	for i := range stakes {
		s := stakes[i].slot.Slot
		if s != nil && (after == nil || after.Before(s)) && (next == nil || s.Before(next)) {
			next = s
		}
	}
	return next
}

// tightness orders results of one decision by how little they leave to the
// next one that costs n.
func (r *Result) tightness(n int64) int64 {
	switch {
	case !r.Allowed:
		return int64(r.RetryAfter) // of a cost that can never be admitted the largest
	case r.Shadow:
		return 1
	}
	return -int64(r.Remaining) / max(1, n)
}

// State is how a limiter stands with Redis.
type State int8

// The states of a limiter.
const (
	Local      State = iota // no Redis configured
	Connecting              // Redis was never reached yet
	Synced                  // grants are being renewed
	Degraded                // some or all grants can't be renewed: those keys go on with their last share
)

// String returns the state's name in lower case.
func (s State) String() string {
	switch s {
	case Local:
		return "local"
	case Connecting:
		return "connecting"
	case Synced:
		return "synced"
	case Degraded:
		return "degraded"
	}
	return "state " + strconv.Itoa(int(s))
}

// Status is how a limiter stands with Redis, and since when.
type Status struct {
	State     State
	Since     time.Time // when State began
	LastSync  time.Time // last reply from Redis; zero: none yet
	Processes int       // fleet size in use, this process included
	Silent    int       // of Processes, those that have not been seen for a while and have not called Close
	Pending   int       // keys with something unreported
	Err       error     // why the last round failed, or that SyncInterval differs within the fleet; nil otherwise
}

// Status returns how the limiter stands with Redis.
func (l *Limiter) Status() Status {
	if l.syncer == nil {
		return Status{State: Local, Since: l.base, Processes: 1}
	}
	st := *l.syncer.status.Load()
	st.Pending = l.local.pending()
	return st
}

// Stats counts what a limiter has done. Counters only grow.
type Stats struct {
	Allowed         uint64 // decisions that admitted
	Denied          uint64 // decisions that denied
	Shadowed        uint64 // of those that admitted, the ones that would have denied but for Config.Shadow
	BadLimits       uint64 // invalid limits that LimitFor returned
	Keys            int    // keys resident now
	Waiting         int    // callers in Wait and WaitAll now, by limit
	Evicted         uint64 // keys that made room for others
	DroppedTokens   uint64 // tokens taken that will never be reported: see docs/design.md §9
	Rounds          uint64 // rounds of exchange that succeeded
	RoundErrors     uint64 // rounds in which some call failed
	KeysExchanged   uint64 // replies for single keys
	Losses          uint64 // times that Redis was found to have lost state, by partition and lane
	DuplicateRounds uint64 // reports that Redis had already applied when they came again
	NewsHeard       uint64 // news of keys running low, from this process or another
	OverAdmitted    uint64 // tokens taken here that Redis, once told, found to be in debt: what this process admitted beyond one central bucket, and has since to be made up for; Charge and Reserve count too
}

// Stats returns the counters. It looks at every resident key, for some 20 ns each:
// for scrapes, not for every decision.
func (l *Limiter) Stats() Stats {
	s := Stats{BadLimits: l.badLimits.Load(), Waiting: l.local.queues.Waiting()}
	for sh := range l.local.eachShard() {
		sh.addTo(&s)
	}
	if l.syncer != nil {
		l.syncer.counts.addTo(&s)
	}
	return s
}
