package limiter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter/internal/account"
	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/keyform"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/redisstore"
	"github.com/seed-e56e777b/limiter/internal/table"
	"github.com/seed-e56e777b/limiter/internal/waitqueue"
)

// Errors to match with [errors.Is], beside those of the context.
var (
	// ErrExceedsBurst says that a cost is larger than the burst: no wait would be long
	// enough.
	ErrExceedsBurst = errors.New("limiter: cost exceeds burst")
	// ErrClosed says that the limiter was closed and no longer exchanges anything.
	ErrClosed = errors.New("limiter: closed")
)

// limiterError is an error whose text names its limiter, by [Config.Prefix].
type limiterError struct {
	prefix string
	err    error
}

// Error returns the text of the error with the limiter's name in it.
func (e *limiterError) Error() string {
	return fmt.Sprintf("limiter %q: %s", e.prefix, strings.TrimPrefix(e.err.Error(), "limiter: "))
}

// Unwrap returns the error without the name.
func (e *limiterError) Unwrap() error { return e.err }

// Config is the configuration of a [Limiter]. Only Limit is required.
type Config struct {
	// Limit is the limit of every key, unless LimitFor gives the key another.
	Limit Limit
	// LimitFor returns a key's own limit; !ok means Limit. The zero Limit denies the key.
	// A limit that [New] would refuse, such as a burst without a rate, counts as !ok, and
	// in [Stats].BadLimits. LimitFor is called when a key comes into memory, after
	// [Limiter.Reload], and by Reset and Peek of keys that are not in memory. It may be
	// called on several goroutines at once, never under a lock; one that blocks delays
	// its own key only. Nil means Limit for all keys.
	LimitFor func(key string) (l Limit, ok bool)
	// Shadow reports whether a key's limit is in shadow mode: decisions over the limit
	// are let through, take nothing and are counted in Stats.Shadowed; Wait and Reserve
	// never wait. It is called when LimitFor is, also never under a lock. Nil means that
	// every limit holds.
	Shadow func(key string) bool
	// Redis is the client through which the fleet shares its limits: standalone,
	// Sentinel, Cluster or Ring. [Tune] sets good options. The caller closes it, after
	// the limiter. Nil means a limiter for this process alone, without a goroutine.
	Redis redis.UniversalClient
	// Prefix is the namespace of the limiter's keys in Redis. Processes that share
	// limits have the same prefix. Limiters of different limits, such as two windows on
	// the same keys, need different prefixes and may share a client. Default "limiter".
	Prefix string
	// KeySecret, of at least 16 bytes, keeps the text of keys out of Redis: a key is sent
	// as its HMAC-SHA-256 under the secret, cut to 16 bytes. All processes that share
	// limits need the same secret; after a change every key begins with a full bucket.
	// [Limiter.Reload] then acts at each key's next decision. Nil means that keys are
	// sent as they are, those above 64 bytes as plain digests.
	KeySecret []byte
	// ShowKeys is true if TopDenied may show the text of keys despite a KeySecret.
	ShowKeys bool
	// MaxKeys is the largest number of keys in memory; beyond it, keys that were not
	// used recently are evicted. Default 65536.
	MaxKeys int
	// SyncInterval is T, the time between two exchanges of a busy key, from 1 ms to
	// 1 minute. A longer one costs Redis less, and over-admits more after a sudden rise
	// of demand. All processes need the same. Default 100 ms.
	SyncInterval time.Duration
	// Processes is the expected size of the fleet; with an autoscaler, the largest. Until
	// a process has reached Redis, it admits 1/Processes of each limit, and up to one
	// request more. Default 1: each process that has never reached Redis admits the full
	// limit, and the log warns.
	Processes int
	// Logger receives changes of state, warnings of New, and, once a minute while Redis
	// can't be used, the reason. It runs on a goroutine of its own and may block: the
	// newest 64 lines wait for it, and the next line written counts the lost ones as
	// lines_dropped. Default [slog.Default].
	Logger *slog.Logger
	// OnChange is called on every change of [Status].State, except by Close, in order,
	// on a goroutine of its own. It may block: the newest 64 changes wait for it.
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

// Tune sets the zero fields of o to good values for a limiter's own client, and
// returns o: short timeouts, no retries inside the client, a pool of up to 100
// connections, and a Dialer that guards the process against its server.
//
//	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: addrs}))
//
// The Dialer reads DialTimeout and TLSConfig of o at each dial: set them in o, not in
// options made from o, and don't change them later. It ends a connection on which a
// reply claims more than 16 MiB, has a line of more than 64 KiB, or nests deeper than
// 32; go-redis alone would allocate the claimed size. Other clients of go-redis may
// use the Dialer too.
//
// A client that the rest of the program uses works too. Its longer timeouts delay the
// return from an outage, and nothing else.
func Tune(o *redis.UniversalOptions) *redis.UniversalOptions { return redisstore.Tune(o) }

// TuneOptions is [Tune] for [redis.NewClient], the client of one server.
func TuneOptions(o *redis.Options) *redis.Options { return redisstore.TuneOptions(o) }

// ClientFromURL returns a client with the options of [Tune] for a URL of Redis. It does
// not dial, unless the URL sets min_idle_conns.
//
//	redis://user:password@host:6379/0            one server, by its port and database
//	rediss://host                                the same with TLS
//	unix://user:password@/run/redis.sock?db=0    a socket
//	redis://host1,host2,host3                    a Cluster; of one host with ?cluster=true
//	sentinel://host1,host2/name/0                Sentinels of the primary of this name
//	host:6379                                    redis:// without a user
//	/run/redis.sock?db=0                         unix:// without a user
//
// The query has the options of go-redis's ParseURL, ParseClusterURL and ParseFailoverURL,
// such as read_timeout=1s, which win over those of Tune, and addr=host:port for further
// hosts. The user and password of a sentinel:// URL are those of the servers;
// sentinel_username and sentinel_password in the query are those of the Sentinels. The
// scheme sentinels:// is sentinel:// with TLS. The form of go-redis,
// redis://sentinel:26379?master_name=name, works too.
//
// An error names the part of the URL at fault, and has no text of the URL, which may be a
// piece of a password.
func ClientFromURL(url string) (redis.UniversalClient, error) { return redisstore.ClientFromURL(url) }

// Limiter is a set of token buckets by key, shared with a fleet of processes. Make one
// with [New]; the zero Limiter can't be used. All methods may be called from any
// goroutine.
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

// New returns a limiter, or an error that joins all faults of cfg. It never dials and
// never blocks: a limiter may start without Redis.
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

// newLimiter returns a limiter of a checked configuration. The store is nil without
// Redis. The seed is that of random thresholds and of the process's name.
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
	l.local.showKeys = cfg.ShowKeys
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

func (l *Limiter) now() mono.Time { return mono.Now(l.base) }

// Allow reports whether one token may be taken, and takes it.
func (l *Limiter) Allow(key string) bool { return l.AllowN(key, 1) }

// AllowN reports whether n tokens may be taken, and takes them. More tokens than the
// burst are never admitted. An n of 0 takes nothing and is admitted unless the key is
// in debt; a negative n counts as 0.
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

// allowSlowly is AllowN for decisions that need more than the key's slot.
func (l *Limiter) allowSlowly(key string, now mono.Time, n int64) bool {
	var k lockedKey
	l.acquire(&k, key, now)
	return k.allow(now, n)
}

// allow decides, and closes the key.
func (k *lockedKey) allow(now mono.Time, n int64) bool {
	ok := k.decide(now, n) || k.flags.is(shadow)
	k.unlock()
	return ok
}

// Take takes one token, if it may, and returns the decision with its details.
func (l *Limiter) Take(key string) Result { return l.TakeN(key, 1) }

// TakeN takes n tokens, if it may, and returns the decision with its details. It counts
// n as [Limiter.AllowN] does.
func (l *Limiter) TakeN(key string, n int) Result {
	now := l.now()
	var k lockedKey
	l.acquire(&k, key, now)
	return k.take(now, tokens(n))
}

// take decides, closes the key, and returns the details.
func (k *lockedKey) take(now mono.Time, n int64) Result {
	taken := k.decide(now, n)
	r := k.result(now, n, taken, k.waiting())
	k.unlock()
	return r
}

// Peek returns the result that [Limiter.Take] would have now. It takes nothing and
// brings no key into memory.
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

// tokens returns a cost within the range that is counted exactly.
func tokens(n int) int64 { return max(0, min(int64(n), bucket.MaxTokens)) }

// Refund gives back n tokens that were taken, for a job that did not run or an
// estimate that was too high. It never fills a bucket above its burst. A request that
// was let through in shadow mode took nothing ([Result].Shadow): don't refund it. An n
// of 0 or less does nothing.
func (l *Limiter) Refund(key string, n int) {
	if n > 0 {
		now := l.now()
		var k lockedKey
		l.acquire(&k, key, now)
		k.refund(now, tokens(n))
	}
}

// refund gives n tokens back, and closes the key.
func (k *lockedKey) refund(now mono.Time, n int64) {
	if !k.flags.is(unlimited) {
		k.flush(now)
		k.giveBack(now, n)
		k.bucket.Refund(now, float64(n))
		k.account.KeepHeld(&k.bucket, 0, now)
	}
	k.close()
}

// Charge takes n tokens whether or not the key has them, for costs that are known only
// afterwards, such as bytes or LLM tokens. The key may go into debt. An n of 0 or less
// does nothing.
func (l *Limiter) Charge(key string, n int) {
	if n > 0 {
		now := l.now()
		var k lockedKey
		l.acquire(&k, key, now)
		k.charge(now, tokens(n))
	}
}

// charge takes n tokens in any case, and closes the key.
func (k *lockedKey) charge(now mono.Time, n int64) {
	if k.bucket.Shared() && !k.flags.is(unlimited) {
		k.bucket.Charge(now, float64(n))
		k.record(now, n, true)
	}
	k.unlock()
}

// longestHold is the longest time of a hold.
const longestHold = 30 * 24 * time.Hour

// Hold admits nothing of a key until d has passed: for calls to a server that said when to
// come again, such as by Retry-After. The bucket is empty then, and fills as ever. The
// fleet follows within two rounds (thousands of holds at once take some more), also by
// processes that see the key for the first time. Each process keeps its latest 65,536
// holds, and announces its own again every 10 seconds: also those that start later follow,
// and a Redis that has lost its data knows them again.
//
// The longest hold counts. [Limiter.Reset] ends those that have reached the process that
// resets. A refund or a change of limit makes no hold shorter or longer. Callers in
// [Limiter.Wait] go on waiting; reservations made before stay. A key without a limit
// ([rate.Inf]) can be held too. In shadow mode a held key is admitted, here, as if it was
// denied by its limit. A d of 0 or less does nothing, one above 30 days counts as 30 days.
func (l *Limiter) Hold(key string, d time.Duration) {
	if d <= 0 {
		return
	}
	now := l.now()
	if l.syncer == nil {
		sh, _ := l.local.locate(keyform.Local(key))
		sh.demoteRarely(now)
	}
	var k lockedKey
	l.acquire(&k, key, now)
	if until := now.Add(min(d, longestHold)); until > k.heldUntil() {
		k.hold(until, now)
		l.local.holds.Put(strings.Clone(k.field()), until, true)
		l.local.urgent.Store(true)
	}
	k.close()
}

// Reset fills the bucket of a key: here in any case, and in Redis, with an error if that
// was not confirmed before ctx was done, or if the exchange failed. The other processes
// follow within two rounds. After Close it returns [ErrClosed].
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

// SetLimit changes [Config.Limit] for every key that LimitFor gives no limit of its own. A
// key keeps the tokens it has left, at most the new burst, and its debt, as with SetLimit
// and SetBurst of [golang.org/x/time/rate]. Under the zero Limit and under [rate.Inf] the
// level goes on beneath, refilled by the limit of before, and comes back with the next
// limit. Decisions do not take from it meanwhile; Charge does, under the zero Limit only.
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
	l.local.recall.relimit(lim, now) // before keys in memory that have no limit need it
	l.local.each(now, func(k *lockedKey) {
		if k.flags.is(byDefault) {
			k.relimit(lim, true, now)
		}
	})
	l.local.queues.WakeAll() // also of keys that are not in memory, or need their limit first
	return nil
}

