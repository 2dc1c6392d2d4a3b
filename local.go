package limiter

import (
	"iter"
	"math"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-e56e777b/limiter/internal/account"
	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/keyform"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/news"
	"github.com/seed-e56e777b/limiter/internal/recall"
	"github.com/seed-e56e777b/limiter/internal/table"
	"github.com/seed-e56e777b/limiter/internal/topkeys"
	"github.com/seed-e56e777b/limiter/internal/waitqueue"
)

// This file has the keys in memory, and follows the life of a key:
//
//   - types: local, its shards, lockedKey (the contract of locks), rule;
//   - find a key, load and save it, promote and demote it;
//   - acquire it for a decision, with its limit; insert it if need be;
//   - decide: by the slot alone (decideFast), or by all of the key (decide);
//   - evict it: usage that is still to be reported stays with an orphan.
//
// The exchange of a key with the fleet is in reconcile.go.

const (
	shardKeys = 1024         // keys that a shard has room for at least, if there are several; with fewer, chance fills one long before the others
	maxShards = 8192         // largest number of shards
	dueUrgent = mono.Time(0) // due instant of a key that is to be exchanged at once
)

// local has the keys of one process: those in memory, orphans, and the memory of evicted
// keys. Decisions use it directly, the syncer by the functions of reconcile.go.
//
// A local key is a key as the process holds it: the key itself, or the digest of a long
// one (package keyform). A field is its name in Redis.
type local struct {
	shards    []paddedShard
	shift     uint8                          // number of bits of a hash after those of its shard's number
	stale     atomic.Bool                    // true if a partition is stale
	seeds     *table.Seeds                   // seeds of the hashes of local keys
	limits    table.Limits                   // limits, to which slots refer by number
	spares    account.Spares                 // accounts of all shards that no key has
	random    uint64                         // seed of the thresholds
	limit     atomic.Pointer[Limit]          // Config.Limit, or that of the last SetLimit
	prefix    string                         // Config.Prefix
	secret    []byte                         // Config.KeySecret; nil: none
	parts     []partition                    // partitions by number; none without Redis
	params    atomic.Pointer[account.Params] // parameters of the fleet
	urgent    atomic.Bool                    // true if a key is due at once
	frozen    atomic.Int64                   // number of keys in reports without a reply
	news      *news.Table                    // received news, and debts of evicted keys
	holds     news.Holds                     // holds of this process, and received ones
	recall    *recaller                      // TATs of evicted keys
	localKeys sync.Map                       // local keys in memory by field, if there is a secret: a field does not show its key then
	base      time.Time                      // base of the limiter's clock
	due       func(string)                   // Limiter.serve, for a key whose first waiting caller has its turn
	queues    *waitqueue.Queues              // waiting callers, by local key
	denials   topkeys.Table                  // denials by local key, beside those in slots
	showKeys  bool                           // Config.ShowKeys
}

// partition is the state of one of the partitions of keys in Redis, as far as decisions
// need it.
type partition struct {
	staleSince mono.Atomic // instant since which it is stale: its grants can't be renewed; 0: it is not
}

// paddedShard is a shard with room behind it, so that cores that decide in two shards do
// not wait for one cache line.
type paddedShard struct {
	shard
	_ [64]byte
}

// shard is a part of the keys of a process. Its lock guards insertions, evictions and
// the fields below it.
type shard struct {
	local    *local
	keys     table.Table
	accounts account.Pool
	phase    time.Duration // shift of the instants at which lazy keys are due, so that shards have different ones
	nextScan mono.Atomic   // instant of the next search for due keys: none is due earlier
	shadowed atomic.Uint64 // decisions that only shadow mode admitted; the table counts them as denials

	mu                sync.Mutex
	orphans           []*orphan // orphans by account.Orphan − 1
	freeOrphans       []*orphan // orphans in no use
	unreportedOrphans int       // number of orphans that are in no report
	insertedAt        mono.Time // instant of the last insertion
	evictions         uint64    // keys evicted
	denied            uint64    // Stats.Denied of the shard, as of the last addTo
	dropped           uint64    // dropped usage of evicted keys, tokens
	demotedAt         mono.Time // instant of the last demoteIdle, without a syncer
}

// lockedKey is a copy of all state of a locked key. Decisions and the exchange work on
// it. A key in memory is locked by its slot, an orphan by its shard.
//
//   - Lock and load: local.find, local.findField, local.loadReported, Limiter.acquire with
//     the functions that it calls, and shard.insertShardLocked.
//   - Load a key that is locked already: load, loadOrphan.
//   - Write the copy back, and keep the lock: save.
//   - Save and unlock: close, which serves waiting callers before, and unlock, after
//     changes by which no waiting caller can go on. Both need a key in memory, except that
//     close saves an orphan too, and leaves its shard locked.
//   - Save and unlock a key in memory or an orphan: closeReported.
//
// After that the copy is void. The suffix ShardLocked marks functions that need the
// shard's lock, which their callers take and release. Locks are taken in this order:
// shard, slots (in the order of their addresses), account pool.
type lockedKey struct {
	bucket  bucket.Bucket
	flags   flags
	account *account.Account // nil: the fleet does not share the key, and no reservation needs it
	short   bool             // true if the account was made of the short form, for the time of the lock
	now     mono.Time        // instant of the load
	buffer  table.Buffer     // decisions that are not in the account
	slot    table.Ref        // slot of a key in memory
	orphan  *orphan          // nil: the key is in memory
	shard   *shard
}

