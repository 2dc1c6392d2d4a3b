package limiter

import (
	"crypto/hmac"
	"crypto/sha256"
	"iter"
	"math"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter/internal/account"
	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/news"
	"github.com/seed-e56e777b/limiter/internal/outage"
	"github.com/seed-e56e777b/limiter/internal/recall"
	"github.com/seed-e56e777b/limiter/internal/table"
	"github.com/seed-e56e777b/limiter/internal/waitqueue"
)

const (
	maxKey     = 64 // bytes; a longer key is held and sent as a digest
	digestSize = 16
	fieldSize  = 1 + digestSize // of a field that is a digest

	countTries  = 3    // of counting what slots have counted
	goneOrphans = 64   // that a shard keeps the memory of, and as many as it has
	shardKeys   = 1024 // keys a shard should hold at least: fewer, and chance fills one long before the others
	maxShards   = 8192
	dueUrgent   = 0 // the due time of a key that is to be told at once

)

// flags are facts about a key that decisions need.
type flags uint16

const (
	shadow    flags = 1 << iota // true if the limit is in shadow mode: what exceeds it is admitted
	byDefault                   // true if the limit is Config.Limit
	relimited                   // true if the limit has to be requested again at the next decision
	awaited                     // true if callers wait for the key in local.queues
	open                        // true if there is no limit: the bucket, if there was a limit before, goes on beneath
	shut                        // true if nothing is admitted: likewise
	allows                      // true if an admission need only be noted in the buffer
	denies                      // true if a denial need be
	contended                   // true if the slot's Account is the number of an account; otherwise it is what others request, as a float32
	owesFloor                   // floorDue of a key without an account
	owesLimit                   // limitDue of one
	partBits                    // the lowest of the bits that have the partition's number, from 0

	special = shadow | relimited | awaited | open | shut // true if a decision is more than arithmetic
)

func (f flags) is(either flags) bool { return f&either != 0 }

// mark makes what a flag says true, or untrue.
func (f *flags) mark(either flags, is bool) {
	*f &^= either
	if is {
		*f |= either
	}
}

// lockedKey is a copy of what is known of a key that is locked: in its slot, or, if it
// is evicted, as an orphan: save writes it back, close and unlock do so too.
type lockedKey struct {
	bucket  bucket.Bucket
	flags   flags
	account *account.Account // nil: the fleet has nothing to hear of the key
	light   bool             // true if the account is made of its short form
	now     int64            // when it was loaded
	buffer  table.Buffer
	slot    table.Ref
	orphan  *orphan // nil: the key is in memory, in the slot
	shard   *shard
}

// orphan is an evicted key with usage that is to be reported, or one that was never in
// memory. It is guarded by its shard's lock.
type orphan struct {
	held    string // the key, where it was never in memory
	field   string
	hash    uint64
	bucket  bucket.Bucket
	flags   flags
	account *account.Account
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
	soonest  atomic.Int64 // no key that is marked due is planned for an earlier instant

	allowed, denied atomic.Uint64 // except what slots have counted
	shadowed        atomic.Uint64

	mu      sync.Mutex
	orphans []*orphan // at account.orphan − 1
	gone    []*orphan // for newOrphan
	untold  int       // orphans that are not in a report; at most twice the size
	met     int64     // when the last key came

	evictions, dropped uint64
	counted            [2]uint64 // allowed and denied, as last told
	swept              int64     // when retire last looked through all keys
}

// local holds the buckets of this process.
type local struct {
	shards []paddedShard
	shift  uint8       // of a hash, to the number of a shard
	stale  atomic.Bool // of some partition grants can't be renewed
	seeds  *table.Seeds
	limits table.Limits
	spare  account.Spares
	random uint64                // seed of the thresholds
	limit  atomic.Pointer[Limit] // Config.Limit
	prefix string                // Config.Prefix
	secret []byte                // of the digests that stand for keys in Redis; nil: none
	parts  []partition
	world  atomic.Pointer[account.Params]
	urgent atomic.Bool       // some key is to be told at once
	frozen atomic.Int64      // keys in a report without a reply yet
	heard  *news.Table       // of any keys, and debts of those that were resident
	recall *recaller         // of keys that were resident
	hidden sync.Map          // field → held key of those in memory, with a secret: their fields don't tell which keys they are
	base   time.Time         // of the limiter's clock
	due    func(string)      // serves the waiting callers of a key whose turn has come
	queues *waitqueue.Queues // of waiting callers, by the held form of their key
}

// newLocal makes room for maxKeys keys. Without partitions nothing is ever
// due.
func newLocal(maxKeys, partitions int, random uint64, secret []byte) *local {
	lo := &local{seeds: table.NewSeeds(), random: random, parts: make([]partition, partitions), secret: secret}
	lo.heard = news.NewTable()
	lo.recall = &recaller{table: recall.New(maxKeys), debts: lo.heard}
	lo.queues = waitqueue.New(func(key string) { lo.due(key) })
	n := 1
	for n < maxShards && n*2*shardKeys <= maxKeys {
		n *= 2
	}
	skip := 0
	if secret != nil {
		skip = fieldSize
	}
	lo.shards = make([]paddedShard, n)
	for i := range lo.shards {
		sh := &lo.shards[i].shard
		sh.local, sh.phase = lo, int64(i)*int64(account.LazyMost)/account.LazyScans/int64(n)
		sh.accounts.Spare = &lo.spare
		sh.keys.Init(maxKeys/n, skip, partitions > 0, lo.seeds)
		sh.soonest.Store(mono.Never)
	}
	lo.shift = uint8(64 - bits.TrailingZeros(uint(n)))
	return lo
}

// heldKey is the form in which a key is held: itself, or, above maxKey bytes,
// its digest.
func heldKey(key string) string {
	if len(key) > maxKey {
		return table.Digest(key, digestSize, new([maxKey + 1]byte)[:])
	}
	return key
}

// heldOf is the held form of a key whose field in Redis is given.
func heldOf(field string) string {
	if field[0] == 'd' {
		return field[1:] + string(make([]byte, maxKey+1-digestSize))
	}
	return field[1:]
}

// fieldOf is the field in Redis of a held key: a type byte, then the key or its digest.
func (lo *local) fieldOf(held string) string {
	switch {
	case lo.secret != nil:
		return "d" + keyedDigest(lo.secret, held)
	case len(held) > maxKey:
		return "d" + held[:digestSize]
	}
	return "k" + held
}

// keyedDigest says nothing of a key to those who don't have the secret.
func keyedDigest(secret []byte, held string) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(held))
	return string(mac.Sum(nil)[:digestSize])
}

// locate returns the shard of a held key, and its hash.
func (lo *local) locate(held string) (*shard, uint64) {
	h := lo.seeds.Hash(held)
	return lo.shardOf(h), h
}

func (lo *local) shardOf(hash uint64) *shard { return &lo.shards[hash>>lo.shift].shard }

func (lo *local) eachShard() iter.Seq[*shard] {
	return func(yield func(*shard) bool) {
		for i := range lo.shards {
			if !yield(&lo.shards[i].shard) {
				return
			}
		}
	}
}

// key is the key in the form in which it is held.
func (k *lockedKey) key() string {
	if k.orphan != nil {
		return k.orphan.held
	}
	return k.shard.keys.Key(k.slot)
}