// Reload calls [Config.LimitFor] and [Config.Shadow] again for every key in memory. For a
// key that is sent as a digest (above 64 bytes, or with a Config.KeySecret) it does so at
// the key's next decision. Processes reload by themselves: call it in each.
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

// Sync does one full round now. It returns nil once all usage of this process until now is
// exchanged, the grant of every key in memory is new, and all news that the fleet keeps
// of keys that run low is received. Otherwise it returns the reason; after Close that is
// [ErrClosed]. Without Redis it always returns nil. It costs Redis about 3 µs for each key in
// memory: use it in tests, at starts and shutdowns, not for every request.
//
// A job that ends after a few decisions calls Sync before the first and Close after the
// last. Then such jobs share each limit as one bucket does [TestJobsAreOneBucket]. A job
// that is killed before the next round may leave its decisions uncounted.
func (l *Limiter) Sync(ctx context.Context) error {
	if l.syncer == nil {
		return nil
	}
	return l.syncer.do(ctx, &request{kind: syncRequest})
}

// Close reports the rest of the usage, leaves the fleet and stops. It returns within 2
// seconds, whatever Redis, the Logger and the other functions of [Config] do: a call that
// the client won't give up, and a function that blocks, end by themselves later. It waits
// a tenth of a second at most for log lines. Decisions go on locally, with the process's
// last share. Closing again does nothing.
func (l *Limiter) Close() error {
	if l.syncer != nil {
		l.syncer.close()
	}
	return nil
}