// flags are facts of a key that decisions need, in its slot.
type flags uint16

const (
	shadow           flags = 1 << iota // true if the limit is in shadow mode: requests above it are admitted
	byDefault                          // true if the limit is Config.Limit
	relimited                          // true if the next decision has to request the limit again
	awaited                            // true if callers wait for the key in local.queues
	unlimited                          // true if there is no limit; the bucket stays that of the limit before, if there was one
	blocked                            // true if the burst is 0, which admits nothing unless there is no limit; the bucket stays likewise
	buffersAdmission                   // true if the buffer alone may record an admission
	buffersDenial                      // true if the buffer alone may record a denial
	hasAccount                         // true if the slot's Account is the number of an account; otherwise it is D_o, tokens per second, as a float32
	owesFloor                          // true if a key in short form has account.FloorDue
	owesLimit                          // true if a key in short form has account.LimitDue
	partBits                           // lowest bit of the number of the key's partition, from 0

	notPlain = shadow | relimited | awaited | unlimited | blocked // flags by which a decision needs more than arithmetic
)

// is reports whether one of the given flags is set.
func (f flags) is(either flags) bool { return f&either != 0 }

// mark sets the given flags, or clears them.
func (f *flags) mark(either flags, is bool) {
	*f &^= either
	if is {
		*f |= either
	}
}

// rule is the configuration's answer for one key.
type rule struct {
	limit     Limit
	byDefault bool   // true if the limit is Config.Limit
	shadow    bool   // true if the limit is in shadow mode
	version   uint64 // number of changes of limits before the answer
}

// newLocal returns a local with room for maxKeys keys. Without partitions no key is
// exchanged.
func newLocal(maxKeys, partitions int, random uint64, secret []byte) *local {
	lo := &local{seeds: table.NewSeeds(), random: random, parts: make([]partition, partitions), secret: secret}
	lo.news = news.NewTable()
	lo.recall = &recaller{table: recall.New(maxKeys), debts: lo.news}
	lo.queues = waitqueue.New(func(key string) { lo.due(key) })
	n := 1
	for n < maxShards && n*2*shardKeys <= maxKeys {
		n *= 2
	}
	skip := 0
	if secret != nil {
		skip = keyform.FieldSize
	}
	lo.shards = make([]paddedShard, n)
	for i := range lo.shards {
		sh := &lo.shards[i].shard
		sh.local, sh.phase = lo, time.Duration(i)*account.LazyMost/account.LazyScans/time.Duration(n)
		sh.accounts.Spare = &lo.spares
		sh.keys.Init(maxKeys/n, skip, partitions > 0, lo.seeds)
		sh.keys.Top = &lo.denials
		sh.nextScan.Store(mono.Never)
	}
	lo.shift = uint8(64 - bits.TrailingZeros(uint(n)))
	return lo
}

// shardOf returns the shard of a hash.
func (lo *local) shardOf(hash uint64) *shard { return &lo.shards[hash>>lo.shift].shard }

// locate returns the shard and the hash of a local key.
func (lo *local) locate(localKey string) (*shard, uint64) {
	h := lo.seeds.Hash(localKey)
	return lo.shardOf(h), h
}

// eachShard returns an iterator over the shards.
func (lo *local) eachShard() iter.Seq[*shard] {
	return func(yield func(*shard) bool) {
		for i := range lo.shards {
			if !yield(&lo.shards[i].shard) {
				return
			}
		}
	}
}

// fieldOf returns the field of a local key.
func (lo *local) fieldOf(localKey string) string { return keyform.Field(lo.secret, localKey) }

// recallHashOf returns the hash by which the key of a field is remembered after its
// eviction.
func (lo *local) recallHashOf(field string) uint64 {
	if lo.secret != nil {
		return lo.seeds.Hash(field)
	}
	return lo.seeds.Hash(keyform.FromField(field))
}

// find locks and loads a local key, and reports whether it is in memory. It does not
// count as a use of the key.
func (lo *local) find(k *lockedKey, localKey string, now mono.Time) bool {
	sh, hash := lo.locate(localKey)
	ref, ok := sh.keys.Find(hash, localKey, false)
	if ok {
		k.load(sh, ref, now)
	}
	return ok
}

