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
	"github.com/seed-e56e777b/limiter/internal/waitqueue"
)

const (
	spareOrphans = 64   // that a shard keeps the memory of, and as many as it has
	shardKeys    = 1024 // keys a shard should hold at least: fewer, and chance fills one long before the others
	maxShards    = 8192
	dueUrgent    = 0 // the due time of a key that is to be told at once

)

// local holds the buckets of this process.
type local struct {
	shards    []paddedShard
	shift     uint8       // of a hash, to the number of a shard
	stale     atomic.Bool // of some partition grants can't be renewed
	seeds     *table.Seeds
	limits    table.Limits
	spares    account.Spares
	random    uint64                // seed of the thresholds
	limit     atomic.Pointer[Limit] // Config.Limit
	prefix    string                // Config.Prefix
	secret    []byte                // of the digests that stand for keys in Redis; nil: none
	parts     []partition
	params    atomic.Pointer[account.Params]
	urgent    atomic.Bool       // some key is to be told at once
	frozen    atomic.Int64      // keys in a report without a reply yet
	news      *news.Table       // of any keys, and debts of those that were resident
	recall    *recaller         // of keys that were resident
	localKeys sync.Map          // field → localKey key of those in memory, with a secret: their fields don't tell which keys they are
	base      time.Time         // of the limiter's clock
	due       func(string)      // serves the waiting callers of a key whose turn has come
	queues    *waitqueue.Queues // of waiting callers, by the localKey form of their key
}

// partition is what deciders see of one partition of the keys.
type partition struct {
	staleSince atomic.Int64 // instant at which its grants could no longer be renewed; 0: they can
}

// paddedShard keeps cores that decide in one shard from waiting for another's.
type paddedShard struct {
	shard
	_ [64]byte
}

// shard is a part of the keys. Its lock guards what stands below it; it is taken before
// the locks of slots.
type shard struct {
	local    *local
	keys     table.Table
	accounts account.Pool
	phase    int64        // of the instants at which lazy keys are due, so that not all shards have them at once
	nextScan atomic.Int64 // no key that is marked due is planned for an earlier instant

	shadowed atomic.Uint64

	mu                sync.Mutex
	orphans           []*orphan // at account.orphan − 1
	freeOrphans       []*orphan // for newOrphanShardLocked
	unreportedOrphans int       // orphans that are not in a report; at most twice the size
	insertedAt        int64     // when the last key came

	evictions, dropped uint64
	demotedAt          int64 // when retire last looked through all keys
}

// lockedKey is a copy of what is known of a key that is locked: in its slot, or, if it
// is evicted, as an orphan: save writes it back, close and unlock do so too.
type lockedKey struct {
	bucket  bucket.Bucket
	flags   flags
	account *account.Account // nil: the fleet has nothing to hear of the key
	short   bool             // true if the account is made of its short form
	now     int64            // when it was loaded
	buffer  table.Buffer
	slot    table.Ref
	orphan  *orphan // nil: the key is in memory, in the slot
	shard   *shard
}

// flags are facts about a key that decisions need.
type flags uint16

const (
	shadow           flags = 1 << iota // true if the limit is in shadow mode: what exceeds it is admitted
	byDefault                          // true if the limit is Config.Limit
	relimited                          // true if the limit has to be requested again at the next decision
	awaited                            // true if callers wait for the key in local.queues
	unlimited                          // true if there is no limit: the bucket, if there was a limit before, goes on beneath
	blocked                            // true if nothing is admitted: likewise
	buffersAdmission                   // true if an admission need only be noted in the buffer
	buffersDenial                      // true if a denial need be
	hasAccount                         // true if the slot's Account is the number of an account; otherwise it is what others request, as a float32
	owesFloor                          // floorDue of a key without an account
	owesLimit                          // limitDue of one
	partBits                           // the lowest of the bits that have the partition's number, from 0

	notPlain = shadow | relimited | awaited | unlimited | blocked // true if a decision is more than arithmetic
)

func (f flags) is(either flags) bool { return f&either != 0 }

// mark makes what a flag says true, or untrue.
func (f *flags) mark(either flags, is bool) {
	*f &^= either
	if is {
		*f |= either
	}
}