// Reserve takes one token now, as [Limiter.ReserveN] does.
func (l *Limiter) Reserve(key string) Reservation { return l.ReserveN(key, 1) }

// ReserveN takes n tokens now and returns a reservation with the delay until they may be
// used. The bucket goes into debt for them; the delay ends when it holds them, after all
// callers that are in [Limiter.Wait] now. In a fleet that is the shared bucket, as of the
// last exchange. The reservation is not OK if n exceeds the burst.
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

// Wait waits until one token may be used, and takes it, as [Limiter.WaitN] does: first in,
// first out per key and process.
func (l *Limiter) Wait(ctx context.Context, key string) error { return l.WaitN(ctx, key, 1) }

// WaitN waits until n tokens may be used, and takes them. A negative n counts as 0. The
// callers of one key in one process are served first in, first out: no small n overtakes
// a larger one, and the others keep their order when one leaves. A waiting caller
// holds a place in the queue and no tokens: if its ctx is done it returns the context's
// error and has cost nothing. (With [golang.org/x/time/rate] a cancelled wait goes on
// delaying those behind it.)
//
// WaitN fails at once, having taken nothing, with [ErrExceedsBurst] if n exceeds the
// burst, and with [context.DeadlineExceeded] if the wait is expected to end after the
// deadline of ctx. The expectation follows from the queue, the level and the present
// refill. A wait may end earlier, because others leave, or later, because other processes
// request more; it ends at the deadline at the latest.
//
// While callers wait for a key, [Limiter.Allow] admits only if all of them would be
// admitted first, and [Limiter.Reserve] acts after them.
func (l *Limiter) WaitN(ctx context.Context, key string, n int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now := l.now()
	var k lockedKey
	l.acquire(&k, key, now)
	return l.wait(ctx, &k, key, now, tokens(n))
}