// findField locks and loads the key of a field, and reports whether it is in memory.
func (lo *local) findField(k *lockedKey, field string, now mono.Time) bool {
	localKey := ""
	if lo.secret == nil {
		localKey = keyform.FromField(field)
	} else if v, ok := lo.localKeys.Load(field); ok {
		localKey = v.(string)
	} else {
		return false
	}
	return lo.find(k, localKey, now)
}

// each calls f with every key in memory, locked, loaded and flushed, except that keys in
// short form keep their buffers. It locks one key at a time.
func (lo *local) each(now mono.Time, f func(*lockedKey)) {
	var k lockedKey // one for all keys, because it is on the heap
	for sh := range lo.eachShard() {
		sh.keys.Each(func(ref table.Ref) {
			k.load(sh, ref, now)
			if !k.short {
				k.flush(now)
			}
			f(&k)
			k.close()
		})
	}
}

// load makes k a copy of a key in memory, whose slot is locked. A key in short form gets
// an account for as long as it is locked.
func (k *lockedKey) load(sh *shard, ref table.Ref, now mono.Time) {
	lim := sh.local.limits.At(ref.Limit)
	*k = lockedKey{
		bucket: bucket.Bucket{Rate: lim.Rate, Burst: lim.Burst, Level: ref.Level, At: ref.At, LastEvent: ref.At},
		flags:  flags(ref.Flags), buffer: ref.Buffer, slot: ref, shard: sh, now: now,
	}
	switch {
	case k.flags.is(hasAccount):
		k.account = sh.accounts.At(ref.Account)
		k.bucket.Grant = k.account.Grant
		k.bucket.LastEvent = max(ref.At, k.account.LastEvent)
		if h := k.account.HeldUntil; h != 0 && h <= now {
			k.endHold(now)
		}
	case k.needsAccount():
		k.lengthen()
	default:
		k.bucket.Grant = k.bucket.Alone()
	}
}

// loadOrphan makes k a copy of an orphan, whose shard is locked.
func (k *lockedKey) loadOrphan(sh *shard, o *orphan, now mono.Time) {
	*k = lockedKey{bucket: o.bucket, flags: o.flags, account: o.account, orphan: o, shard: sh, now: now}
}

// save writes the copy back, and keeps the lock. A key that was loaded from its short
// form is demoted to it if possible, otherwise promoted.
func (k *lockedKey) save() {
	if k.orphan != nil {
		k.orphan.bucket, k.orphan.flags = k.bucket, k.flags
		return
	}
	if a := k.account; a != nil {
		switch {
		case k.short && k.demote():
			k.flags &^= hasAccount
			k.shard.accounts.Release(a)
		default:
			k.promote()
			a.Grant, a.LastEvent = k.bucket.Grant, k.bucket.LastEvent
		}
	}
	s := k.slot.Slot
	s.Level, s.At, s.Flags, s.Buffer = k.bucket.Level, k.bucket.At, uint16(k.flags), k.buffer
}

// close serves the key's waiting callers, saves the key and unlocks it. Except that the
// shard of an orphan stays locked, and an orphan with nothing to report is removed.
func (k *lockedKey) close() {
	if k.orphan != nil {
		k.save()
		k.shard.updateOrphanShardLocked(k)
		return
	}
	if k.flags.is(awaited) {
		k.serve()
	}
	k.unlock()
}

// unlock saves and unlocks a key in memory. It serves no waiting callers.
func (k *lockedKey) unlock() {
	k.save()
	k.slot.Unlock()
}

// lengthen makes an account of the key's short form, for as long as the key is locked.
// Except that a short form of long ago counts as that of a new key with a full bucket.
func (k *lockedKey) lengthen() {
	lo := k.shard.local
	k.account, k.short = k.shard.accounts.Take(), true
	a := k.account
	a.Partition = uint16(k.flags/partBits) + 1
	l := table.Beside[account.Short](k.slot)
	if k.buffer.Taken == 0 && l.Stale == 0 && k.now > max(l.Epoch(), l.TAT, k.bucket.At).Add(account.IdleAfter) {
		*l = account.NewShort(k.now) // all of its state has decayed
		k.bucket.Level, k.bucket.At, k.bucket.LastEvent = k.bucket.Burst, k.now, k.now
		k.slot.Level, k.slot.At, k.slot.Account = k.bucket.Level, k.now, 0
	}
	l.Lengthen(a, &k.bucket, math.Float32frombits(k.slot.Account), k.staleSince(), lo.params.Load())
	a.Alarm = account.PoolAlarm(min(k.bucket.Burst, k.bucket.Level+float64(k.buffer.Taken)), lo.params.Load())
	a.Mark(account.FloorDue, k.flags.is(owesFloor))
	a.Mark(account.LimitDue, k.flags.is(owesLimit))
	if a.Marks != 0 || k.buffer.Taken != 0 {
		a.Due = k.shard.dueOf(k.slot)
	}
}