// orphan is an evicted key with usage that is to be reported, or one that was never in
// memory. It is guarded by its shard's lock.
type orphan struct {
	localKey string // the key, where it was never in memory
	field    string
	hash     uint64
	bucket   bucket.Bucket
	flags    flags
	account  *account.Account
}

// rule is what the configuration says of a key, and the version of the limits
// that it is of.
type rule struct {
	limit     Limit
	byDefault bool // the limit is Config.Limit
	shadow    bool // the limit is on trial
	version   uint64
}

// newLocal makes room for maxKeys keys. Without partitions nothing is ever
// due.
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
		sh.local, sh.phase = lo, int64(i)*int64(account.LazyMost)/account.LazyScans/int64(n)
		sh.accounts.Spare = &lo.spares
		sh.keys.Init(maxKeys/n, skip, partitions > 0, lo.seeds)
		sh.nextScan.Store(mono.Never)
	}
	lo.shift = uint8(64 - bits.TrailingZeros(uint(n)))
	return lo
}

func (lo *local) shardOf(hash uint64) *shard { return &lo.shards[hash>>lo.shift].shard }

// locate returns the shard of a held key, and its hash.
func (lo *local) locate(localKey string) (*shard, uint64) {
	h := lo.seeds.Hash(localKey)
	return lo.shardOf(h), h
}

func (lo *local) eachShard() iter.Seq[*shard] {
	return func(yield func(*shard) bool) {
		for i := range lo.shards {
			if !yield(&lo.shards[i].shard) {
				return
			}
		}
	}
}

// fieldOf returns the field in Redis of a local key.
func (lo *local) fieldOf(localKey string) string { return keyform.Field(lo.secret, localKey) }

// recallHashOf is the hash by which the key of a field is remembered.
func (lo *local) recallHashOf(field string) uint64 {
	if lo.secret != nil {
		return lo.seeds.Hash(field)
	}
	return lo.seeds.Hash(keyform.FromField(field))
}

// find locks and loads a held key, if it is in memory.
func (lo *local) find(k *lockedKey, localKey string, now int64) bool {
	sh, hash := lo.locate(localKey)
	ref, ok := sh.keys.Find(hash, localKey, false)
	if ok {
		k.load(sh, ref, now)
	}
	return ok
}