// Key is a handle for a key that is used often: its decisions skip the lookup. Make one
// with [Limiter.Key]; the zero Key can't be used. Its methods do the same as the
// Limiter's methods of the same name, and may be called from any goroutine.
type Key struct {
	l        *Limiter
	key      string
	localKey string
	shard    *shard
	hash     uint64
	index    atomic.Uint32 // where the key was found last in the shard's table
}

// Key returns a handle for a key, which may be used as long as the limiter. If the key was
// evicted, or has another limit by now, the next decision looks it up. Making a handle
// brings no key into memory.
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
func (k *Key) acquire(locked *lockedKey, now mono.Time) {
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

// Hold is [Limiter.Hold].
func (k *Key) Hold(d time.Duration) { k.l.Hold(k.key, d) }

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

// Part is the part of one limit in a decision on several, for [TakeAll]. Make one with
// [Limiter.Part]; the zero Part can't be used.
type Part struct {
	l    *Limiter
	key  string
	n    int
	name string
}

// Part returns a part of n tokens of a key. It counts n as [Limiter.AllowN] does.
func (l *Limiter) Part(key string, n int) Part { return Part{l: l, key: key, n: n} }

// Named returns the part with a name, for [Estimate.Name] and for headers that name a
// limit, as package httplimit sends them. A name is no part of the key.
func (p Part) Named(name string) Part {
	p.name = name
	return p
}

// AllowAll reports whether the tokens of all parts may be taken, and takes them, as
// [TakeAll] does.
func AllowAll(parts ...Part) bool {
	r, _ := TakeAll(parts...)
	return r.Allowed
}

// TakeAll takes the tokens of all parts, or none if one of the parts would be denied: for
// several windows on one key, or limits for a user, a tenant and everybody.
//
//	r, i := limiter.TakeAll(perSecond.Part(user, 1), perHour.Part(user, 1), tenants.Part(tenant, 1))
//
// It is one decision: no other decision of this process comes between its parts, which
// may belong to one limiter or to several. Costs of the same key of the same limiter add
// up. With up to four parts it allocates nothing.
//
// The result is that of the tightest part, and the index says which one that is: of
// denied parts the one with the longest RetryAfter, otherwise the one that would admit
// the fewest further calls. Without parts the result is Allowed, and the index -1.
//
// A denial counts, in [Stats] and as demand, with the parts that denied only. Otherwise a
// user far above its own limit would claim a share of everybody's limit for this process,
// which it could not use.
func TakeAll(parts ...Part) (r Result, tightest int) { return takeAll(parts, nil) }

// WaitAll waits until the tokens of all parts may be used, and takes them all at once. It
// holds no tokens meanwhile, only a place in the queue of each part that was short of
// tokens, by the time of its call. So no caller starves, and no two block each other,
// whatever the order of the parts. But later callers of a part wait behind a caller that
// waits for another part: give a part that many callers share, such as a limit for
// everybody, a burst of several requests. WaitAll fails at once, having taken nothing, with
// [ErrExceedsBurst] if a cost exceeds its burst, and with [context.DeadlineExceeded] if a
// part is expected to come after the deadline of ctx (see [Limiter.WaitN]). If ctx is
// done while it waits, it has cost nothing, and returns the context's error.
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

// waitAllNow takes the tokens of all stakes, if none is short. It returns an error if a
// wait would never end, or too late.
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
			s.now = now.Add(first.l.base.Sub(s.l.base))
		}
	}
}