// promote makes the account of a key in short form the key's own, and flushes the buffer
// into it.
func (k *lockedKey) promote() {
	if k.short {
		k.flush(k.now)
		k.flags |= hasAccount
		k.slot.Account, k.short = k.account.Number, false
		if due := k.account.Due; due != mono.Never {
			k.account.Due = mono.Never
			k.scheduleBy(due)
		}
	}
}

// demote writes the account into the short form. It returns false, and leaves the
// account as it is, if the short form can't hold all that matters.
func (k *lockedKey) demote() bool {
	a := k.account
	if a.Usage != 0 || a.Attempts != 0 {
		return k.unflush()
	}
	// A short form has no due instant: its usage and its marks give that.
	dueOtherwise := a.Due == dueUrgent || k.buffer.Taken == 0 && a.Due != mono.Never
	if dueOtherwise && a.Marks == 0 || k.flags.is(awaited) || !a.Shorten(table.Beside[account.Short](k.slot), &k.bucket, k.buffer, k.now, k.shard.local.params.Load()) {
		return false
	}
	k.flags.mark(owesFloor, a.Is(account.FloorDue))
	k.flags.mark(owesLimit, a.Is(account.LimitDue))
	k.slot.Account = math.Float32bits(float32(a.Others))
	return true
}

// unflush demotes a key whose reply came just now, and which has usage since the report.
// The usage goes back into the buffer. It returns false, and leaves the account as it
// is, if the key has to keep that.
func (k *lockedKey) unflush() bool {
	a, b := k.account, &k.bucket
	if a.Usage != a.Attempts || a.Usage <= 0 || a.Usage > math.MaxUint16 || a.RepliedAt != k.now || k.buffer.Attempts != 0 || a.Alarm == bucket.MaxTokens {
		return false
	}
	kept, p := *a, k.shard.local.params.Load()
	usage := a.Usage
	a.UnfoldSinceReply(b.Rate, p)
	k.buffer = account.NewBuffer(max(usage, min(a.Alarm-1, a.FairRoom(k.now, b, p)+usage)), min(a.Request(), b.Capacity))
	k.buffer.Attempts, k.buffer.Taken = uint16(usage), uint16(usage)
	if a.Due < k.now.Add(p.Interval) || !k.demote() {
		*a, k.buffer = kept, table.Buffer{}
		return false
	}
	k.flags.mark(buffersAdmission, true)
	k.flags.mark(buffersDenial, false)
	return true
}

// key returns the local key. That of an evicted key is empty.
func (k *lockedKey) key() string {
	if k.orphan != nil {
		return k.orphan.localKey
	}
	return k.shard.keys.Key(k.slot)
}

// field returns the key's field.
func (k *lockedKey) field() string {
	switch {
	case k.orphan != nil:
		return k.orphan.field
	case k.shard.local.secret != nil:
		return k.slot.Text()[:keyform.FieldSize]
	}
	return string(k.appendField(nil))
}

// appendField appends the field of a key in memory. It needs a process without a secret.
func (k *lockedKey) appendField(b []byte) []byte {
	b = k.shard.keys.AppendKey(append(b, 'k'), k.slot)
	if len(b) > 1+keyform.MaxKey {
		b[0] = 'd'
		b = b[:keyform.FieldSize]
	}
	return b
}

// fieldHash returns the hash of the key's field.
func (k *lockedKey) fieldHash() uint64 {
	if k.orphan != nil || k.shard.local.secret != nil {
		return exchange.Hash(k.field())
	}
	var room [1 + keyform.MaxKey + 1]byte
	return exchange.Hash(k.appendField(room[:0]))
}

// recallHash returns the hash by which the key is remembered after its eviction.
func (k *lockedKey) recallHash() uint64 {
	switch {
	case k.shard.local.secret != nil:
		return k.shard.local.seeds.Hash(k.field())
	case k.orphan != nil:
		return k.orphan.hash
	}
	return k.shard.keys.Hash(k.slot)
}

// totalUsage returns the usage of the key since it has its account, in tokens.
func (k *lockedKey) totalUsage() int64 {
	if k.account == nil {
		return 0
	}
	return k.account.Taken() + int64(k.buffer.Taken)
}

// acquire locks and loads a key for a decision: in memory, with its limit, and with a
// grant that holds.
func (l *Limiter) acquire(k *lockedKey, key string, now mono.Time) {
	localKey := keyform.Local(key)
	sh, hash := l.local.locate(localKey)
	ref, ok := sh.keys.Find(hash, localKey, true)
	l.load(k, key, localKey, sh, hash, ref, ok, now)
}

// load completes acquire after a search for the key. If the key was found, ref is
// locked.
func (l *Limiter) load(k *lockedKey, key, localKey string, sh *shard, hash uint64, ref table.Ref, found bool, now mono.Time) {
	if found && !flags(ref.Flags).is(relimited) {
		k.load(sh, ref, now)
	} else {
		if found {
			ref.Unlock()
		}
		l.insertOrRelimit(k, key, localKey, sh, hash, now)
	}
	k.refresh(now)
}