// field is the key's field in Redis.
func (k *lockedKey) field() string {
	switch {
	case k.orphan != nil:
		return k.orphan.field
	case k.shard.local.secret != nil:
		return k.slot.Text()[:fieldSize]
	}
	return string(k.appendField(nil))
}

// appendField appends the field of a key in memory, without a secret.
func (k *lockedKey) appendField(b []byte) []byte {
	b = k.shard.keys.AppendKey(append(b, 'k'), k.slot)
	if len(b) > 1+maxKey {
		b[0] = 'd'
		b = b[:fieldSize]
	}
	return b
}

// fieldHash is the hash of the key's field.
func (k *lockedKey) fieldHash() uint64 {
	if k.orphan != nil || k.shard.local.secret != nil {
		return exchange.Hash(k.field())
	}
	var room [1 + maxKey + 1]byte
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

// load makes k a copy of a key in memory, whose slot is locked.
func (k *lockedKey) load(sh *shard, ref table.Ref, now int64) {
	lim := sh.local.limits.At(ref.Limit)
	*k = lockedKey{
		bucket: bucket.Bucket{Rate: lim.Rate, Burst: lim.Burst, Level: ref.Level, At: ref.At, LastEvent: ref.At},
		flags:  flags(ref.Flags), buffer: ref.Buffer, slot: ref, shard: sh, now: now,
	}
	switch {
	case k.flags.is(contended):
		k.account = sh.accounts.At(ref.Account)
		k.bucket.Grant = k.account.Grant
		k.bucket.LastEvent = max(ref.At, k.account.LastEvent)
	case k.needsAccount():
		k.lengthen()
	default:
		k.bucket.Grant = k.bucket.Alone()
	}
}

// lengthen makes the key an account of its short form.
func (k *lockedKey) lengthen() {
	lo := k.shard.local
	k.account, k.light = k.shard.accounts.Take(), true
	a := k.account
	a.Partition = uint16(k.flags/partBits) + 1
	l := table.Beside[account.Short](k.slot)
	if k.buffer.Taken == 0 && l.Stale == 0 && k.now > mono.Add(max(l.Epoch(), l.TAT, k.bucket.At), account.IdleAfter) {
		*l = account.NewShort(k.now) // what it says is as good as gone
		k.bucket.Level, k.bucket.At, k.bucket.LastEvent = k.bucket.Burst, k.now, k.now
		k.slot.Level, k.slot.At, k.slot.Account = k.bucket.Level, k.now, 0
	}
	l.Lengthen(a, &k.bucket, math.Float32frombits(k.slot.Account), k.staleSince(), lo.world.Load())
	a.Alarm = account.PoolAlarm(min(k.bucket.Burst, k.bucket.Level+float64(k.buffer.Taken)), lo.world.Load())
	a.Mark(account.FloorDue, k.flags.is(owesFloor))
	a.Mark(account.LimitDue, k.flags.is(owesLimit))
	if a.Marks != 0 || k.buffer.Taken != 0 {
		a.Due = k.shard.dueOf(k.slot)
	}
}

// promote has the key keep its account.
func (k *lockedKey) promote() {
	if k.light {
		k.flush(k.now)
		k.flags |= contended
		k.slot.Account, k.light = k.account.Number, false
		if due := k.account.Due; due != mono.Never {
			k.account.Due = mono.Never
			k.planBy(due)
		}
	}
}

// shorten puts the account back into its short form, if that has all that matters.
func (k *lockedKey) shorten() bool {
	a := k.account
	if a.Usage != 0 || a.Attempts != 0 {
		return k.unflush()
	}
	late := a.Due == dueUrgent || k.buffer.Taken == 0 && a.Due != mono.Never
	if late && a.Marks == 0 || k.flags.is(awaited) || !a.Shorten(table.Beside[account.Short](k.slot), &k.bucket, k.buffer, k.now, k.shard.local.world.Load()) {
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
	kept, w := *a, k.shard.local.world.Load()
	taken := a.Usage
	a.UnfoldSinceReply(b.Rate, w)
	k.buffer = account.NewBuffer(max(taken, min(a.Alarm-1, a.FairRoom(k.now, b, w)+taken)), min(a.Request(), b.Capacity))
	k.buffer.Attempts, k.buffer.Taken = uint16(taken), uint16(taken)
	if a.Due < mono.Add(k.now, w.Interval) || !k.shorten() {
		*a, k.buffer = kept, table.Buffer{}
		return false
	}
	k.flags.mark(allows, true)
	k.flags.mark(denies, false)
	return true
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
		case k.light && k.shorten():
			k.flags &^= contended
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
		k.shard.keepOrphan(k)
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

// numberLimit has the slot refer to the limit of the bucket.
func (k *lockedKey) numberLimit() {
	if k.orphan != nil {
		return
	}
	limits := &k.shard.local.limits
	old := k.slot.Limit
	k.slot.Limit = limits.Take(table.Limit{Rate: k.bucket.Rate, Burst: k.bucket.Burst})
	limits.Release(old)
}

// admits reports whether a cost of n is admitted at the given level.
func (k *lockedKey) admits(level, n float64) bool {
	if k.flags.is(open | shut) {
		return k.flags.is(open) || n == 0
	}
	return k.bucket.Admits(level, n)
}

// exceeds reports whether no level admits a cost of n.
func (k *lockedKey) exceeds(n float64) bool {
	return !k.flags.is(open) && (n > k.bucket.Burst || k.flags.is(shut) && n > 0)
}

// applied is the limit that decisions go by.
func (k *lockedKey) applied() Limit {
	switch {
	case k.flags.is(open):
		return Limit{Rate: rate.Inf}
	case k.flags.is(shut):
		return Limit{}
	}
	return limitOf(&k.bucket)
}

// needsAccount reports whether the key does, and has none for the exchange: its limit is
// one that the fleet shares.
func (k *lockedKey) needsAccount() bool {
	return !k.exchanges() && len(k.shard.local.parts) > 0 && k.bucket.Shared()
}

// exchanges reports whether the fleet is told of the key.
func (k *lockedKey) exchanges() bool { return k.account.Exchanges() }

// begin makes a key, which has a limit, one of which only that is known which is
// remembered of the key, and reports whether that is a debt. Another key's memory may
// be taken for its own, but no debt.
func (k *lockedKey) begin(held string) (owes bool) {
	lo, now := k.shard.local, k.now
	k.flags.mark(open, k.bucket.Unlimited())
	k.flags.mark(shut, k.bucket.Burst == 0)
	if k.orphan == nil && lo.queues.Has(held) {
		k.setAwaited(true)
		lo.queues.Forget(held) // the bucket knows of no reservation
	}
	if k.needsAccount() {
		k.join(now)
	}
	return k.resume(now)
}

// setAwaited notes that callers wait for the key, or that none does.
func (k *lockedKey) setAwaited(is bool) {
	k.flags.mark(awaited, is)
	if k.orphan == nil {
		k.slot.SetMark(table.Pinned, is)
	}
}

// resume sets a bucket that is about to be shared by what is remembered of its key, and
// reports whether that is a debt.
func (k *lockedKey) resume(now int64) (owes bool) {
	if !k.bucket.Shared() {
		return false
	}
	lo := k.shard.local
	remembered := min(lo.recall.of(k.recallHash()), mono.Add(now, mono.Seconds(k.bucket.Burst/k.bucket.Rate)))
	if it, ok := lo.heardOf(k, now); ok && it.Own {
		owes = true
		remembered = max(remembered, believed(&k.bucket, it, now))
	}
	k.bucket.Level = k.bucket.LevelUntil(remembered, now)
	if k.account != nil && remembered > now {
		k.account.RepliedTAT = remembered
	}
	return owes
}

// heardOf returns what was heard of a key, if it still holds.
func (lo *local) heardOf(k *lockedKey, now int64) (news.Item, bool) {
	if lo.heard.Empty() {
		return news.Item{}, false
	}
	return lo.heard.Get(k.field(), now)
}

// join gives a key that has none an account, and tells that what was heard of the key.
func (k *lockedKey) join(now int64) {
	lo := k.shard.local
	if k.account == nil { // else it has one for its reservations
		k.takeAccount(now)
		k.light = k.orphan == nil
	}
	part := k.fieldHash() % uint64(len(lo.parts))
	k.account.Partition = 1 + uint16(part)
	k.flags = k.flags&(partBits-1) | flags(part)*partBits
	if it, ok := lo.heardOf(k, now); ok {
		w := lo.world.Load()
		k.account.TAT = believed(&k.bucket, it, now)
		k.account.AnnouncedTAT = k.account.TAT
		k.account.Others = float64(it.Demand) / account.AttemptsMilli / w.Tau.Seconds()
		k.account.MeanOthers = float32(k.account.Others)
	}
}

// takeAccount gives a key that has none an account.
func (k *lockedKey) takeAccount(now int64) {
	k.account = k.shard.accounts.Take()
	k.account.Begin(now)
	if k.orphan != nil {
		k.orphan.account = k.account
		return
	}
	k.flags |= contended
	k.slot.Account = k.account.Number
}

// dropReserved takes from a key that has nothing to do with the exchange the account that
// it has for its reservations, if they may have acted.
func (k *lockedKey) dropReserved(now int64) {
	if max(k.bucket.LastEvent, k.account.Reserved) < now && !k.account.Frozen {
		k.dropAccount()
	}
}

// dropAccount takes its account from a key that has nothing to do with the exchange.
func (k *lockedKey) dropAccount() {
	k.shard.accounts.Release(k.account)
	k.flags &^= contended
	k.slot.Account, k.account = 0, nil
}

// believed is the TAT of an item, by the limit that the key has here, as far as it is
// believed.
func believed(b *bucket.Bucket, it news.Item, now int64) int64 {
	tat := bucket.UnderLimit(it.TAT, now, it.Limit, b.ExchangeLimit())
	if it.Own {
		return tat
	}
	return min(tat, b.Furthest(now, bucket.LongestDebt))
}

// recaller keeps what evicted keys have taken from coming back as a fresh burst, and
// what they owe from being forgotten. Of those in debt few are expected, and they are
// kept by name: two that meet in a cell must not pay for each other.
type recaller struct {
	table *recall.Table // by the hashes of keys
	debts *news.Table
	limit bucket.Bucket // the last default limit that is one; under Limiter.changing
}

// from remembers a key that goes.
func (r *recaller) from(k *lockedKey, now int64) {
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

// of is until when a key's bucket is not full, as far as it is remembered.
func (r *recaller) of(hash uint64) int64 { return r.table.Get(hash) }

func (r *recaller) forget(hash uint64) { r.table.Forget(hash) }

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

// hear takes in news: into a key in memory, else into the table.
func (lo *local) hear(it news.Item, now int64) {
	var k lockedKey
	if !lo.resident(&k, it.Field, now) {
		if it.Reset {
			lo.recall.forget(lo.recallHashOf(it.Field))
			lo.queues.Wake(heldOf(it.Field))
		}
		lo.heard.Put(it)
		return
	}
	defer k.close()
	k.flush(now)
	lo.heard.Put(it) // more than the key here believes, until its next reply; or what was heard before the key was met would outlive its eviction
	switch w := lo.world.Load(); {
	case !k.exchanges():
	case it.Reset:
		k.account.ReceiveReset(&k.bucket, now, w)
	default:
		pool := k.bucket.Mode == bucket.Pool
		k.account.Receive(&k.bucket, bucket.UnderLimit(it.TAT, now, it.Limit, k.bucket.ExchangeLimit()), it.Demand, now, w)
		if pool && k.bucket.Mode == bucket.Share {
			k.redraw(w)
		}
	}
}

// recallHashOf is the hash by which the key of a field is remembered.
func (lo *local) recallHashOf(field string) uint64 {
	if lo.secret != nil {
		return lo.seeds.Hash(field)
	}
	return lo.seeds.Hash(heldOf(field))
}

// unsay notes that the news of a key was cut. The next report that finds the key low
// puts it again.
func (lo *local) unsay(field string, now int64) {
	var k lockedKey
	if lo.resident(&k, field, now) {
		if k.exchanges() {
			k.account.AnnouncedTAT = 0
		}
		k.unlock()
	}
}

// resident locks and loads the key of a field, if it is in memory.
func (lo *local) resident(k *lockedKey, field string, now int64) bool {
	held := ""
	if lo.secret == nil {
		held = heldOf(field)
	} else if v, ok := lo.hidden.Load(field); ok {
		held = v.(string)
	} else {
		return false
	}
	return lo.find(k, held, now)
}

// repliedSince reports whether a key is in memory, and the last word of it was a reply.
func (lo *local) repliedSince(field string, now int64) bool {
	var k lockedKey
	if !lo.resident(&k, field, now) {
		return false
	}
	defer k.unlock()
	return k.account != nil && k.account.TAT <= k.account.RepliedTAT
}

// find locks and loads a held key, if it is in memory.
func (lo *local) find(k *lockedKey, held string, now int64) bool {
	sh, hash := lo.locate(held)
	ref, ok := sh.keys.Find(hash, held, false)
	if ok {
		k.load(sh, ref, now)
	}
	return ok
}

// flush tells the key's account what is in its buffer. The next decision looks at the
// account too.
func (k *lockedKey) flush(now int64) {
	if k.account == nil {
		return
	}
	if k.buffer.Attempts != 0 {
		k.account.Flush(k.buffer, &k.bucket, now, k.shard.local.world.Load())
	}
	k.account.FastUntil, k.buffer = 0, table.Buffer{}
}

// taken is the tokens admitted less those given back, ever.
func (k *lockedKey) taken() int64 {
	if k.account == nil {
		return 0
	}
	return k.account.Taken() + int64(k.buffer.Taken)
}

// insertLocked brings a held key into memory, for which another one may be evicted, and
// locks it.
func (sh *shard) insertLocked(k *lockedKey, held string, hash uint64, lim Limit, now int64) {
	lo, field, text := sh.local, "", ""
	if lo.secret != nil {
		field = lo.fieldOf(held)
		text = field + held
	}
	*k = lockedKey{shard: sh, now: now}
	sh.met = now
	k.slot = sh.keys.Insert(hash, held, text, sh.evictLocked)
	k.bucket = newBucket(lim, now)
	k.slot.Limit = lo.limits.Take(table.Limit{Rate: k.bucket.Rate, Burst: k.bucket.Burst})
	if k.begin(held) {
		lo.heard.Put(news.Item{Field: k.field(), Reset: true}) // until it is evicted again
	}
	if field != "" {
		lo.hidden.Store(field, text[fieldSize:])
	}
}

// evictLocked ends what is known of a key whose slot another key takes. What it has not
// reported goes to the next round all the same, up to a bound.
func (sh *shard) evictLocked(ref table.Ref) {
	var k lockedKey
	k.load(sh, ref, sh.met)
	k.flush(sh.met)
	if sh.local.secret != nil {
		sh.local.hidden.Delete(k.field())
	}
	sh.local.recall.from(&k, sh.met)
	sh.evictions++
	sh.allowed.Add(uint64(ref.Allowed))
	sh.denied.Add(uint64(ref.Denied))
	sh.local.limits.Release(ref.Limit)
	a := k.account
	if a == nil {
		return // the timer of the queue, if there is one, brings the key back when a turn comes
	}
	a.Queued = 0
	a.Mark(account.ReportedQueue, false) // no later report can take the demand back: it decays
	if !a.Frozen && (a.Usage == 0 || sh.untold >= sh.roomFor(&k)) {
		sh.dropped += uint64(max(0, a.Usage))
		sh.accounts.Release(a)
		return
	}
	o := sh.newOrphan()
	*o = orphan{field: k.field(), hash: sh.keys.Hash(ref), bucket: k.bucket, flags: k.flags &^ awaited, account: a}
	sh.addOrphan(o)
	if !a.Frozen {
		a.Due = mono.Never
		sh.plan(a, sh.orphanDue(a), nil)
	}
}

// makeUp makes a held key that is not in memory: an orphan that its shard does not have.
func (sh *shard) makeUp(k *lockedKey, held string, lim Limit, now int64) {
	o := &orphan{held: strings.Clone(held), field: sh.local.fieldOf(held), hash: sh.local.seeds.Hash(held), bucket: newBucket(lim, now)}
	k.loadOrphan(sh, o, now)
	k.begin(held)
}

// adopt takes over an orphan that was made up, after a decision on it.
func (sh *shard) adopt(k *lockedKey, now int64) {
	k.flush(now)
	sh.local.recall.from(k, now)
	k.save()
	if k.account == nil {
		return
	}
	k.account.Due = mono.Never
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.untold >= sh.roomFor(k) {
		sh.dropped += uint64(max(0, k.account.Usage))
		sh.accounts.Release(k.account)
		return
	}
	sh.addOrphan(k.orphan)
	sh.keepOrphan(k)
}

// newOrphan returns the memory of an orphan that has gone, or new memory.
func (sh *shard) newOrphan() *orphan {
	last := len(sh.gone) - 1
	if last < 0 {
		return new(orphan)
	}
	o := sh.gone[last]
	sh.gone = sh.gone[:last]
	return o
}

// addOrphan keeps an orphan until it is reported.
func (sh *shard) addOrphan(o *orphan) {
	sh.orphans = append(sh.orphans, o)
	o.account.Orphan = uint32(len(sh.orphans))
	if !o.account.Frozen {
		sh.untold++
	}
}

// removeOrphan lets go of an orphan.
func (sh *shard) removeOrphan(o *orphan) {
	i, last := o.account.Orphan-1, len(sh.orphans)-1
	sh.orphans[i] = sh.orphans[last]
	sh.orphans[i].account.Orphan = i + 1
	sh.orphans[last] = nil
	sh.orphans = sh.orphans[:last]
	o.account.Orphan = 0
	sh.accounts.Release(o.account)
	if len(sh.gone) < len(sh.orphans)+goneOrphans {
		sh.gone = append(sh.gone, o)
	}
}

// keepOrphan lets go of an orphan that is not in a report, and has no usage to report.
func (sh *shard) keepOrphan(k *lockedKey) {
	a := k.account
	switch {
	case a.Orphan == 0: // it has gone
	case a.Frozen:
	case a.Usage == 0:
		sh.untold--
		sh.removeOrphan(k.orphan)
	case a.Due == mono.Never:
		sh.plan(a, sh.orphanDue(a), nil)
	}
}

// roomFor is the number of orphans among which there is room for one more.
// Those in debt come last: what they were charged may be refunded, and a refund of what
// Redis has never heard of would be a gift.
func (sh *shard) roomFor(k *lockedKey) int {
	if k.inDebt(sh.met) {
		return 2 * sh.keys.Size()
	}
	return sh.keys.Size()
}

// orphanDue is when an orphan is to be exchanged: in the next round, or, in a flood,
// before.
func (sh *shard) orphanDue(a *account.Account) int64 {
	if sh.untold < sh.keys.Size()/2 {
		return a.ReportedAt
	}
	return dueUrgent
}

// plan has a key exchanged at an instant, if it isn't earlier.
func (sh *shard) plan(a *account.Account, due int64, slot *table.Ref) {
	if due >= a.Due {
		return
	}
	a.Due = due
	if slot != nil {
		slot.SetMark(table.Due, true)
	}
	sh.wake(due)
}

// wake has the shard looked through at an instant.
func (sh *shard) wake(due int64) {
	for {
		at := sh.soonest.Load()
		if at <= due || sh.soonest.CompareAndSwap(at, due) {
			break
		}
	}
	if due == dueUrgent {
		sh.local.urgent.Store(true)
	}
}

// planBy has the key exchanged at an instant, if it isn't earlier.
func (k *lockedKey) planBy(due int64) {
	if k.orphan != nil {
		k.shard.plan(k.account, due, nil)
		return
	}
	k.shard.plan(k.account, due, &k.slot)
}

// unplan takes a key out of the plan.
func (k *lockedKey) unplan() {
	k.account.Due = mono.Never
	if k.orphan == nil {
		k.slot.SetMark(table.Due, false)
	}
}

// sweep is retire, once in a while, of a limiter that has no syncer for it.
func (sh *shard) sweep(now int64) {
	sh.mu.Lock()
	due := now-sh.swept > int64(retireEvery)
	if due {
		sh.swept = now
	}
	sh.mu.Unlock()
	if due {
		sh.retire(now)
		sh.local.spare.Trim()
	}
}

// retire has the accounts of keys that are idle, and far from their limits by now, put
// into their short form.
func (sh *shard) retire(now int64) {
	sh.keys.Each(func(ref table.Ref) {
		if flags(ref.Flags).is(contended) {
			var k lockedKey
			k.load(sh, ref, now)
			if !k.account.Exchanges() {
				k.dropReserved(now)
			} else if k.idle(now) {
				k.bucket.Grant, k.bucket.Level, k.bucket.At, k.bucket.LastEvent = k.bucket.Alone(), k.bucket.Burst, now, now
				k.account.ForgetGrant()
				k.light = true
			}
			k.save()
		}
		ref.Unlock()
	})
}

// idle reports whether the key has nothing to report, its bucket is full, and its grant has
// expired.
func (k *lockedKey) idle(now int64) bool {
	a := k.account
	switch {
	case a.Due != mono.Never || a.Frozen || k.flags.is(awaited) || k.buffer.Attempts != 0:
		return false
	case now < max(a.Expires, a.TAT, a.RepliedTAT, a.AnnouncedTAT, a.HoldUntil, k.bucket.LastEvent+1, a.Reserved+1):
		return false
	}
	return k.staleSince() == 0 && !a.Is(account.FloorDue) && !a.SomethingToReport()
}

// fresh reports whether a key's grant holds at now.
func (k *lockedKey) fresh(now int64) bool {
	return !k.exchanges() || now < k.account.Until && k.account.StaleSince == k.staleSince()
}

// staleSince is when the grants of the key's partition could no longer be
// renewed; 0: they can.
func (k *lockedKey) staleSince() int64 {
	return k.shard.local.parts[k.account.Partition-1].staleSince.Load()
}

// prepare brings the key's grant up to date, for a decision: it has an account if it
// needs one, and the grant holds.
func (k *lockedKey) prepare(now int64) {
	switch a := k.account; {
	case k.needsAccount():
		k.join(now)
	case a == nil:
		return
	case !a.Exchanges():
		k.dropReserved(now)
		return
	case k.light && k.fresh(now), !k.light && now < a.FastUntil && !k.shard.local.stale.Load():
		return
	case k.light:
		k.renewLight(now)
		return
	}
	k.flush(now)
	if !k.fresh(now) {
		k.renew(now)
	}
}

// renewLight is renew of a key whose buffer is to stay as it is.
func (k *lockedKey) renewLight(now int64) {
	kept, buffer := *k.account, k.buffer
	k.flush(now)
	if k.renew(now); k.bucket.Mode == bucket.Share {
		k.promote()
		return
	}
	if k.bucket.Mode == bucket.Stale {
		buffer.Room = 0 // until the first reply no decision goes by the slot alone
	}
	kept.Share, kept.StaleSince = k.account.Share, k.account.StaleSince
	kept.Until, kept.Expires, kept.Alarm, kept.RNG = k.account.Until, k.account.Expires, k.account.Alarm, k.account.RNG
	*k.account, k.buffer = kept, buffer
}

// renew brings the grant up to date: the outage has begun or goes on, or it
// has expired.
func (k *lockedKey) renew(now int64) {
	a, b := k.account, &k.bucket
	w, since := k.shard.local.world.Load(), k.staleSince()
	switch {
	case since != 0:
		if a.StaleSince != since {
			k.endOutage(now, w) // one outage after another, with no reply between them
		}
		entered := b.Mode != bucket.Stale
		a.StaleSince = since
		a.ApplyOutage(b, since, now, w)
		if entered {
			k.redraw(w)
		}
	case b.Mode == bucket.Stale:
		k.endOutage(now, w)
		a.Until = mono.Add(now, account.GrantIntervals*w.Interval) // until the reply, which is to come
	default:
		a.StaleSince = 0
		pool := b.Mode == bucket.Pool
		switch {
		case a.ExtendByMeans(b, now, w):
			if pool {
				k.redraw(w)
			}
		case now >= a.Expires:
			a.AssumeFull(b, now, w)
			k.redraw(w)
		}
	}
}

// endOutage keeps the share that the key had at the end of an outage.
func (k *lockedKey) endOutage(now int64, w *account.Params) {
	a := k.account
	if k.bucket.Mode == bucket.Stale && a.StaleSince != 0 {
		a.Share = a.ShareAfter(a.StaleSince, now, w)
	}
	a.StaleSince = 0
}

// redraw draws the threshold anew where there is one to draw.
func (k *lockedKey) redraw(w *account.Params) {
	if k.bucket.Mode == bucket.Pool || w.Fleet <= 1 || w.Without.Has(outage.Threshold) {
		k.bucket.Threshold = 1
		return
	}
	if k.account.RNG == 0 {
		k.account.RNG = k.shard.local.random ^ k.fieldHash()
		if k.light { // it is not remembered
			k.account.RNG ^= uint64(k.now)
		}
	}
	k.account.RNG += 0x9e3779b97f4a7c15 // splitmix64
	z := k.account.RNG
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	k.bucket.Threshold = float32(float64(z>>11+1) / (1 << 53))
}

// decideFast decides on a key by its slot and its account's first cache line, as far as
// they say all that a decision needs, and unlocks it; done is false where they don't.
func (sh *shard) decideFast(s table.Ref, now, n int64) (ok, done bool) {
	lo := sh.local
	lim, cost, f := lo.limits.At(s.Limit), float64(n), flags(s.Flags)
	refill, capacity, needed := lim.Rate, lim.Burst, cost
	done = !f.is(special)
	if f.is(contended) {
		a := sh.accounts.At(s.Account)
		refill, capacity, needed = a.Grant.Refill, a.Grant.Capacity, float64(a.Grant.Threshold)*cost
		done = done && now < a.FastUntil && !lo.stale.Load()
	} else if len(lo.parts) != 0 {
		refill = max(0, refill-float64(math.Float32frombits(s.Account)))
		done = done && now-s.At < lo.world.Load().GrantTime && !lo.stale.Load()
	}
	level := bucket.LevelAfter(s.Level, now-s.At, refill, capacity)
	ok = cost <= lim.Burst && bucket.Enough(level, needed, refill)
	if done && len(lo.parts) != 0 {
		done = f.is(allowsOrDenies(ok)) && s.Buffer.Add(n, ok) || ok && s.Buffer.Attempts == 0 && !f.is(contended) && sh.begin(s, level, now, n)
	}
	switch {
	case !done:
	case ok:
		s.Level, s.At = level-cost, max(s.At, now)
		if s.Allowed++; s.Allowed == 0 {
			sh.allowed.Add(1 << 8)
		}
	default:
		if s.Denied++; s.Denied == 0 {
			sh.denied.Add(1 << 8)
		}
	}
	s.Unlock()
	return ok, done
}

// begin notes the first tokens that are taken of a key since its last report, at the given
// level: noteLight in short. It returns false where that does not do.
func (sh *shard) begin(s table.Ref, level float64, now, n int64) bool {
	l, w := table.Beside[account.Short](s), sh.local.world.Load()
	lim := sh.local.limits.At(s.Limit)
	b := bucket.Bucket{Rate: lim.Rate, Burst: lim.Burst}
	epoch := l.Epoch()
	most := min(account.PoolAlarm(level, w)-1, int64(bucket.Clamp(b.Burst/2/w.Fleet)))
	cost := math.Float32frombits(uint32(l.Cost) << 16)
	if flags(s.Flags).is(owesFloor|owesLimit) || l.Stale != 0 || n == 0 || n > most || float32(n) != cost ||
		now >= max(mono.Add(epoch, max(account.GrantIntervals*w.Interval, account.LazyPeriod(&b))), l.TAT) || now-epoch > account.TickRange {
		return false
	}
	l.First = account.TicksOf(now, epoch)
	s.Buffer = account.NewBuffer(most, float64(max(1, cost)))
	s.Buffer.Add(n, true)
	s.Flags = s.Flags&^uint16(denies) | uint16(allows)
	s.SetMark(table.Due, true)
	sh.wake(account.LazyDue(&b, max(l.First.After(epoch), epoch), sh.phase))
	return true
}

// allowsOrDenies is the flag by which a decision need only be noted in the buffer.
func allowsOrDenies(ok bool) flags {
	if ok {
		return allows
	}
	return denies
}

// count counts a decision: in the slot, which passes on what it has no room for.
func (sh *shard) count(s *table.Slot, ok bool) {
	if ok {
		if s.Allowed++; s.Allowed == 0 {
			sh.allowed.Add(1 << 8)
		}
	} else if s.Denied++; s.Denied == 0 {
		sh.denied.Add(1 << 8)
	}
}

// count counts a decision on the key.
func (k *lockedKey) count(ok bool) {
	switch {
	case k.orphan == nil:
		k.shard.count(k.slot.Slot, ok)
	case ok:
		k.shard.allowed.Add(1)
	default:
		k.shard.denied.Add(1)
	}
}

// addTo adds up what the shard and its keys have counted.
func (sh *shard) addTo(s *Stats) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	allowed, denied := sh.countedLocked()
	s.Allowed += allowed
	s.Denied += denied
	s.Shadowed += sh.shadowed.Load()
	s.Keys += sh.keys.Len()
	s.Evicted += sh.evictions
	s.DroppedTokens += sh.dropped
}

// countedLocked is what the shard and its keys have counted. It begins again, a few
// times, where a slot has passed on what it counted: it may have been visited before, and
// what it passed on is missing until the next count.
func (sh *shard) countedLocked() (allowed, denied uint64) {
	defer func() {
		sh.counted[0], sh.counted[1] = max(sh.counted[0], allowed), max(sh.counted[1], denied)
		allowed, denied = sh.counted[0], sh.counted[1]
	}()
	for range countTries {
		passed := [...]uint64{sh.allowed.Load(), sh.denied.Load()}
		allowed, denied = passed[0], passed[1]
		sh.keys.Each(func(ref table.Ref) {
			allowed += uint64(ref.Allowed)
			denied += uint64(ref.Denied)
			ref.Unlock()
		})
		if passed == [...]uint64{sh.allowed.Load(), sh.denied.Load()} {
			break
		}
	}
	return allowed, denied
}

// decide takes n tokens and says so, or counts a denial; one that is admitted where the
// limit is in shadow mode.
func (k *lockedKey) decide(now, n int64) bool {
	ok := k.admitted(now, n)
	if ok && !k.flags.is(open|shut) {
		k.bucket.Set(now, k.bucket.LevelAt(now)-float64(n))
		k.bucket.LastEvent = now
	}
	if !ok && k.flags.is(shadow) {
		k.pass(now, n)
		return false
	}
	k.count(ok)
	k.note(now, n, ok)
	if ok && k.account != nil && k.bucket.Mode == bucket.Stale {
		k.redraw(k.shard.local.world.Load())
	}
	return ok
}

// pass admits a cost that a limit in shadow mode would have denied.
func (k *lockedKey) pass(now, n int64) {
	k.shard.shadowed.Add(1)
	k.count(true)
	k.note(now, n, false)
}

// note writes down what was requested, and taken if ok, for the syncer: in the buffer
// while that is as good, or in the account.
func (k *lockedKey) note(now, n int64, ok bool) {
	if k.account == nil || !k.light && now < k.account.FastUntil && k.flags.is(allowsOrDenies(ok)) && k.buffer.Add(n, ok) {
		return
	}
	if n == 0 || k.flags.is(open) || k.flags.is(shut) && !ok {
		return
	}
	if k.light {
		if ok && k.noteLight(now, n) {
			return
		}
		k.promote()
	}
	if k.flush(now); k.exchanges() {
		k.enter(now, n, ok)
	}
}

// noteLight notes tokens taken of a key far from its limit, which it leaves so. It returns
// false where the account has to be told.
func (k *lockedKey) noteLight(now, n int64) bool {
	a, b, w := k.account, &k.bucket, k.shard.local.world.Load()
	taken := int64(k.buffer.Taken) + n
	if float64(n) > b.Burst || taken > math.MaxUint16 || a.Usage != 0 || a.Attempts != 0 {
		return false
	}
	first := a.FirstUse
	if first == 0 {
		first = now
	}
	fair := int64(bucket.Clamp((mono.Elapsed(now-first)*b.Rate + b.Burst/2) / w.Fleet))
	if b.Mode != bucket.Stale && (taken >= a.Alarm || taken > fair || a.KnownByNews()) {
		return false
	}
	a.ObserveCost(n)
	a.FirstUse = first
	k.buffer = account.NewBuffer(min(a.Alarm-1, fair), min(a.Request(), b.Capacity))
	k.buffer.Attempts, k.buffer.Taken = uint16(taken), uint16(taken)
	k.flags.mark(allows, true)
	k.flags.mark(denies, false)
	if b.Mode == bucket.Stale {
		k.buffer.Room = 0
		k.planBy(a.Soonest(now, w))
	} else {
		k.planBy(a.LazyDue(b, k.shard.phase))
	}
	return true
}

// enter writes a cost above 0 into the account, and sees to it that it is told.
// A cost above the burst asks for nothing: otherwise one absurd call would take
// every share.
func (k *lockedKey) enter(now, n int64, ok bool) {
	w, b := k.shard.local.world.Load(), &k.bucket
	asked, taken := n, int64(0)
	if float64(n) > b.Burst {
		asked = 0
	} else if b.Mode != bucket.Pool {
		asked = min(n, int64(max(1, bucket.ToInt(b.Capacity))))
	}
	if ok {
		taken = n
	}
	k.account.Count(now, asked, taken, b.Rate, w)
	k.plan(now, ok, w)
	k.makeFast(now, w)
}

// makeFast lets decisions that change nothing of what is known and planned pass the
// account by for a while.
func (k *lockedKey) makeFast(now int64, w *account.Params) {
	a, b := k.account, &k.bucket
	if k.light || k.orphan != nil || b.Mode == bucket.Stale || a.Due == mono.Never && !a.Frozen {
		return
	}
	until, room := mono.Add(a.CountedAt, w.Interval), a.Alarm-a.AlarmCount(b)-1
	if b.Mode == bucket.Pool && !a.Frozen && a.Due > a.Soonest(now, w) {
		until, room = a.Due, min(room, a.FairRoom(now, b, w))
	}
	a.FastUntil = min(a.Until, until)
	k.buffer = account.NewBuffer(room, min(a.Request(), b.Capacity))
	k.flags.mark(denies, a.Frozen || a.Due <= a.Soonest(now, w))
	k.flags.mark(allows, a.FirstUse != 0)
}

// plan sees to it that a key with something to report is exchanged no
// later than it should be; lately where its use fits.
func (k *lockedKey) plan(now int64, fits bool, w *account.Params) {
	a, b := k.account, &k.bucket
	if a.Frozen || !a.SomethingToReport() {
		return
	}
	byNews := a.Usage > 0 && a.Alarm < bucket.MaxTokens && a.KnownByNews()
	if a.AlarmCount(b) >= a.Alarm || byNews {
		a.Alarm = bucket.MaxTokens // once is enough
		k.planBy(dueUrgent)
		return
	}
	due := a.Soonest(now, w)
	switch {
	case a.Due <= due:
	case !fits || b.Mode != bucket.Pool || a.AnnouncedTAT > now && w.Fleet > 1 || !a.WithinFair(now, b):
		k.planBy(due)
	case a.Due == mono.Never:
		k.planBy(max(due, a.LazyDue(b, k.shard.phase)))
	}
}

// admitted reports whether a decision would admit a cost of n now.
func (k *lockedKey) admitted(now, n int64) bool {
	level, cost := k.bucket.LevelAt(now), float64(n)
	return k.admits(level, cost) && (!k.flags.is(awaited) || k.admits(level-k.waiting(), cost))
}

// waiting is the tokens that wait for the key.
func (k *lockedKey) waiting() float64 {
	if !k.flags.is(awaited) {
		return 0
	}
	return float64(k.shard.local.queues.Tokens(k.key()))
}

// joinQueue puts a cost into the queue of the key, and tells the fleet of the demand.
// The name is that by which serve finds the key.
func (k *lockedKey) joinQueue(name string, now, n int64) *waitqueue.Waiter {
	k.note(now, n, false)
	k.setAwaited(true)
	return k.shard.local.queues.Join(k.key(), name, n, now)
}

// serve admits callers that wait for the key, as far as its bucket does, and
// has it exchanged in every round while some are left. It is called after each
// change that may let them go on, and when a turn has come.
func (k *lockedKey) serve() {
	lo := k.shard.local
	now := mono.Now(lo.base)
	k.prepare(now)
	k.flush(now)
	b := k.awaited(now)
	left := lo.queues.Serve(k.key(), b, now)
	*k = b.k
	k.countQueue()
	k.setAwaited(left)
	if k.exchanges() && !k.account.Frozen && (left || k.account.Is(account.ReportedQueue)) {
		k.planBy(k.account.Soonest(now, lo.world.Load()))
	}
}

// awaitedBucket is the bucket of a key with waiting callers, for waitqueue: a copy of
// the key, so that a key itself need not be on the heap.
type awaitedBucket struct {
	k   lockedKey
	now int64
}

func (k *lockedKey) awaited(now int64) *awaitedBucket { return &awaitedBucket{*k, now} }

// countQueue counts the tokens that wait as demand, as if each was requested
// again in every interval, so that shares follow queues.
func (k *lockedKey) countQueue() {
	if k.exchanges() {
		interval := k.shard.local.world.Load().Tau / account.TauIntervals
		k.account.Queued = float32(k.waiting() / interval.Seconds())
	}
}

// Exceeds reports whether a cost exceeds the burst.
func (b *awaitedBucket) Exceeds(n int64) bool {
	return !b.k.flags.is(shadow) && b.k.exceeds(float64(n))
}

// Turn is the instant at which the present grant admits a cost.
func (b *awaitedBucket) Turn(from, n, extra int64) int64 {
	k := &b.k
	if k.flags.is(open | shadow) {
		return from
	}
	from = max(from, k.bucket.At)
	more := float64(extra)
	if more > 0 && k.bucket.Mode == bucket.Share {
		more *= k.account.Share // the rest of what was reserved is the others' to wait for
	}
	level, cost := k.bucket.LevelAt(from)+more, float64(n)
	if k.admits(level, cost) {
		return from
	}
	if !k.admits(k.bucket.Capacity+more, cost) {
		if k.account != nil {
			k.account.Cost = max(k.account.Cost, float32(n)) // for the next grant to have room for it
		}
		return waitqueue.Never
	}
	return mono.Add(from, bucket.Delay(level-k.bucket.Need(cost), k.bucket.Refill))
}

// Take takes a cost as of an instant that Turn returned.
func (b *awaitedBucket) Take(at, n int64) {
	k := &b.k
	if k.flags.is(shadow) {
		k.pass(b.now, n)
		return
	}
	k.count(true)
	if k.flags.is(open) {
		return
	}
	k.bucket.Set(at, k.bucket.LevelAt(at)-float64(n))
	k.bucket.LastEvent = max(k.bucket.LastEvent, at)
	if n == 0 || !k.exchanges() {
		return
	}
	w := k.shard.local.world.Load()
	k.account.Count(max(at, k.account.CountedAt), 0, n, k.bucket.Rate, w)
	k.plan(b.now, true, w)
	if k.bucket.Mode == bucket.Stale {
		k.redraw(w)
	}
}

// Until is the instant at which the grant has to be looked at again.
func (b *awaitedBucket) Until() int64 {
	if !b.k.exchanges() {
		return waitqueue.Never
	}
	return max(b.k.account.Until, b.now+int64(time.Millisecond))
}

// freeze keeps a key out of other reports while it is in one.
func (k *lockedKey) freeze() {
	k.account.Frozen = true
	k.shard.local.frozen.Add(1)
	if k.orphan != nil {
		k.shard.untold--
	}
}

// thaw lets a key be reported again. One that is far from its limit needs no account any
// more.
func (k *lockedKey) thaw(now int64) {
	a := k.account
	a.Frozen = false
	k.light = k.orphan == nil && k.exchanges() && k.bucket.Mode == bucket.Pool
	k.shard.local.frozen.Add(-1)
	if k.orphan != nil {
		k.shard.untold++
		return
	}
	if a.Is(account.FloorDue | account.LimitDue) {
		k.planBy(now)
	}
	if k.exchanges() {
		k.plan(now, true, k.shard.local.world.Load())
	}
}

// giveBack uncounts n tokens that are about to be put back into the bucket.
func (k *lockedKey) giveBack(now, n int64) {
	if !k.exchanges() {
		return
	}
	k.account.GiveBack(k.account.Refundable(&k.bucket, n, now), k.bucket.Rate)
	k.plan(now, false, k.shard.local.world.Load())
}

// relimit changes the key's limit.
func (k *lockedKey) relimit(lim Limit, isDefault bool, now int64) {
	k.flags.mark(byDefault, isDefault)
	if lim == k.applied() {
		return
	}
	next, b := newBucket(lim, now), &k.bucket
	k.flags.mark(open, next.Unlimited())
	k.flags.mark(shut, next.Burst == 0)
	switch {
	case b.Shared() && next.Shared():
		if k.exchanges() {
			if !k.light {
				k.flush(now)
			}
			k.tellLimit(now)
			k.account.Relimit(b, &next, now)
		}
		b.Relimit(now, &next)
	case !b.Shared():
		if *b = next; k.needsAccount() {
			k.join(now)
		}
		k.resume(now)
	}
	k.numberLimit()
	if k.flags.is(awaited) {
		k.shard.local.queues.Refuse(k.key(), k.awaited(now))
	}
}

// tellLimit has a key whose limit is about to change exchanged at once, if Redis has a
// state of it.
func (k *lockedKey) tellLimit(now int64) {
	a := k.account
	a.Mark(account.LimitDue, a.Frozen || a.TAT != 0 && a.TAT > now-int64(exchange.KeepState))
	if a.Is(account.LimitDue) && !a.Frozen {
		k.planBy(dueUrgent)
	}
}

// reset makes the key full, and forgets what it had to report.
func (k *lockedKey) reset(now int64) {
	k.bucket = bucket.New(k.bucket.Rate, k.bucket.Burst, now)
	if k.flags.is(awaited) {
		k.shard.local.queues.Forget(k.key())
	}
	if a := k.account; a != nil {
		k.unplan()
		a.Reset(now)
		a.FastUntil, k.buffer = 0, table.Buffer{}
	}
}

// forgetOrphanLocked drops what an orphan of a field had to report, and what is
// remembered or was heard of the key.
func (sh *shard) forgetOrphanLocked(field string) {
	sh.local.recall.forget(sh.local.recallHashOf(field))
	sh.local.heard.Put(news.Item{Field: field, Reset: true})
	for _, o := range slices.Clone(sh.orphans) {
		if o.field == field && !o.account.Frozen {
			o.account.Usage = 0 // nothing was dropped
			sh.untold--
			sh.removeOrphan(o)
		}
	}
}

// eachDue calls f for every key that is due by an instant, or, if every, for all, which it
// locks and loads, and for every orphan that is due and not in a report. Of the others the
// shard knows when they are.
func (sh *shard) eachDue(now, by int64, every bool, f func(*lockedKey)) {
	sh.soonest.Store(mono.Never)
	var k lockedKey // one, for it is on the heap
	visit := func(ref table.Ref) {
		if due := sh.dueOf(ref); due > by && !every {
			sh.wake(due)
			ref.Unlock()
			return
		}
		k.load(sh, ref, now)
		if k.account != nil {
			f(&k)
		}
		k.close()
	}
	if every {
		sh.keys.Each(visit)
	} else {
		sh.keys.EachMarked(table.Due, visit)
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, o := range slices.Backward(sh.orphans) { // the last takes the place of one that goes
		switch {
		case o.account.Frozen:
		case o.account.Due > by && !every:
			sh.wake(o.account.Due)
		default:
			k.loadOrphan(sh, o, now)
			f(&k)
			k.close()
		}
	}
}

// dueOf is when a key that is marked due is, without its account where it has none.
func (sh *shard) dueOf(ref table.Ref) int64 {
	f, l := flags(ref.Flags), table.Beside[account.Short](ref)
	switch {
	case f.is(contended):
		return sh.accounts.At(ref.Account).Due
	case f.is(owesLimit):
		return dueUrgent
	case f.is(owesFloor), l.Stale != 0: // in the next round
		return dueUrgent + 1
	}
	lim := sh.local.limits.At(ref.Limit)
	return account.LazyDue(&bucket.Bucket{Rate: lim.Rate, Burst: lim.Burst}, max(l.First.After(l.Epoch()), l.Epoch()), sh.phase)
}

// unreported reports whether the shard has a key with usage until an instant that is not
// reported and answered, or that was not exchanged since.
func (sh *shard) unreported(at int64) (found bool) {
	sh.keys.Each(func(ref table.Ref) {
		if flags(ref.Flags).is(contended) {
			a := sh.accounts.At(ref.Account)
			found = found || a.Exchanges() && (a.Frozen || a.ReportedAt < at || (a.Due != mono.Never || ref.Buffer.Taken != 0) && a.UnreportedAt(at))
		} else if b := (bucket.Bucket{Rate: sh.local.limits.At(ref.Limit).Rate}); len(sh.local.parts) > 0 && b.Shared() {
			l := table.Beside[account.Short](ref)
			found = found || l.Epoch() < at || ref.Buffer.Taken != 0 && (l.Epoch() <= at || l.First.After(l.Epoch()) <= at)
		}
		ref.Unlock()
	})
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, o := range sh.orphans {
		found = found || o.account.Frozen || o.account.UnreportedAt(at)
	}
	return found
}

// reopen locks and loads a key that is in a report, under the given field.
func (lo *local) reopen(k *lockedKey, of reported, field string, now int64) {
	if lo.resident(k, field, now) {
		if k.account == of.account {
			return
		}
		k.unlock()
	}
	of.shard.mu.Lock()
	k.loadOrphan(of.shard, of.shard.orphans[of.account.Orphan-1], now)
}

// release is close of a key that was reopened.
func (k *lockedKey) release() {
	sh := k.shard
	if k.close(); k.orphan != nil {
		sh.mu.Unlock()
	}
}

// pending is the number of keys with something unreported.
func (lo *local) pending() int {
	n := int(lo.frozen.Load())
	for sh := range lo.eachShard() {
		sh.mu.Lock()
		n += sh.keys.Count(table.Due) + sh.untold
		sh.mu.Unlock()
	}
	return n
}

// delay is the expected time until the bucket holds a cost.
// Among several processes the shared bucket is asked too: by the share of the
// moment alone a small one would wait for hours.
func (k *lockedKey) delay(now int64, cost float64) time.Duration {
	d := bucket.Delay(k.bucket.LevelAt(now)-cost, k.bucket.Refill)
	if d == 0 || !k.fleetKnown() {
		return d
	}
	a, w := k.account, k.shard.local.world.Load()
	return min(d, max(a.SharedDelay(&k.bucket, float64(k.buffer.Taken)+cost, now), a.NextGrant(now, w)))
}

// expectedWait is the expected wait for n tokens, behind all callers that wait
// already; negative: no wait would be long enough.
func (k *lockedKey) expectedWait(now, n int64) time.Duration {
	switch {
	case k.flags.is(open):
		return 0
	case k.exceeds(float64(n)):
		return -1
	}
	return k.delay(now, float64(n)+k.waiting())
}

// fleetKnown reports whether the key's level is part of a bucket that others
// share and whose state is known.
func (k *lockedKey) fleetKnown() bool {
	return k.exchanges() && k.bucket.Mode != bucket.Stale && k.account.RepliedAt != 0 && k.shard.local.world.Load().Fleet > 1
}

// retryAfter is the time after which n tokens that were denied are expected to
// be there, after the tokens that wait.
func (k *lockedKey) retryAfter(now int64, n, waiting float64) time.Duration {
	if k.exceeds(n) {
		return rate.InfDuration
	}
	if !k.fleetKnown() {
		d := bucket.Delay(k.bucket.LevelAt(now)-waiting-k.bucket.Need(n), k.bucket.Refill)
		return min(d, rate.InfDuration-1) + 1
	}
	a := k.account
	return max(a.SharedDelay(&k.bucket, n+waiting+float64(k.buffer.Taken), now), a.NextGrant(now, k.shard.local.world.Load()))
}

// age is the time since the last exchange of the key; -1: there was none.
func (k *lockedKey) age(now int64) time.Duration {
	switch {
	case k.needsAccount():
		return -1
	case !k.exchanges():
		return 0
	case k.account.RepliedAt == 0:
		return -1
	}
	return time.Duration(max(0, now-k.account.RepliedAt))
}

// resetAfter is the time until the bucket is full, after the tokens that wait.
func (k *lockedKey) resetAfter(now int64, waiting float64) time.Duration {
	b := &k.bucket
	if k.exchanges() && k.account.RepliedAt != 0 {
		return k.account.SharedDelay(b, b.Burst+waiting+float64(k.buffer.Taken), now)
	}
	if b.Mode == bucket.Stale { // all that is known is the share
		return bucket.Delay(b.LevelAt(now)-waiting-b.Capacity, b.Refill)
	}
	return bucket.Delay(b.LevelAt(now)-waiting-b.Burst, b.Rate)
}

// each calls f for every key in memory, which it locks and loads. Deciders never wait for
// more than one of them.
func (lo *local) each(now int64, f func(*lockedKey)) {
	var k lockedKey // one, for it is on the heap
	for sh := range lo.eachShard() {
		sh.keys.Each(func(ref table.Ref) {
			k.load(sh, ref, now)
			if !k.light {
				k.flush(now)
			}
			f(&k)
			k.close()
		})
	}
}