// tryAll takes the tokens of all stakes, or has the group wait for the stakes that are
// short.
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
			s.locked.record(s.now, s.cost, false)
			s.locked.setAwaited(true)
			s.place = g.Join(s.l.local.queues, s.locked.key(), s.key, s.cost)
			if s.locked.orphan != nil { // the keys do not fit into memory: nothing else sets its timer
				s.l.local.queues.Wake(s.locked.key())
			}
		}
	}
	return done, nil
}

// State is the way in which a limiter is connected to Redis.
type State int8

// The states of a limiter.
const (
	Local      State = iota // without Redis
	Connecting              // Redis was never reached yet
	Synced                  // grants are being renewed
	Degraded                // some grants, or all, can't be renewed: their keys go on with their last share
)

var stateNames = [...]string{Local: "local", Connecting: "connecting", Synced: "synced", Degraded: "degraded"}

// String returns the state's name in lower case.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return "state " + strconv.Itoa(int(s))
	}
	return stateNames[s]
}

// MarshalText returns the state's name, or an error for a number that is no state.
func (s State) MarshalText() ([]byte, error) {
	if s < 0 || int(s) >= len(stateNames) {
		return nil, fmt.Errorf("limiter: %v is none", s)
	}
	return []byte(s.String()), nil
}

// UnmarshalText sets the state to the one of this name. After an error it is as before.
func (s *State) UnmarshalText(text []byte) error {
	i := slices.Index(stateNames[:], string(text))
	if i < 0 {
		return fmt.Errorf(`limiter: state %q: want "local", "connecting", "synced" or "degraded"`, text)
	}
	*s = State(i)
	return nil
}