// insertOrRelimit locks and loads a key that is not in memory, or whose limit is to be
// requested again. It requests the limit without a lock, and once more if limits have
// changed meanwhile. After a second change the next decision requests it.
func (l *Limiter) insertOrRelimit(k *lockedKey, key, localKey string, sh *shard, hash uint64, now mono.Time) {
	for again := false; ; again = true {
		r := l.ruleOf(key)
		sh.mu.Lock()
		if current := l.limits.Load() == r.version; current || again {
			l.insertOrRelimitShardLocked(k, localKey, sh, hash, r, now)
			k.flags.mark(relimited, !current)
			sh.mu.Unlock()
			return
		}
		sh.mu.Unlock()
	}
}

// insertOrRelimitShardLocked locks and loads a key that it inserts by a rule. If the key
// is in memory already, the rule is applied if the limit is to be requested again.
func (l *Limiter) insertOrRelimitShardLocked(k *lockedKey, localKey string, sh *shard, hash uint64, r rule, now mono.Time) {
	if ref, ok := sh.keys.Find(hash, localKey, true); ok {
		k.load(sh, ref, now)
		if k.flags.is(relimited) {
			k.applyRule(r, now)
		}
		return
	}
	sh.insertShardLocked(k, localKey, hash, r.limit, now)
	k.flags.mark(byDefault, r.byDefault)
	k.flags.mark(shadow, r.shadow)
}

// ruleOf requests a key's rule from the configuration. It is called without a lock,
// because LimitFor and Shadow may block.
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

// applyRule gives the key the limit and the mode of its rule.
func (k *lockedKey) applyRule(r rule, now mono.Time) {
	k.flags.mark(shadow, r.shadow)
	k.flags.mark(relimited, false)
	k.relimit(r.limit, r.byDefault, now)
}

// relimit applies a rule to a local key, if that is in memory and its limit is to be
// requested again. Except that after another change of limits the next decision requests
// it.
func (l *Limiter) relimit(localKey string, r rule, now mono.Time) {
	var k lockedKey
	if !l.local.find(&k, localKey, now) {
		return
	}
	if k.flags.is(relimited) && l.limits.Load() == r.version {
		k.applyRule(r, now)
	}
	k.close()
}