// findField locks and loads the key of a field, if it is in memory.
func (lo *local) findField(k *lockedKey, field string, now int64) bool {
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

// each calls f for every key in memory, which it locks and loads. Deciders never wait for
// more than one of them.
func (lo *local) each(now int64, f func(*lockedKey)) {
	var k lockedKey // one, for it is on the heap
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

// load makes k a copy of a key in memory, whose slot is locked.
func (k *lockedKey) load(sh *shard, ref table.Ref, now int64) {
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
	case k.needsAccount():
		k.lengthen()
	default:
		k.bucket.Grant = k.bucket.Alone()
	}
}

// loadOrphan makes k a copy of an orphan, whose shard is locked.
func (k *lockedKey) loadOrphan(sh *shard, o *orphan, now int64) {
	*k = lockedKey{bucket: o.bucket, flags: o.flags, account: o.account, orphan: o, shard: sh, now: now}
}

// save writes back what is known.
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

// close ends what was done to a key: callers that wait for it and may go on do so, the
// key is as it was left, and it is not locked any more. An orphan's shard stays locked.
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

// unlock is close after a change that lets nobody go on who waits.
func (k *lockedKey) unlock() {
	k.save()
	k.slot.Unlock()
}

// lengthen makes the key an account of its short form.
func (k *lockedKey) lengthen() {
	lo := k.shard.local
	k.account, k.short = k.shard.accounts.Take(), true
	a := k.account
	a.Partition = uint16(k.flags/partBits) + 1
	l := table.Beside[account.Short](k.slot)
	if k.buffer.Taken == 0 && l.Stale == 0 && k.now > mono.Add(max(l.Epoch(), l.TAT, k.bucket.At), account.IdleAfter) {
		*l = account.NewShort(k.now) // what it says is as good as gone
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

// promote has the key keep its account.
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

// demote puts the account back into its short form, if that has all that matters.
func (k *lockedKey) demote() bool {
	a := k.account
	if a.Usage != 0 || a.Attempts != 0 {
		return k.unflush()
	}
	late := a.Due == dueUrgent || k.buffer.Taken == 0 && a.Due != mono.Never
	if late && a.Marks == 0 || k.flags.is(awaited) || !a.Shorten(table.Beside[account.Short](k.slot), &k.bucket, k.buffer, k.now, k.shard.local.params.Load()) {
		return false
	}
	k.flags.mark(owesFloor, a.Is(account.FloorDue))
	k.flags.mark(owesLimit, a.Is(account.LimitDue))
	k.slot.Account = math.Float32bits(float32(a.Others))
	return true
}

// unflush is shorten just after a reply, with tokens taken while that was on its way: they
// go back into the buffer.
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
	if a.Due < mono.Add(k.now, p.Interval) || !k.demote() {
		*a, k.buffer = kept, table.Buffer{}
		return false
	}
	k.flags.mark(buffersAdmission, true)
	k.flags.mark(buffersDenial, false)
	return true
}

// key is the key in the form in which it is held.
func (k *lockedKey) key() string {
	if k.orphan != nil {
		return k.orphan.localKey
	}
	return k.shard.keys.Key(k.slot)
}

// field is the key's field in Redis.
func (k *lockedKey) field() string {
	switch {
	case k.orphan != nil:
		return k.orphan.field
	case k.shard.local.secret != nil:
		return k.slot.Text()[:keyform.FieldSize]
	}
	return string(k.appendField(nil))
}

// appendField appends the field of a key in memory, without a secret.
func (k *lockedKey) appendField(b []byte) []byte {
	b = k.shard.keys.AppendKey(append(b, 'k'), k.slot)
	if len(b) > 1+keyform.MaxKey {
		b[0] = 'd'
		b = b[:keyform.FieldSize]
	}
	return b
}

// fieldHash is the hash of the key's field.
func (k *lockedKey) fieldHash() uint64 {
	if k.orphan != nil || k.shard.local.secret != nil {
		return exchange.Hash(k.field())
	}
	var room [1 + keyform.MaxKey + 1]byte
	return exchange.Hash(k.appendField(room[:0]))
}

// recallHash is the hash by which the key is remembered when it is evicted.
func (k *lockedKey) recallHash() uint64 {
	switch {
	case k.shard.local.secret != nil:
		return k.shard.local.seeds.Hash(k.field())
	case k.orphan != nil:
		return k.orphan.hash
	}
	return k.shard.keys.Hash(k.slot)
}

// totalUsage is the tokens admitted less those given back, ever.
func (k *lockedKey) totalUsage() int64 {
	if k.account == nil {
		return 0
	}
	return k.account.Taken() + int64(k.buffer.Taken)
}

// acquire locks and loads a key, which it brings into memory if need be, its grant up
// to date.
func (l *Limiter) acquire(k *lockedKey, key string, now int64) {
	localKey := keyform.Local(key)
	sh, hash := l.local.locate(localKey)
	ref, ok := sh.keys.Find(hash, localKey, true)
	l.load(k, key, localKey, sh, hash, ref, ok, now)
}

// load is acquire of a key that was looked for.
func (l *Limiter) load(k *lockedKey, key, localKey string, sh *shard, hash uint64, ref table.Ref, found bool, now int64) {
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

// insertOrRelimit brings a key into memory, or requests the limit of one that is there, and loads
// it. The limit is requested without a lock, and once more if limits
// changed meanwhile; if they did so again, the next decision asks.
func (l *Limiter) insertOrRelimit(k *lockedKey, key, localKey string, sh *shard, hash uint64, now int64) {
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

// insertOrRelimitShardLocked brings a key into memory by a rule, or gives it to one that is
// there and has to have its limit requested. It loads the key.
func (l *Limiter) insertOrRelimitShardLocked(k *lockedKey, localKey string, sh *shard, hash uint64, r rule, now int64) {
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

// applyRule gives a key what its rule says.
func (k *lockedKey) applyRule(r rule, now int64) {
	k.flags.mark(shadow, r.shadow)
	k.flags.mark(relimited, false)
	k.relimit(r.limit, r.byDefault, now)
}

// relimit gives the entry of a held key, if it is resident, what its rule says. Where
// limits have changed again meanwhile, the next decision asks.
func (l *Limiter) relimit(localKey string, r rule, now int64) {
	var k lockedKey
	if !l.local.find(&k, localKey, now) {
		return
	}
	if k.flags.is(relimited) && l.limits.Load() == r.version {
		k.applyRule(r, now)
	}
	k.close()
}

// copyOf makes k a copy of a key that nobody else sees, with an account in seen if it
// needs one. A key that is not in memory is made up. It returns the tokens that wait for
// the key too.
func (l *Limiter) copyOf(k *lockedKey, key string, now int64, seen *account.Account) (waiting float64) {
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

// insertShardLocked brings a held key into memory, for which another one may be evicted, and
// locks it.
func (sh *shard) insertShardLocked(k *lockedKey, localKey string, hash uint64, lim Limit, now int64) {
	lo, field, text := sh.local, "", ""
	if lo.secret != nil {
		field = lo.fieldOf(localKey)
		text = field + localKey
	}
	*k = lockedKey{shard: sh, now: now}
	sh.insertedAt = now
	k.slot = sh.keys.Insert(hash, localKey, text, sh.evictShardLocked)
	k.bucket = newBucket(lim, now)
	k.slot.Limit = lo.limits.Take(table.Limit{Rate: k.bucket.Rate, Burst: k.bucket.Burst})
	if k.initialize(localKey) {
		lo.news.Put(news.Item{Field: k.field(), Reset: true}) // until it is evicted again
	}
	if field != "" {
		lo.localKeys.Store(field, text[keyform.FieldSize:])
	}
}

// initialize makes a key, which has a limit, one of which only that is known which is
// remembered of the key, and reports whether that is a debt. Another key's memory may
// be taken for its own, but no debt.
func (k *lockedKey) initialize(localKey string) (owes bool) {
	lo, now := k.shard.local, k.now
	k.flags.mark(unlimited, k.bucket.Unlimited())
	k.flags.mark(blocked, k.bucket.Burst == 0)
	if k.orphan == nil && lo.queues.Has(localKey) {
		k.setAwaited(true)
		lo.queues.Forget(localKey) // the bucket knows of no reservation
	}
	if k.needsAccount() {
		k.openAccount(now)
	}
	return k.restore(now)
}

// restore sets a bucket that is about to be shared by what is remembered of its key, and
// reports whether that is a debt.
func (k *lockedKey) restore(now int64) (owes bool) {
	if !k.bucket.Shared() {
		return false
	}
	lo := k.shard.local
	remembered := min(lo.recall.table.Get(k.recallHash()), mono.Add(now, mono.Seconds(k.bucket.Burst/k.bucket.Rate)))
	if it, ok := lo.newsOf(k, now); ok && it.Own {
		owes = true
		remembered = max(remembered, believedTAT(&k.bucket, it, now))
	}
	k.bucket.Level = k.bucket.LevelUntil(remembered, now)
	if k.account != nil && remembered > now {
		k.account.RepliedTAT = remembered
	}
	return owes
}

// setAwaited notes that callers wait for the key, or that none does.
func (k *lockedKey) setAwaited(is bool) {
	k.flags.mark(awaited, is)
	if k.orphan == nil {
		k.slot.SetMark(table.Pinned, is)
	}
}

// setSlotLimit has the slot refer to the limit of the bucket.
func (k *lockedKey) setSlotLimit() {
	if k.orphan != nil {
		return
	}
	limits := &k.shard.local.limits
	old := k.slot.Limit
	k.slot.Limit = limits.Take(table.Limit{Rate: k.bucket.Rate, Burst: k.bucket.Burst})
	limits.Release(old)
}

// decideFast decides on a key by its slot and its account's first cache line, as far as
// they say all that a decision needs, and unlocks it; done is false where they don't.
func (sh *shard) decideFast(s table.Ref, now, n int64) (ok, done bool) {
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
		done = done && now-s.At < lo.params.Load().GrantTime && !lo.stale.Load()
	}
	level := bucket.LevelAfter(s.Level, now-s.At, refill, capacity)
	ok = cost <= lim.Burst && bucket.Enough(level, needed, refill)
	if done && len(lo.parts) != 0 {
		done = f.is(bufferFlag(ok)) && s.Buffer.Add(n, ok) || ok && s.Buffer.Attempts == 0 && !f.is(hasAccount) && sh.recordFirst(s, level, now, n)
	}
	switch {
	case !done:
	case ok:
		s.Level, s.At = level-cost, max(s.At, now)
		sh.keys.Allow(s.Slot)
	default:
		sh.keys.Deny(s.Slot)
	}
	s.Unlock()
	return ok, done
}

// recordFirst notes the first tokens that are taken of a key since its last report, at the given
// level: noteLight in short. It returns false where that does not do.
func (sh *shard) recordFirst(s table.Ref, level float64, now, n int64) bool {
	l, p := table.Beside[account.Short](s), sh.local.params.Load()
	lim := sh.local.limits.At(s.Limit)
	b := bucket.Bucket{Rate: lim.Rate, Burst: lim.Burst}
	epoch := l.Epoch()
	most := min(account.PoolAlarm(level, p)-1, int64(bucket.Clamp(b.Burst/2/p.Fleet)))
	cost := math.Float32frombits(uint32(l.Cost) << 16)
	if flags(s.Flags).is(owesFloor|owesLimit) || l.Stale != 0 || n == 0 || n > most || float32(n) != cost ||
		now >= max(mono.Add(epoch, max(account.GrantIntervals*p.Interval, account.LazyPeriod(&b))), l.TAT) || now-epoch > account.TickRange {
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

// bufferFlag is the flag by which a decision need only be noted in the buffer.
func bufferFlag(ok bool) flags {
	if ok {
		return buffersAdmission
	}
	return buffersDenial
}

// decide takes n tokens and says so, or counts a denial; one that is admitted where the
// limit is in shadow mode.
func (k *lockedKey) decide(now, n int64) bool {
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

// admitInShadow admits a cost that a limit in shadow mode would have denied.
func (k *lockedKey) admitInShadow(now, n int64) {
	k.shard.shadowed.Add(1)
	k.count(true)
	k.record(now, n, false)
}

// count counts a decision on the key.
func (k *lockedKey) count(ok bool) {
	switch keys := &k.shard.keys; {
	case k.orphan != nil:
		keys.CountOutside(ok)
	case ok:
		keys.Allow(k.slot.Slot)
	default:
		keys.Deny(k.slot.Slot)
	}
}

// addTo adds up what the shard and its keys have counted.
func (sh *shard) addTo(s *Stats) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	allowed, denied := sh.keys.Decisions()
	s.Allowed += allowed
	s.Denied += denied
	s.Shadowed += sh.shadowed.Load()
	s.Keys += sh.keys.Len()
	s.Evicted += sh.evictions
	s.DroppedTokens += sh.dropped
}

// evictShardLocked ends what is known of a key whose slot another key takes. What it has not
// reported goes to the next round all the same, up to a bound.
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
		return // the timer of the queue, if there is one, brings the key back when a turn comes
	}
	a.Queued = 0
	a.Mark(account.ReportedQueue, false) // no later report can take the demand back: it decays
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

// recaller keeps what evicted keys have taken from coming back as a fresh burst, and
// what they owe from being forgotten. Of those in debt few are expected, and they are
// kept by name: two that meet in a cell must not pay for each other.
type recaller struct {
	table *recall.Table // by the hashes of keys
	debts *news.Table
	limit bucket.Bucket // the last default limit that is one; under Limiter.changing
}

// remember remembers a key that goes.
func (r *recaller) remember(k *lockedKey, now int64) {
	if !k.bucket.Shared() {
		return
	}
	full := k.fullAt()
	r.table.Put(k.recallHash(), full, now)
	if k.inDebt(now) {
		r.debts.Put(news.Item{Field: strings.Clone(k.field()), TAT: full, Limit: k.bucket.ExchangeLimit(), Own: true})
	}
}

// relimit has keys remembered as what they would be had they been resident when the
// default limit changed, also by way of one that is none. Those with a limit of their own
// are taken for others: they may come back with less than they had, never below empty.
func (r *recaller) relimit(lim Limit, now int64) {
	from, to := r.limit, newBucket(lim, now)
	if !to.Shared() {
		return
	}
	if r.limit = to; from.Shared() {
		r.table.PutOff(func(tat int64) int64 { return bucket.UnderLimit(tat, now, from.ExchangeLimit(), to.ExchangeLimit()) }, now)
	}
}

// fullAt is when the key's bucket is full again, by all that was known of it
// at the last decision. A share's level says little: it is mostly low.
func (k *lockedKey) fullAt() int64 {
	b, a := &k.bucket, k.account
	switch {
	case a == nil:
		return mono.Add(b.At, bucket.Delay(b.Level-b.Burst, b.Rate))
	case b.Mode == bucket.Share:
		return mono.Add(max(a.TAT, b.At), bucket.Delay(-a.Unreported(b.Rate), b.Rate))
	case b.Mode == bucket.Stale:
		return mono.Add(b.At, bucket.Delay(b.Level-b.Capacity, b.Refill))
	}
	return max(a.TAT, mono.Add(b.At, bucket.Delay(b.Level-b.Burst, b.Rate)))
}

// inDebt reports whether the key's bucket is below empty.
func (k *lockedKey) inDebt(now int64) bool {
	return k.fullAt() > mono.Add(now, mono.Seconds(k.bucket.Burst/k.bucket.Rate))
}

// makeOrphan makes a held key that is not in memory: an orphan that its shard does not have.
func (sh *shard) makeOrphan(k *lockedKey, localKey string, lim Limit, now int64) {
	o := &orphan{localKey: strings.Clone(localKey), field: sh.local.fieldOf(localKey), hash: sh.local.seeds.Hash(localKey), bucket: newBucket(lim, now)}
	k.loadOrphan(sh, o, now)
	k.initialize(localKey)
}

// adoptOrphan takes over an orphan that was made up, after a decision on it.
func (sh *shard) adoptOrphan(k *lockedKey, now int64) {
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

// newOrphanShardLocked returns the memory of an orphan that has gone, or new memory.
func (sh *shard) newOrphanShardLocked() *orphan {
	last := len(sh.freeOrphans) - 1
	if last < 0 {
		return new(orphan)
	}
	o := sh.freeOrphans[last]
	sh.freeOrphans = sh.freeOrphans[:last]
	return o
}

// addOrphanShardLocked keeps an orphan until it is reported.
func (sh *shard) addOrphanShardLocked(o *orphan) {
	sh.orphans = append(sh.orphans, o)
	o.account.Orphan = uint32(len(sh.orphans))
	if !o.account.Frozen {
		sh.unreportedOrphans++
	}
}

// removeOrphanShardLocked lets go of an orphan.
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

// updateOrphanShardLocked lets go of an orphan that is not in a report, and has no usage to report.
func (sh *shard) updateOrphanShardLocked(k *lockedKey) {
	a := k.account
	switch {
	case a.Orphan == 0: // it has gone
	case a.Frozen:
	case a.Usage == 0:
		sh.unreportedOrphans--
		sh.removeOrphanShardLocked(k.orphan)
	case a.Due == mono.Never:
		sh.setDue(a, sh.orphanDueShardLocked(a), nil)
	}
}

// orphanRoomShardLocked is the number of orphans among which there is room for one more.
// Those in debt come last: what they were charged may be refunded, and a refund of what
// Redis has never heard of would be a gift.
func (sh *shard) orphanRoomShardLocked(k *lockedKey) int {
	if k.inDebt(sh.insertedAt) {
		return 2 * sh.keys.Size()
	}
	return sh.keys.Size()
}

// orphanDueShardLocked is when an orphan is to be exchanged: in the next round, or, in a flood,
// before.
func (sh *shard) orphanDueShardLocked(a *account.Account) int64 {
	if sh.unreportedOrphans < sh.keys.Size()/2 {
		return a.ReportedAt
	}
	return dueUrgent
}

// forgetEvictedShardLocked drops what an orphan of a field had to report, and what is
// remembered or was heard of the key.
func (sh *shard) forgetEvictedShardLocked(field string) {
	sh.local.recall.table.Forget(sh.local.recallHashOf(field))
	sh.local.news.Put(news.Item{Field: field, Reset: true})
	for _, o := range slices.Clone(sh.orphans) {
		if o.field == field && !o.account.Frozen {
			o.account.Usage = 0 // nothing was dropped
			sh.unreportedOrphans--
			sh.removeOrphanShardLocked(o)
		}
	}
}