// Status is the state of a limiter's exchange with Redis. As JSON it is an object:
//
//	{
//	  "state": "degraded",
//	  "since": "2026-05-23T10:00:00Z",
//	  "last_sync": "2026-05-23T09:59:59.9Z",
//	  "processes": 3,
//	  "silent": 1,
//	  "pending": 17,
//	  "error": "limiter \"limiter\": sync: dial tcp 192.0.2.1:6379: connect: connection refused"
//	}
//
// Times are as in RFC 3339; last_sync, silent and error are absent if there is none. The
// error is the text of Err, which may name hosts.
type Status struct {
	State     State
	Since     time.Time // begin of State
	LastSync  time.Time // last reply of Redis; zero: none yet
	Processes int       // size of the fleet, this process included
	Silent    int       // processes of the fleet that were not seen recently and have not called Close
	Pending   int       // keys with attempts or usage that is not reported and acknowledged
	Err       error     // fault of the last round, or SyncIntervals that differ within the fleet; nil: none
}

// statusText is a Status as JSON.
type statusText struct {
	State     State     `json:"state"`
	Since     time.Time `json:"since"`
	LastSync  time.Time `json:"last_sync,omitzero"`
	Processes int       `json:"processes"`
	Silent    int       `json:"silent,omitempty"`
	Pending   int       `json:"pending"`
	Err       string    `json:"error,omitempty"`
}

// MarshalJSON returns the status as a JSON object.
func (st Status) MarshalJSON() ([]byte, error) {
	text := statusText{st.State, st.Since, st.LastSync, st.Processes, st.Silent, st.Pending, ""}
	if st.Err != nil {
		text.Err = st.Err.Error()
	}
	return json.Marshal(text)
}

// UnmarshalJSON sets the status to that of a JSON object. Its Err has the text, and matches
// no other error.
func (st *Status) UnmarshalJSON(data []byte) error {
	var text statusText
	if err := json.Unmarshal(data, &text); err != nil || bytes.Equal(data, []byte("null")) {
		return err
	}
	*st = Status{text.State, text.Since, text.LastSync, text.Processes, text.Silent, text.Pending, nil}
	if text.Err != "" {
		st.Err = errors.New(text.Err)
	}
	return nil
}

// Status returns the present status.
func (l *Limiter) Status() Status {
	if l.syncer == nil {
		return Status{State: Local, Since: l.base, Processes: 1}
	}
	st := *l.syncer.status.Load()
	st.Pending = l.local.unreportedKeys()
	return st
}

// Stats are counters of a limiter since its start. They only grow, except Keys and Waiting.
type Stats struct {
	Allowed         uint64 // decisions that admitted
	Denied          uint64 // decisions that denied
	Shadowed        uint64 // decisions of Allowed that Config.Shadow has let through
	BadLimits       uint64 // invalid limits that LimitFor returned
	Keys            int    // keys in memory now
	Waiting         int    // callers in Wait and WaitAll now, by limit
	Evicted         uint64 // keys that were evicted
	DroppedTokens   uint64 // tokens taken that will never be reported (docs/design.md §9)
	Rounds          uint64 // rounds of exchange that succeeded
	RoundErrors     uint64 // rounds in which a call failed
	KeysExchanged   uint64 // replies for single keys
	Losses          uint64 // losses of state in Redis, by partition and lane
	DuplicateRounds uint64 // reports that Redis had applied before, and ignored
	NewsHeard       uint64 // news received of keys that run low
	OverAdmitted    uint64 // tokens taken here, also by Charge and Reserve, that left the fleet's bucket in debt
}

// Stats returns the counters. It visits every key in memory, for about 20 ns each: use it
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

// DeniedKey is a key that was denied recently, in the list of [Limiter.TopDenied].
type DeniedKey struct {
	// Key is the key, or its digest in hexadecimal if Digest is true.
	Key string
	// Digest is true for a key above 64 bytes, of which only a digest is kept: the first
	// 16 bytes of its SHA-256. With [Config.KeySecret] it is true for every key unless
	// [Config.ShowKeys] is set, and the digest is that under the secret, as in Redis.
	Digest bool
	// Denied is the number of decisions that denied the key since Since, in this process.
	Denied uint64
	// Missed is the largest number of denials that Denied may lack. It is 0 while only some
	// hundred keys are denied.
	Missed uint64
	// Since is the time of the first denial in Denied, less at most 0.3 seconds.
	Since time.Time
}