// copyOf makes k an unlocked copy of a key, with a grant that holds, and leaves the key
// itself as it is. The account of the copy, if it has one, is in seen. A key that is not
// in memory is copied from a new orphan. It returns the tokens that wait for the key.
func (l *Limiter) copyOf(k *lockedKey, key string, now mono.Time, seen *account.Account) (waiting float64) {
	localKey := keyform.Local(key)
	found := l.local.find(k, localKey, now)
	if found && k.flags.is(relimited) {
		k.unlock()
		l.relimit(localKey, l.ruleOf(key), now)
		found = l.local.find(k, localKey, now)
	}
	if !found {
		r := l.ruleOf(key)
		sh, _ := l.local.locate(localKey)
		sh.makeOrphan(k, localKey, r.limit, now)
		k.flags.mark(shadow, r.shadow)
		if k.account != nil {
			*seen = *k.account
			sh.accounts.Release(k.account)
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
		if k.account = seen; k.short {
			k.shard.accounts.Release(a)
		}
	}
	k.flush(now)
	if !k.fresh(now) {
		k.renew(now)
	}
	k.slot.Unlock()
	return waiting
}

// insertShardLocked brings a local key into memory, locks and loads it. It may evict
// another key.
func (sh *shard) insertShardLocked(k *lockedKey, localKey string, hash uint64, lim Limit, now mono.Time) {
	lo, field, text, recallHash := sh.local, "", "", hash
	if lo.secret != nil {
		field = lo.fieldOf(localKey)
		text = field + localKey
		recallHash = lo.seeds.Hash(field)
	}
	recalled := lo.recall.table.Get(recallHash) // before another key, evicted for this one, takes its place
	*k = lockedKey{shard: sh, now: now}
	sh.insertedAt = now
	k.slot = sh.keys.Insert(hash, localKey, text, sh.evictShardLocked)
	k.bucket = newBucket(lim, now)
	k.slot.Limit = lo.limits.Take(table.Limit{Rate: k.bucket.Rate, Burst: k.bucket.Burst})
	if k.initialize(localKey, recalled) {
		lo.news.Put(news.Item{Field: k.field(), Reset: true}) // the level has the debt now
	}
	if field != "" {
		lo.localKeys.Store(field, text[keyform.FieldSize:])
	}
}

// initialize gives a new key, which has its limit, flags, an account if it needs one,
// and the level of the recalled TAT. It reports whether the key has a debt.
// Because the remembered TATs are kept by tags of hashes, one key's may be taken for
// another's. Debts are kept by field.
func (k *lockedKey) initialize(localKey string, recalled mono.Time) (owes bool) {
	lo, now := k.shard.local, k.now
	k.flags.mark(unlimited, k.bucket.Unlimited())
	k.flags.mark(blocked, k.bucket.Burst == 0)
	if k.orphan == nil && lo.queues.Has(localKey) {
		k.setAwaited(true)
		lo.queues.Forget(localKey) // the new bucket has no reservations
	}
	it := lo.newsOf(k, now)
	if k.needsAccount() {
		k.openAccount(it, now)
	}
	owes = k.restore(recalled, it, now)
	if !lo.holds.Empty() {
		k.holdAgain(lo.holds.Until(k.field()), now)
	}
	return owes
}

// setAwaited records whether callers wait for the key.
func (k *lockedKey) setAwaited(is bool) {
	k.flags.mark(awaited, is)
	if k.orphan == nil {
		k.slot.SetMark(table.Pinned, is)
	}
}

// setSlotLimit makes the slot refer to the limit of the bucket. Orphans have no slot.
func (k *lockedKey) setSlotLimit() {
	if k.orphan != nil {
		return
	}
	limits := &k.shard.local.limits
	old := k.slot.Limit
	k.slot.Limit = limits.Take(table.Limit{Rate: k.bucket.Rate, Burst: k.bucket.Burst})
	limits.Release(old)
}

// decideFast decides by the slot and the first cache line of the account, and unlocks
// the slot. If these do not suffice, it changes nothing, and done is false.
func (sh *shard) decideFast(s table.Ref, now mono.Time, n int64) (ok, done bool) {
	lo := sh.local
	lim, cost, f := lo.limits.At(s.Limit), float64(n), flags(s.Flags)
	refill, capacity, needed := lim.Rate, lim.Burst, cost
	done = !f.is(notPlain)
	if f.is(hasAccount) {
		a := sh.accounts.At(s.Account)
		refill, capacity, needed = a.Grant.Refill, a.Grant.Capacity, float64(a.Grant.Threshold)*cost
		done = done && now < a.FastUntil && !lo.stale.Load()
	} else if len(lo.parts) != 0 {
		refill = max(0, refill-float64(math.Float32frombits(s.Account)))
		done = done && now.Sub(s.At) < lo.params.Load().GrantTime && !lo.stale.Load()
	}
	level := bucket.LevelAfter(s.Level, now.Sub(s.At), refill, capacity)
	ok = cost <= lim.Burst && bucket.Enough(level, needed, refill)
	if done && len(lo.parts) != 0 {
		done = f.is(bufferFlag(ok)) && s.Buffer.Add(n, ok) || ok && s.Buffer.Attempts == 0 && !f.is(hasAccount) && sh.recordFirst(s, level, now, n)
	}
	switch {
	case !done:
	case ok:
		s.Level, s.At = level-cost, max(s.At, now)
		sh.keys.Allow(s.Slot)
	case s.CountsDenials(now):
		s.Denied++
	default:
		sh.keys.Deny(s, now)
	}
	s.Unlock()
	return ok, done
}

// recordFirst records an admission, the first one since the last report, in the short
// form and the buffer, without an account. It returns false, and changes nothing, if
// these do not suffice. The level is that before the admission.
func (sh *shard) recordFirst(s table.Ref, level float64, now mono.Time, n int64) bool {
	l, p := table.Beside[account.Short](s), sh.local.params.Load()
	lim := sh.local.limits.At(s.Limit)
	b := bucket.Bucket{Rate: lim.Rate, Burst: lim.Burst}
	epoch := l.Epoch()
	most := min(account.PoolAlarm(level, p)-1, int64(bucket.Clamp(b.Burst/2/p.Fleet)))
	cost := math.Float32frombits(uint32(l.Cost) << 16)
	if flags(s.Flags).is(owesFloor|owesLimit) || l.Stale != 0 || n == 0 || n > most || float32(n) != cost ||
		now >= max(epoch.Add(max(account.GrantIntervals*p.Interval, account.LazyPeriod(&b))), l.TAT) || now-epoch > account.TickRange {
		return false
	}
	l.First = account.TicksOf(now, epoch)
	s.Buffer = account.NewBuffer(most, float64(max(1, cost)))
	s.Buffer.Add(n, true)
	s.Flags = s.Flags&^uint16(buffersDenial) | uint16(buffersAdmission)
	s.SetMark(table.Due, true)
	sh.scanAt(account.LazyDue(&b, max(l.First.After(epoch), epoch), sh.phase))
	return true
}

// bufferFlag returns the flag by which the buffer alone may record an admission or a
// denial.
func bufferFlag(ok bool) flags {
	if ok {
		return buffersAdmission
	}
	return buffersDenial
}

// decide takes n tokens if the bucket admits them, counts the decision and records it.
// It returns false if the tokens were not taken, even if shadow mode admits the cost.
func (k *lockedKey) decide(now mono.Time, n int64) bool {
	ok := k.admitted(now, n)
	if ok && !k.flags.is(unlimited|blocked) {
		k.bucket.Set(now, k.bucket.LevelAt(now)-float64(n))
		k.bucket.LastEvent = now
	}
	if !ok && k.flags.is(shadow) {
		k.admitInShadow(now, n)
		return false
	}
	k.count(ok)
	k.record(now, n, ok)
	if ok && k.account != nil && k.bucket.Mode == bucket.Stale {
		k.redrawThreshold(k.shard.local.params.Load())
	}
	return ok
}

// admitInShadow counts and records a cost that only shadow mode admits. It takes no
// tokens.
func (k *lockedKey) admitInShadow(now mono.Time, n int64) {
	k.shard.shadowed.Add(1)
	k.count(false)
	k.record(now, n, false)
}

// count counts a decision on the key, for Stats and TopDenied. Shadow mode's admissions
// count as denials.
func (k *lockedKey) count(ok bool) {
	switch keys := &k.shard.keys; {
	case k.orphan != nil:
		if keys.CountOutside(ok); !ok {
			k.shard.local.denials.Add(k.orphan.hash, []byte(k.orphan.localKey), 1, k.now)
		}
	case ok:
		keys.Allow(k.slot.Slot)
	default:
		keys.Deny(k.slot, k.now)
	}
}

// addTo adds the shard's counts to s.
func (sh *shard) addTo(s *Stats) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	allowed, denied := sh.keys.Decisions()
	shadowed := sh.shadowed.Load() // at least as many as denied has of them
	sh.denied = max(sh.denied, denied-min(denied, shadowed))
	s.Allowed += allowed + shadowed
	s.Denied += sh.denied
	s.Shadowed += shadowed
	s.Keys += sh.keys.Len()
	s.Evicted += sh.evictions
	s.DroppedTokens += sh.dropped
}

