package limiter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
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

	"github.com/seed-e56e777b/limiter/internal/account"
	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/keyform"
	"github.com/seed-e56e777b/limiter/internal/mono"
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
	maxBurst        = 1 << 31 // tokens that nobody takes at once
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
func Tune(o *redis.UniversalOptions) *redis.UniversalOptions { return exchange.Tune(o) }

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
	store, seed := exchange.Open(cfg.Redis, checked.Prefix), rand.Uint64()
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

func (l *Limiter) now() int64 { return mono.Now(l.base) }

// Allow reports whether one token may be taken, and takes it.
func (l *Limiter) Allow(key string) bool { return l.AllowN(key, 1) }

// AllowN reports whether n tokens may be taken, and takes them. More than the
// burst are never admitted; n = 0 takes nothing and is true while the key is
// not in debt; a negative n is as 0.
func (l *Limiter) AllowN(key string, n int) bool {
	now, cost := l.now(), tokens(n)
	localKey := keyform.Local(key)
	hash := l.local.seeds.Hash(localKey)
	sh := l.local.shardOf(hash)
	if ref, ok := sh.keys.Find(hash, localKey, true); ok {
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
		seen account.Account
	)
	waiting := l.copyOf(&k, key, now, &seen)
	ok := k.admits(k.bucket.LevelAt(now)-waiting, 1)
	return k.result(now, 1, ok, waiting)
}

// serve admits callers that wait for a key. A timer calls it when a turn has come.
func (l *Limiter) serve(key string) {
	var k lockedKey
	l.acquire(&k, key, l.now())
	k.setAwaited(true) // it may have become resident beside one that was not
	k.close()
}

// tokens is a cost as it is counted.
func tokens(n int) int64 { return max(0, min(int64(n), bucket.MaxTokens)) }

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
	if !k.flags.is(unlimited) {
		k.flush(now)
		k.giveBack(now, n)
		k.bucket.Refund(now, float64(n))
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
	if k.bucket.Shared() && !k.flags.is(unlimited) {
		k.bucket.Charge(now, float64(n))
		k.record(now, n, true)
	}
	k.unlock()
}

// Reset makes the key full again: here in any case, and in Redis, with an
// error if that was not confirmed before ctx was done or the exchange failed.
// The other processes follow within a round or two. [ErrClosed] after Close.
func (l *Limiter) Reset(ctx context.Context, key string) error {
	now := l.now()
	localKey := keyform.Local(key)
	sh, hash := l.local.locate(localKey)
	lim, field := l.ruleOf(key).limit, l.local.fieldOf(localKey)
	sh.mu.Lock()
	if ref, ok := sh.keys.Find(hash, localKey, false); ok {
		var k lockedKey
		k.load(sh, ref, now)
		k.flush(now)
		k.resetBucket(now)
		k.close()
	}
	sh.forgetEvictedShardLocked(field)
	sh.mu.Unlock()
	l.local.queues.Wake(localKey)
	if l.syncer == nil {
		return nil
	}
	return l.syncer.do(ctx, &request{
		kind: resetRequest, localKey: localKey, field: field, limit: lim, part: exchange.Partition(field, len(l.local.parts)),
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
		if l.local.secret == nil && len(k.key()) <= keyform.MaxKey {
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
	return l.syncer.do(ctx, &request{kind: syncRequest})
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

// Reserve is ReserveN of one token.
func (l *Limiter) Reserve(key string) Reservation { return l.ReserveN(key, 1) }

// ReserveN takes n tokens now and says how long to wait before acting on
// them: until the bucket, which goes into debt for them, holds them, after all
// callers that are in [Limiter.Wait] now. In a fleet that is the shared bucket,
// as it was at the last exchange. The reservation is not OK if n exceeds the burst.
func (l *Limiter) ReserveN(key string, n int) Reservation {
	now := l.now()
	if l.syncer == nil {
		sh, _ := l.local.locate(keyform.Local(key))
		sh.demoteRarely(now)
	}
	var k lockedKey
	l.acquire(&k, key, now)
	return l.reserve(&k, key, now, tokens(n))
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

// refusal is the error of a wait for more than the burst that a key has by now.
func (lo *local) refusal(key string, n int64) error {
	var k lockedKey
	if !lo.find(&k, keyform.Local(key), mono.Now(lo.base)) { // evicted since: which limit it was is not known any more
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
		k.record(now, n, false)
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
	l        *Limiter
	key      string
	localKey string
	shard    *shard
	hash     uint64
	index    atomic.Uint32 // where the key was found last in the shard's table
}

// Key returns a handle for a key. It is good for as long as the limiter is:
// where the key has made room for others, or has got another limit, the next
// decision looks it up. Making one makes nothing resident.
func (l *Limiter) Key(key string) *Key {
	localKey := keyform.Local(key)
	sh, hash := l.local.locate(localKey)
	return &Key{l: l, key: key, localKey: localKey, shard: sh, hash: hash}
}

// find locks the key, if it is in memory.
func (k *Key) find() (table.Ref, bool) {
	ref, ok := k.shard.keys.At(k.index.Load(), k.hash, k.localKey)
	if !ok {
		if ref, ok = k.shard.keys.Find(k.hash, k.localKey, true); ok {
			k.index.Store(ref.Index())
		}
	}
	return ref, ok
}

// acquire is [Limiter.acquire].
func (k *Key) acquire(locked *lockedKey, now int64) {
	ref, ok := k.find()
	if k.l.load(locked, k.key, k.localKey, k.shard, k.hash, ref, ok, now); !ok {
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
			s.locked.record(s.now, s.cost, false)
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
			s.place.Recall()
		case !s.ok:
			s.locked.record(s.now, s.cost, false)
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
	if k.flags.is(shadow | unlimited) {
		s.ok = true
		return nil
	}
	if k.exceeds(float64(s.cost)) {
		return k.waitError(s.key, s.cost, -1)
	}
	if s.placed = s.place.Held(); !s.placed {
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
	digest [keyform.MaxKey + 1]byte // of a long key
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
	placed bool            // true if it is still localKey
}

// localKey is the key in the form in which it is held.
func (s *stake) localKey() string {
	if len(s.key) > keyform.MaxKey {
		return table.Digest(s.key, keyform.DigestSize, s.digest[:])
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
			room[j].shard, room[j].hash = p.l.local.locate(room[j].localKey())
		}
		room[j].cost = bucket.AddTokens(room[j].cost, tokens(p.n))
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
		s.locked.refresh(s.now)
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
		s.shard.makeOrphan(k, s.localKey(), r.limit, s.now)
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
	st.Pending = l.local.unreportedKeys()
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