// TopDenied returns at most n keys: those that this process denied most often recently,
// the highest count first. It counts by windows of 4 minutes and 35 seconds, and a count
// is that of the present window and the last one. Evicted keys keep their counts, in
// 250 kB at most.
//
// A denial counts as in [Stats].Denied, by any method. A request that only shadow mode let
// through counts too: before a limit holds, the list has the keys that it would deny. Peek
// counts nothing. TopDenied visits every key in memory, for about 20 ns each. Clients may
// have chosen the keys: escape them in pages and logs, and don't make them labels of
// metrics.
func (l *Limiter) TopDenied(n int) []DeniedKey {
	if n <= 0 {
		return nil
	}
	lo := l.local
	ranking := lo.denials.Rank(n, l.now())
	for sh := range lo.eachShard() {
		sh.mu.Lock()
		sh.keys.EachDenied(ranking.Add)
		sh.mu.Unlock()
		ranking.Trim()
	}
	secret := lo.secret
	if lo.showKeys {
		secret = nil
	}
	var list []DeniedKey
	for _, c := range ranking.List() {
		d := DeniedKey{Denied: c.Denied, Missed: c.Missed, Since: l.base.Add(c.Since.SinceBase())}
		d.Key, d.Digest = keyform.Show(secret, c.Key)
		list = append(list, d)
	}
	return list
}

// spareOrphans is the largest number of orphans in no use that a shard keeps, beyond as
// many as are in use.
const spareOrphans = 64

// orphan is a key outside the table: an evicted key with usage to report, or a key that
// was never in memory. Its shard keeps it, under the lock of the shard, until nothing of
// it is left to report.
type orphan struct {
	localKey string // local key; empty: the key was evicted
	field    string
	hash     uint64 // hash of the local key
	bucket   bucket.Bucket
	flags    flags
	account  *account.Account
}

// evictShardLocked moves a key out of its slot, for another key to have it. The TAT goes
// to the recaller. Usage that no reply has confirmed goes to an orphan. Except that
// unreported usage is dropped, and counted, if there are too many orphans.
func (sh *shard) evictShardLocked(ref table.Ref) {
	var k lockedKey
	k.load(sh, ref, sh.insertedAt)
	k.flush(sh.insertedAt)
	if sh.local.secret != nil {
		sh.local.localKeys.Delete(k.field())
	}
	sh.local.recall.remember(&k, sh.insertedAt)
	sh.evictions++
	sh.local.limits.Release(ref.Limit)
	a := k.account
	if a == nil {
		return // waiting callers bring the key back at their next turn, by a timer
	}
	a.Queued = 0
	a.Mark(account.ReportedQueue, false) // no later report takes that demand back: it decays
	if !a.Frozen && (a.Usage == 0 || sh.unreportedOrphans >= sh.orphanRoomShardLocked(&k)) {
		sh.dropped += uint64(max(0, a.Usage))
		sh.accounts.Release(a)
		return
	}
	o := sh.newOrphanShardLocked()
	*o = orphan{field: k.field(), hash: sh.keys.Hash(ref), bucket: k.bucket, flags: k.flags &^ awaited, account: a}
	sh.addOrphanShardLocked(o)
	if !a.Frozen {
		a.Due = mono.Never
		sh.setDue(a, sh.orphanDueShardLocked(a), nil)
	}
}

// makeOrphan makes a new orphan of a key that is not in memory, and loads it. No lock
// guards the orphan, because its shard does not have it.
func (sh *shard) makeOrphan(k *lockedKey, localKey string, lim Limit, now mono.Time) {
	o := &orphan{localKey: strings.Clone(localKey), field: sh.local.fieldOf(localKey), hash: sh.local.seeds.Hash(localKey), bucket: newBucket(lim, now)}
	k.loadOrphan(sh, o, now)
	k.initialize(localKey, sh.local.recall.table.Get(k.recallHash()))
}

// adoptOrphan gives the shard an orphan of makeOrphan after a decision, if it has usage
// to report. Except that usage is dropped, and counted, if there are too many orphans.
func (sh *shard) adoptOrphan(k *lockedKey, now mono.Time) {
	k.flush(now)
	sh.local.recall.remember(k, now)
	k.save()
	if k.account == nil {
		return
	}
	k.account.Due = mono.Never
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.unreportedOrphans >= sh.orphanRoomShardLocked(k) {
		sh.dropped += uint64(max(0, k.account.Usage))
		sh.accounts.Release(k.account)
		return
	}
	sh.addOrphanShardLocked(k.orphan)
	sh.updateOrphanShardLocked(k)
}

// newOrphanShardLocked returns an orphan in no use.
func (sh *shard) newOrphanShardLocked() *orphan {
	last := len(sh.freeOrphans) - 1
	if last < 0 {
		return new(orphan)
	}
	o := sh.freeOrphans[last]
	sh.freeOrphans = sh.freeOrphans[:last]
	return o
}

// addOrphanShardLocked gives the shard an orphan to keep.
func (sh *shard) addOrphanShardLocked(o *orphan) {
	sh.orphans = append(sh.orphans, o)
	o.account.Orphan = uint32(len(sh.orphans))
	if !o.account.Frozen {
		sh.unreportedOrphans++
	}
}

// removeOrphanShardLocked removes an orphan, and returns its account to the pool.
func (sh *shard) removeOrphanShardLocked(o *orphan) {
	i, last := o.account.Orphan-1, len(sh.orphans)-1
	sh.orphans[i] = sh.orphans[last]
	sh.orphans[i].account.Orphan = i + 1
	sh.orphans[last] = nil
	sh.orphans = sh.orphans[:last]
	o.account.Orphan = 0
	sh.accounts.Release(o.account)
	if len(sh.freeOrphans) < len(sh.orphans)+spareOrphans {
		sh.freeOrphans = append(sh.freeOrphans, o)
	}
}

// updateOrphanShardLocked removes an orphan without usage, and schedules any other.
// Except that an orphan in a report stays as it is.
func (sh *shard) updateOrphanShardLocked(k *lockedKey) {
	a := k.account
	switch {
	case a.Orphan == 0: // removed before
	case a.Frozen:
	case a.Usage == 0:
		sh.unreportedOrphans--
		sh.removeOrphanShardLocked(k.orphan)
	case a.Due == mono.Never:
		sh.setDue(a, sh.orphanDueShardLocked(a), nil)
	}
}

// orphanRoomShardLocked returns the number of unreported orphans at which there is no
// room for this one. Those in debt have twice the room. Because their usage may be
// refunded, Redis would otherwise get refunds of usage that it never got.
func (sh *shard) orphanRoomShardLocked(k *lockedKey) int {
	if k.inDebt(sh.insertedAt) {
		return 2 * sh.keys.Size()
	}
	return sh.keys.Size()
}

// orphanDueShardLocked returns the instant at which an orphan is due: in the next round,
// or at once while there are many.
func (sh *shard) orphanDueShardLocked(a *account.Account) mono.Time {
	if sh.unreportedOrphans < sh.keys.Size()/2 {
		return a.ReportedAt
	}
	return dueUrgent
}

// forgetEvictedShardLocked drops the memory, the news and the unreported usage of an
// evicted key that is reset.
func (sh *shard) forgetEvictedShardLocked(field string) {
	sh.local.recall.table.Forget(sh.local.recallHashOf(field))
	sh.local.news.Put(news.Item{Field: field, Reset: true})
	sh.local.holds.Drop(field)
	for _, o := range slices.Clone(sh.orphans) {
		if o.field == field && !o.account.Frozen {
			o.account.Usage = 0 // the reset replaces it, so that it does not count as dropped
			sh.unreportedOrphans--
			sh.removeOrphanShardLocked(o)
		}
	}
}
