package limiter

import (
	"container/heap"
	"crypto/hmac"
	"crypto/sha256"
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter/internal/blocks"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/index"
	"github.com/seed-e56e777b/limiter/internal/news"
	"github.com/seed-e56e777b/limiter/internal/outage"
	"github.com/seed-e56e777b/limiter/internal/recall"
	"github.com/seed-e56e777b/limiter/internal/waitqueue"
)

const (
	maxKey        = 64 // bytes; a longer key is held and sent as a digest
	digestSize    = 16
	shardKeys     = 1024 // keys a shard should hold at least: fewer, and chance fills one long before the others
	maxShards     = 1024
	shardSize     = 512 // bytes
	secondChances = 128 // entries looked at, at most, for one that has not been used of late
	dueUrgent     = 0   // the due time of a key that is to be told at once
)

// entry is a resident key, and one key after another: its memory is used again
// (see freeLocked). Its lock guards it; which key it is, and what says where
// it stands among the others, changes only under its shard's lock too, which is
// taken before it.
// It has no pointers: the garbage collector has nothing to look for in it.
type entry struct {
	// Two cache lines of 64 bytes, all that most decisions need. They write in the
	// second alone, which is then all that two cores have to pass on.
	hash      uint32          // of the key
	accountAt uint32          // the number of its account; 0: none, loneAccount: behind it
	text      [shortText]byte // see write
	bucket
	mu        sync.Mutex
	calm      int64   // until when decisions need not look at the account
	pending   pending // what they have not told it
	allowed   uint32
	denied    uint32
	residence uint32 // the number of its residence in the shard, from 1; 0: of none
	keyAt     uint8  // where the key begins, in bytes from the entry
	keyLen    uint8  // in bytes
	flags     flags
}

// flags are what is true of an entry.
type flags uint16

const (
	evicted   flags = 1 << iota // not resident
	unplaced                    // planned for an earlier time than it is queued for
	rushed                      // planned for as soon as can be: a denial changes nothing of that
	begun                       // some of what was taken waits for its report: more changes nothing of its beginning
	used                        // again, since it came or was last the next to make room
	shadow                      // its limit is on trial: what is over it is let through
	byDefault                   // its limit is Config.Limit
	relimited                   // its limit has to be asked for again at its next decision
	awaited                     // true if callers wait for the key in local.queues
	resting                     // it needs an account again at its next decision
	open                        // no limit: the bucket, if there was a limit before, goes on beneath
	shut                        // nothing is admitted: likewise

	unready = relimited | resting // it has to be looked up before a decision
)

// admits reports whether a cost of n is admitted at the given level.
func (e *entry) admits(level, n float64) bool {
	if e.is(open | shut) {
		return e.is(open) || n == 0
	}
	return e.bucket.admits(level, n)
}

// exceeds reports whether no level admits a cost of n.
func (e *entry) exceeds(n float64) bool {
	return !e.is(open) && (n > e.burst || e.is(shut) && n > 0)
}

// applied is the limit that decisions go by.
func (e *entry) applied() Limit {
	switch {
	case e.is(open):
		return Limit{Rate: rate.Inf}
	case e.is(shut):
		return Limit{}
	}
	return e.limit()
}

func (e *entry) is(either flags) bool { return e.flags&either != 0 }

// mark makes what a flag says true, or untrue.
func (e *entry) mark(f flags, is bool) {
	e.flags &^= f
	if is {
		e.flags |= f
	}
}

// opened is an entry with its account.
type opened struct {
	*entry
	*account // nil: the fleet has nothing to hear of the key
}

// longEntry is the entry of a key whose text does not fit into the entry, and
// longestEntry that of one of 64 bytes, or that is hidden too.
type (
	longEntry struct {
		entry
		text [longText]byte
	}
	longestEntry struct {
		longEntry
		_ [longestText - longText]byte
	}
)

// loneEntry is one that is not resident, and not used again: it is evicted from the
// beginning, and in no block.
type loneEntry struct {
	longestEntry
	account account
}

const loneAccount = 1 // no number: blocks give none so small

// It does not compile where a size is no whole number of units, as blocks need.
var _ = [1]struct{}{}[(unsafe.Sizeof(entry{})|unsafe.Sizeof(longEntry{})|unsafe.Sizeof(longestEntry{})|unsafe.Sizeof(account{}))%blocks.Unit]

// Lengths of texts, in bytes. With them entries fill their cache lines.
const (
	shortText   = 16
	longText    = 64
	longestText = 128
	fieldSize   = 1 + digestSize // of a field that is a digest
)

// What blocks hold: entries, by the text that fits in, and accounts.
const (
	short = iota
	long
	longest
	accounts
	sizes
)

// sizeFor is the size of an entry for a text of n bytes.
func sizeFor(n int) int {
	switch {
	case n <= shortText:
		return short
	case n <= longText:
		return long
	}
	return longest
}

// size is the size of an entry that has a text.
func (e *entry) size() int {
	end := int(e.keyAt) + int(e.keyLen) - int(unsafe.Offsetof(longEntry{}.text))
	if end <= 0 {
		return short
	}
	return max(long, sizeFor(end))
}

// key is the key in the form in which it is held, good for as long as the entry
// is locked.
func (e *entry) key() string {
	return unsafe.String((*byte)(unsafe.Add(unsafe.Pointer(e), e.keyAt)), e.keyLen)
}

// write makes the entry that of a text, of which the key begins at the given
// byte: the key after its field in Redis, or after the field's first byte
// where the one ends in the other.
func (e *entry) write(text []byte, key int, hash uint32) {
	at := unsafe.Offsetof(longEntry{}.text)
	if sizeFor(len(text)) == short {
		at = unsafe.Offsetof(entry{}.text)
	}
	copy(unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(e), at)), len(text)), text)
	e.hash, e.keyAt, e.keyLen = hash, uint8(int(at)+key), uint8(len(text)-key)
}

// field is the key's field in Redis: a type byte, then the key or its digest. It
// is good for as long as the entry is locked, or in a report: clone it to keep it.
func (e *entry) field() string {
	begin, size := e.keyAt-1, fieldSize
	if e.hidden() {
		begin = e.keyAt - fieldSize
	}
	first := (*byte)(unsafe.Add(unsafe.Pointer(e), begin))
	if *first == 'k' {
		size = 1 + int(e.keyLen)
	}
	return unsafe.String(first, size)
}

// hidden reports whether the key's field does not tell which key it is.
func (e *entry) hidden() bool {
	return int(e.keyAt) == int(unsafe.Offsetof(longEntry{}.text))+fieldSize
}

// partition is what deciders see of one partition of the keys.
type partition struct {
	staleSince atomic.Int64 // instant at which its grants could no longer be renewed; 0: they can
}

// paddedShard fills a power of two of bytes, so that its place is no multiplication
// away from its number, and cores that decide in one don't wait for another's.
type paddedShard struct {
	shard
	_ [shardSize - unsafe.Sizeof(shard{})]byte
}

// shard is a part of the keys. Its lock guards what stands below it, and the
// places of its entries.
type shard struct {
	index  index.Table   // of the resident ones, by number; read without the lock
	blocks blocks.Blocks // of entries; likewise

	mu         sync.Mutex
	lru        *simplelru.LRU[int32, struct{}] // of places in all; it sees insertions alone
	size       int                             // of lru
	all        []uint32                        // the resident ones
	free       [sizes][]uint32                 // entries and accounts that may be used again
	made       [sizes]int                      // of them there are, one use aside
	residences uint32                          // residences that there were
	local      *local
	due        dueHeap // those with something to report, evicted ones included; first the one that is due first

	frozen  int // entries in a report without a reply yet
	orphans int // evicted entries in due; no more than twice size

	met                int64 // when the last entry came
	evictions, dropped uint64

	allowed, denied atomic.Uint64 // but for what entries have counted
	shadowed        atomic.Uint64
}

// local holds the buckets of this process.
type local struct {
	shards []paddedShard
	shift  uint8       // of a hash, to the number of a shard
	stale  atomic.Bool // of some partition grants can't be renewed
	seed   maphash.Seed
	random uint64                // seed of the thresholds
	limit  atomic.Pointer[Limit] // Config.Limit
	prefix string                // Config.Prefix
	secret []byte                // of the digests that stand for keys in Redis; nil: none
	parts  []partition
	world  atomic.Pointer[world]
	urgent atomic.Bool       // some key is to be told at once
	heard  *news.Table       // of any keys, and debts of those that were resident
	recall *recaller         // of keys that were resident
	hidden sync.Map          // field → *entry of the resident keys, with a secret: their fields don't tell which keys they are
	base   time.Time         // of the limiter's clock
	due    func(string)      // serves the waiting callers of a key whose turn has come
	queues *waitqueue.Queues // of waiting callers, by the held form of their key
}

// newLocal makes room for maxKeys keys. Without partitions nothing is ever
// due.
func newLocal(maxKeys, partitions int, random uint64) *local {
	lo := &local{seed: maphash.MakeSeed(), random: random, parts: make([]partition, partitions)}
	lo.heard = news.NewTable()
	lo.recall = &recaller{table: recall.New(maxKeys), debts: lo.heard, seed: lo.seed}
	lo.queues = waitqueue.New(func(key string) { lo.due(key) })
	n := 1
	for n < maxShards && n*2*shardKeys <= maxKeys {
		n *= 2
	}
	size := maxKeys / n
	lo.shards = make([]paddedShard, n)
	for sh := range lo.eachShard() {
		sh.size, sh.local, sh.due.shard = size, lo, sh
		sh.lru, _ = simplelru.NewLRU[int32, struct{}](size, nil) // its one error is a size below 1
	}
	lo.shift = uint8(32 - bits.TrailingZeros(uint(n)))
	return lo
}

// heldKey is the form in which a key is held: itself, or, above maxKey bytes,
// its digest.
func heldKey(key string) string {
	if len(key) > maxKey {
		return digest(key, new([maxKey + 1]byte))
	}
	return key
}

// digest stands for a long key, in buf, with zeros to a length that no key held
// as itself has.
func digest(key string, buf *[maxKey + 1]byte) string {
	sum := sha256.Sum256(unsafe.Slice(unsafe.StringData(key), len(key)))
	copy(buf[:digestSize], sum[:])
	return unsafe.String(&buf[0], len(buf))
}

// textOf puts the text of a held key's entry into room: see write.
func (lo *local) textOf(held string, room []byte) (text []byte, key int) {
	switch {
	case lo.secret != nil:
		room = append(append(room, 'd'), keyedDigest(lo.secret, held)...)
	case len(held) > maxKey:
		room = append(room, 'd')
	default:
		room = append(room, 'k')
	}
	return append(room, held...), len(room)
}

// fieldOf is the key's field in Redis, which a text begins with.
func fieldOf(text []byte) string {
	if text[0] == 'd' {
		text = text[:fieldSize]
	}
	return unsafe.String(&text[0], len(text))
}

// keyedDigest says nothing of a key to those who don't have the secret.
func keyedDigest(secret []byte, held string) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(held))
	return string(mac.Sum(nil)[:digestSize])
}

// locate returns the shard of a held key, and the hash by which the shard's
// index finds it.
func (lo *local) locate(held string) (*shard, uint32) {
	h := uint32(maphash.String(lo.seed, held))
	return &lo.shards[h>>lo.shift].shard, h // an index begins with the lower bits
}

// shardOf is the shard that an entry belongs to, resident or not.
func (lo *local) shardOf(e *entry) *shard { return &lo.shards[e.hash>>lo.shift].shard }

func (lo *local) eachShard() iter.Seq[*shard] {
	return func(yield func(*shard) bool) {
		for i := range lo.shards {
			if !yield(&lo.shards[i].shard) {
				return
			}
		}
	}
}

// loneEntry makes an entry that is not resident, of a held key.
func (lo *local) loneEntry(held string, hash uint32, lim Limit, now int64) *entry {
	text, key := lo.textOf(held, make([]byte, 0, longestText))
	one := new(loneEntry)
	e := opened{&one.entry, nil}
	e.write(text, key, hash)
	e.bucket = newBucket(lim, now)
	if len(lo.parts) > 0 {
		e.accountAt, e.account = loneAccount, &one.account
		one.account = newAccount(now)
	}
	lo.begin(e, lo.recall.of(fieldOf(text)), now)
	e.flags |= evicted
	return e.entry
}

// needsAccount reports whether an entry does: its limit is one that the
// fleet shares.
func (lo *local) needsAccount(e *entry) bool { return len(lo.parts) > 0 && e.shared() }

// begin makes an entry, which has a key, a limit, and an account if need be, one of
// which only that is known which is remembered of the key, and reports whether that is
// a debt. Another key's memory may be taken for its own, but no debt.
func (lo *local) begin(e opened, remembered, now int64) (owes bool) {
	e.calm, e.pending, e.flags = 0, pending{}, 0
	e.mark(open, e.unlimited())
	e.mark(shut, e.burst == 0)
	if lo.queues.Has(e.key()) {
		e.flags |= awaited
		lo.queues.Forget(e.key()) // the bucket knows of no reservation
	}
	owes = lo.resume(e, remembered, now)
	if lo.needsAccount(e.entry) {
		lo.attach(e, now)
	}
	return owes
}

// resume sets a bucket that is about to be shared by what is remembered of its key, and
// reports whether that is a debt.
func (lo *local) resume(e opened, remembered, now int64) (owes bool) {
	if !e.shared() {
		return false
	}
	remembered = min(remembered, later(now, seconds(e.burst/e.rate)))
	it, ok := lo.heard.Get(e.field(), now)
	if owes = ok && it.Own; owes {
		remembered = max(remembered, e.believed(it, now))
	}
	e.level = e.levelUntil(remembered, now)
	if e.account != nil && remembered > now {
		e.replied = remembered
	}
	return owes
}

// attach gives an entry its place in the exchange, and tells its account what was
// heard of the key.
func (lo *local) attach(e opened, now int64) {
	h := exchange.Hash(e.field())
	e.part = 1 + uint16(h%uint64(len(lo.parts)))
	e.rng = lo.random ^ h
	if it, ok := lo.heard.Get(e.field(), now); ok {
		w := lo.world.Load()
		e.tat = e.believed(it, now)
		e.said = e.tat
		e.others = float64(it.Demand) / attemptsMilli / w.tau.Seconds()
		e.meanOthers = float32(e.others)
	}
}

// believed is the TAT of an item, by the limit that the key has here, as far as it is
// believed.
func (b *bucket) believed(it news.Item, now int64) int64 {
	tat := underLimit(it.TAT, now, it.Limit, b.inExchange())
	if it.Own {
		return tat
	}
	return min(tat, b.furthest(now, longestDebt))
}

// recaller keeps what evicted keys have taken from coming back as a fresh burst, and
// what they owe from being forgotten. Of those in debt few are expected, and they are
// kept by name: two that meet in a cell must not pay for each other.
type recaller struct {
	table *recall.Table
	debts *news.Table
	limit bucket       // the last default limit that is one; under Limiter.changing
	seed  maphash.Seed // nobody outside can tell which keys meet in a cell
}

func (r *recaller) hash(field string) uint64 { return maphash.String(r.seed, field) }

// from remembers an entry that goes.
func (r *recaller) from(e opened, now int64) {
	if !e.shared() {
		return
	}
	full := e.fullAt()
	r.table.Put(r.hash(e.field()), full, now)
	if e.inDebt(now) {
		r.debts.Put(news.Item{Field: strings.Clone(e.field()), TAT: full, Limit: e.inExchange(), Own: true})
	}
}

// relimit has keys remembered as what they would be had they been resident when the
// default limit changed, also by way of one that is none. Those with a limit of their own
// are taken for others: they may come back with less than they had, never below empty.
func (r *recaller) relimit(lim Limit, now int64) {
	from, to := r.limit, newBucket(lim, now)
	if !to.shared() {
		return
	}
	if r.limit = to; from.shared() {
		r.table.PutOff(func(tat int64) int64 { return underLimit(tat, now, from.inExchange(), to.inExchange()) }, now)
	}
}

// of is until when a key's bucket is not full, as far as it is remembered.
func (r *recaller) of(field string) int64 { return r.table.Get(r.hash(field)) }

func (r *recaller) forget(field string) { r.table.Forget(r.hash(field)) }

// fullAt is when the entry's bucket is full again, by all that was known of it
// at the last decision. A share's level says little: it is mostly low.
func (e opened) fullAt() int64 {
	switch {
	case e.account == nil:
		return later(e.at, delay(e.level-e.burst, e.rate))
	case e.mode == modeShare:
		return later(max(e.tat, e.at), delay(-e.unreported(e.rate), e.rate))
	case e.mode == modeStale:
		return later(e.at, delay(e.level-e.capacity, e.refill))
	}
	return max(e.tat, later(e.at, delay(e.level-e.burst, e.rate)))
}

// inDebt reports whether the entry's bucket is below empty.
func (e opened) inDebt(now int64) bool { return e.fullAt() > later(now, seconds(e.burst/e.rate)) }

// heldOf is the held form of a key whose field in Redis is given.
func heldOf(field string) string {
	if field[0] == 'd' {
		return field[1:] + string(make([]byte, maxKey+1-digestSize))
	}
	return field[1:]
}

// hear takes in news: into the entry of a resident key, else into the table.
func (lo *local) hear(it news.Item, now int64) {
	resident := lo.resident(it.Field)
	if resident == nil {
		if it.Reset {
			lo.recall.forget(it.Field)
			lo.queues.Wake(heldOf(it.Field))
		}
		lo.heard.Put(it)
		return
	}
	defer lo.serveAndUnlock(resident)
	e := lo.open(resident, now)
	switch w := lo.world.Load(); {
	case !e.exchanges():
		lo.heard.Put(it)
	case it.Reset:
		lo.heard.Put(it) // or what was heard before the key was met would outlive its eviction
		e.hearReset(&e.bucket, now, w)
	default:
		lo.heard.Put(it) // more than the key here believes, until its next reply
		pool := e.mode == modePool
		e.hear(&e.bucket, underLimit(it.TAT, now, it.Limit, e.inExchange()), it.Demand, now, w)
		if pool && e.mode == modeShare {
			e.redraw(w)
		}
	}
}

// unsay notes that the news of a key was cut. The next report that finds the key low
// puts it again.
func (lo *local) unsay(field string, now int64) {
	resident := lo.resident(field)
	if resident == nil {
		return
	}
	defer lo.serveAndUnlock(resident)
	if e := lo.open(resident, now); e.exchanges() {
		e.said = 0
	}
}

// resident returns the entry that has a field, locked; nil where there is none.
func (lo *local) resident(field string) *entry {
	if lo.secret == nil {
		return lo.find(heldOf(field))
	}
	v, ok := lo.hidden.Load(field)
	if !ok {
		return nil
	}
	e := v.(*entry)
	e.mu.Lock()
	if e.is(evicted) || e.field() != field {
		e.mu.Unlock()
		return nil
	}
	return e
}

// repliedSince reports whether a key is resident, and the last word of it was a reply.
func (lo *local) repliedSince(field string) bool {
	e := lo.resident(field)
	if e == nil {
		return false
	}
	defer e.mu.Unlock()
	o := lo.withAccount(e)
	return o.account != nil && o.tat <= o.replied
}

// find returns the entry of a held key, locked; nil where there is none.
func (lo *local) find(held string) *entry {
	sh, hash := lo.locate(held)
	if n := sh.index.Find(hash); n != 0 {
		e := sh.entry(n)
		e.mu.Lock()
		if e.holds(held) {
			return e
		}
		e.mu.Unlock()
	}
	return sh.lookup(held, hash)
}

// holds reports whether the entry is the one of a held key, for those who have
// found it without its shard's lock.
func (e *entry) holds(held string) bool { return !e.is(evicted) && e.key() == held }

// use notes that the entry is still needed, where that is not noted yet: others
// may read beside it.
func (e *entry) use() {
	if !e.is(used) {
		e.flags |= used
	}
}

// lookup returns the entry of a held key, locked; nil where there is none.
func (sh *shard) lookup(held string, hash uint32) *entry {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.residentLocked(held, hash)
	if e != nil {
		e.mu.Lock()
	}
	return e
}

// wake is lookup for a decision.
func (sh *shard) wake(held string, hash uint32, now int64) *entry {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.residentLocked(held, hash)
	if e != nil {
		e.mu.Lock()
		if e.is(resting) {
			sh.joinLocked(e, now)
		}
	}
	return e
}

// residentLocked is the entry of a held key; nil where there is none.
func (sh *shard) residentLocked(held string, hash uint32) *entry {
	n := sh.index.Lookup(hash, func(n uint32) bool { return sh.entry(n).key() == held })
	if n == 0 {
		return nil
	}
	return sh.entry(n)
}

// entry is the one of a number.
func (sh *shard) entry(n uint32) *entry { return (*entry)(sh.blocks.At(n)) }

// open returns a locked entry with its account, which has been told everything; the
// next decision looks at it too.
func (lo *local) open(e *entry, now int64) opened {
	o := lo.withAccount(e)
	lo.tellPending(o, now)
	return o
}

// tellPending tells an account what is pending.
func (lo *local) tellPending(e opened, now int64) {
	if e.pending.asked != 0 {
		e.tell(now, lo.world.Load())
	}
	e.calm, e.pending = 0, pending{}
}

// tell adds to the account what the entry has noted. Of denials it is not known when
// they were, but that it was before now, and while it was calm.
func (e opened) tell(now int64, w *world) {
	asked, taken := int64(e.pending.asked), int64(e.pending.taken)
	from, to := e.notedAt, e.notedAt
	if taken != 0 {
		e.usage = addTokens(e.usage, taken)
		to = max(to, min(e.at, e.calm))
		latest := later(max(e.chainEnd, to), seconds(float64(taken)/e.rate))
		e.chain(taken, from, to, e.rate, w)
		// What came late in a long time stands behind more, but not behind more than all
		// have taken. The level knows of that as late as the reply was on its way, which
		// a busy key would be charged for in every round.
		if e.mode == modePool && to-from > int64(w.interval) {
			e.chainEnd = max(e.chainEnd, min(latest, later(e.at, delay(e.level-e.burst, e.rate))))
		}
	}
	if asked != taken {
		to = max(to, min(now, e.calm))
	}
	e.asked = addTokens(e.asked, asked)
	e.addDemand(asked, from, to, w)
	e.notedAt = to
}

// taken is the tokens admitted less those given back, ever.
func (e opened) taken() int64 { return e.account.taken() + int64(e.pending.taken) }

// withAccount returns a locked entry with its account, which lacks what is pending.
func (lo *local) withAccount(e *entry) opened {
	switch e.accountAt {
	case 0:
		return opened{e, nil}
	case loneAccount:
		return opened{e, &(*loneEntry)(unsafe.Pointer(e)).account}
	}
	return opened{e, (*account)(lo.shardOf(e).blocks.At(e.accountAt))}
}

// insertLocked makes a held key resident, for which another one may make room,
// and returns its entry locked.
func (sh *shard) insertLocked(held string, hash uint32, lim Limit, now int64) *entry {
	text, key := sh.local.textOf(held, make([]byte, 0, longestText))
	remembered := sh.local.recall.of(fieldOf(text)) // what comes next may displace it
	sh.met = now
	place := int32(len(sh.all))
	if len(sh.all) < sh.size {
		sh.all = append(sh.all, 0)
		sh.lru.Add(place, struct{}{})
	} else {
		place = sh.spareLocked()
		sh.evictLocked(sh.all[place])
		sh.lru.Get(place)
	}
	n := sh.takeLocked(sizeFor(len(text)))
	sh.all[place] = n
	e := opened{entry: sh.entry(n)}
	e.mu.Lock() // who has found it by the key that it had may hold it still, to see that it has gone
	e.write(text, key, hash)
	e.bucket = newBucket(lim, now)
	if sh.local.needsAccount(e.entry) {
		e.account = sh.addAccountLocked(e.entry, n, now)
	}
	if sh.local.begin(e, remembered, now) {
		sh.local.heard.Put(news.Item{Field: e.field(), Reset: true}) // until it is evicted again
	}
	sh.residences = max(1, sh.residences+1)
	e.residence = sh.residences
	sh.index.Insert(hash, n)
	if e.hidden() {
		sh.local.hidden.Store(strings.Clone(e.field()), e.entry)
	}
	return e.entry
}

// addAccountLocked gives the entry of a number an account.
func (sh *shard) addAccountLocked(e *entry, number uint32, now int64) *account {
	e.accountAt = sh.takeLocked(accounts)
	a := (*account)(sh.blocks.At(e.accountAt))
	*a = newAccount(now)
	a.number = number
	return a
}

// joinLocked gives a resident entry that has none an account.
func (sh *shard) joinLocked(resident *entry, now int64) {
	n := sh.index.Lookup(resident.hash, func(n uint32) bool { return sh.entry(n) == resident })
	e := opened{resident, sh.addAccountLocked(resident, n, now)}
	e.flags &^= resting
	sh.local.attach(e, now)
}

// retire has the accounts of resident keys that are quiet used by others.
func (sh *shard) retire(now int64) {
	w := sh.local.world.Load()
	sh.mu.Lock()
	for i := 0; i < len(sh.all); i++ { // as in each
		e := sh.entry(sh.all[i])
		if e.accountAt == 0 {
			continue
		}
		e.mu.Lock()
		if o := sh.local.withAccount(e); sh.local.quiet(o, now, w) {
			sh.retireLocked(o, now)
		}
		e.mu.Unlock()
		sh.mu.Unlock()
		sh.mu.Lock()
	}
	sh.mu.Unlock()
}

// quiet reports whether an entry's account says no more than a new one would: there
// is nothing to tell, the bucket is full, the grant has expired long ago, and hardly
// anybody asked.
func (lo *local) quiet(e opened, now int64, w *world) bool {
	switch {
	case !e.exchanges() || e.is(unplaced) || e.queuedAt != 0 || e.planned != forever || e.frozen || e.is(awaited) || e.pending.asked != 0:
		return false
	case now < later(max(e.notedAt, e.exchanged, e.met), restAfter) || now < max(e.expires, e.tat, e.replied, e.said, e.holdUntil):
		return false
	case e.mode == modeStale || lo.staleSince(e) != 0 || e.marked(floorDue) || e.somethingToReport():
		return false
	}
	return max(e.others, float64(e.meanOthers))+e.ownMean(now, w) < restDemand*e.rate
}

// retireLocked takes its account from a resident entry.
func (sh *shard) retireLocked(e opened, now int64) {
	limit, last := e.limit(), e.lastEvent
	e.bucket = newBucket(limit, now)
	e.lastEvent = last
	e.calm, e.flags = 0, e.flags|resting
	sh.free[accounts] = append(sh.free[accounts], e.accountAt)
	e.accountAt = 0
}

// takeLocked returns the number of one of a size that is free.
func (sh *shard) takeLocked(size int) uint32 {
	if len(sh.free[size]) == 0 {
		sh.makeLocked(size)
	}
	free := sh.free[size]
	last := len(free) - 1
	sh.free[size] = free[:last]
	return free[last]
}

// makeLocked allocates a block of those of a size, which are free.
func (sh *shard) makeLocked(size int) {
	n := sh.nextBlock(size)
	var numbers []uint32
	switch size {
	case short:
		numbers = blocks.Add[entry](&sh.blocks, n)
	case long:
		numbers = blocks.Add[longEntry](&sh.blocks, n)
	case longest:
		numbers = blocks.Add[longestEntry](&sh.blocks, n)
	default:
		numbers = blocks.Add[account](&sh.blocks, n)
	}
	sh.made[size] += len(numbers)
	sh.free[size] = append(sh.free[size], numbers...)
}

// nextBlock is how many of a size to allocate: an eighth of those that there are, but
// about no more than may be resident, before evicted ones that have something to
// tell need more.
func (sh *shard) nextBlock(size int) int {
	n := max(1, sh.made[size]/8)
	if left := sh.size - sh.made[size]; left > 0 {
		n = min(n, left)
	}
	return n
}

// freeLocked gives an evicted entry that has nothing left to tell to whatever
// key needs one next.
func (sh *shard) freeLocked(e opened, number uint32) {
	if e.lone() {
		e.takenBefore, e.usage = e.taken(), 0
		return
	}
	e.residence = 0
	sh.free[e.size()] = append(sh.free[e.size()], number)
	if e.account != nil {
		sh.free[accounts] = append(sh.free[accounts], e.accountAt)
		e.accountAt = 0
	}
}

// lone reports whether the entry, which has an account, is for one use.
func (e *entry) lone() bool { return e.accountAt == loneAccount }

// spareLocked returns the place of the entry that is to make room. The LRU does
// not see decisions: who was found at its end, and has been used since, goes to
// its front, but no more than a few at a time.
func (sh *shard) spareLocked() int32 {
	for range secondChances {
		place, _, _ := sh.lru.GetOldest()
		e := sh.entry(sh.all[place])
		e.mu.Lock()
		again := e.is(used | awaited)
		e.flags &^= used
		e.mu.Unlock()
		if !again {
			return place
		}
		sh.lru.Get(place)
	}
	place, _, _ := sh.lru.GetOldest()
	return place
}

// evictLocked ends an entry's residence, but for its place, which is another's
// at once. What it has not told goes to the next round all the same, up to a bound.
func (sh *shard) evictLocked(number uint32) {
	resident := sh.entry(number)
	resident.mu.Lock()
	defer resident.mu.Unlock()
	e := sh.local.open(resident, sh.met)
	sh.index.Remove(e.hash, number)
	if e.hidden() {
		sh.local.hidden.Delete(e.field())
	}
	sh.local.recall.from(e, sh.met)
	sh.evictions++
	e.flags &^= awaited // the timer of the queue brings the key back when a turn comes
	if e.account != nil {
		e.queued = 0
		e.setMark(toldQueue, false) // no later report can take the demand back: it decays
	}
	if e.account == nil {
		e.flags |= evicted
		sh.foldLocked(resident)
		sh.freeLocked(e, number)
		return
	}
	if e.queuedAt != 0 && e.usage != 0 && sh.orphans < sh.size {
		sh.queueLocked(e, sh.orphanDue(e)) // forward: less than out and in again
		sh.orphans++
	} else {
		sh.unqueueLocked(e)
	}
	e.flags |= evicted
	sh.orphanLocked(e)
}

// foldLocked takes over what an entry has counted.
func (sh *shard) foldLocked(e *entry) {
	sh.allowed.Add(uint64(e.allowed))
	sh.denied.Add(uint64(e.denied))
	e.allowed, e.denied = 0, 0
}

// countLocked counts a decision.
func (lo *local) countLocked(e *entry, ok bool) {
	if ok {
		e.allowed++
	} else {
		e.denied++
	}
	if (e.allowed|e.denied)>>31 != 0 {
		lo.shardOf(e).foldLocked(e)
	}
}

// addTo adds up what the shard and its entries have counted.
func (sh *shard) addTo(s *Stats) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	allowed, denied := sh.countedLocked()
	s.Allowed += allowed
	s.Denied += denied
	s.Shadowed += sh.shadowed.Load()
	s.Keys += len(sh.all)
	s.Evicted += sh.evictions
	s.DroppedTokens += sh.dropped
}

// countedLocked is what the shard and its entries have counted. It begins again
// where the shard takes over what an entry has: it may have been passed already.
func (sh *shard) countedLocked() (allowed, denied uint64) {
	for {
		folded := [...]uint64{sh.allowed.Load(), sh.denied.Load()}
		allowed, denied = folded[0], folded[1]
		for _, n := range sh.all {
			e := sh.entry(n)
			e.mu.Lock()
			allowed += uint64(e.allowed)
			denied += uint64(e.denied)
			e.mu.Unlock()
		}
		if folded == [...]uint64{sh.allowed.Load(), sh.denied.Load()} {
			return allowed, denied
		}
	}
}

// orphanLocked queues an evicted entry that has usage to report, and lets one go
// that has none, or for which there is no room.
func (sh *shard) orphanLocked(e opened) {
	sh.foldLocked(e.entry)
	switch {
	case e.accountAt == 0 || e.frozen || e.queuedAt != 0 && !e.is(unplaced):
	case e.usage == 0:
		sh.unqueueLocked(e)
		sh.freeLocked(e, e.number)
	case e.queuedAt == 0 && sh.orphans >= sh.roomFor(e):
		sh.dropped += uint64(max(0, e.usage))
		sh.freeLocked(e, e.number)
	case e.is(unplaced):
		sh.queueLocked(e, e.planned)
	default:
		sh.queueLocked(e, sh.orphanDue(e))
	}
}

// roomFor is the number of evicted entries among which there is room for one more.
// Those in debt come last: what they were charged may be refunded, and a refund of what
// Redis has never heard of would be a gift.
func (sh *shard) roomFor(e opened) int {
	if e.inDebt(sh.met) {
		return 2 * sh.size
	}
	return sh.size
}

// orphanDue is when an evicted entry is to be exchanged: in the next round, or,
// in a flood, before.
func (sh *shard) orphanDue(e opened) int64 {
	if sh.orphans < sh.size/2 {
		return e.reported
	}
	return dueUrgent
}

// fresh reports whether an entry's grant holds at now.
func (lo *local) fresh(e opened, now int64) bool {
	return !e.exchanges() || now < e.until && e.staleSince == lo.staleSince(e)
}

// staleSince is when the grants of an entry's partition could no longer be
// renewed; 0: they can.
func (lo *local) staleSince(e opened) int64 { return lo.parts[e.part-1].staleSince.Load() }

// ready reports whether decisions may go by a locked entry's grant as it is.
func (lo *local) ready(e *entry, now int64) bool {
	return e.accountAt == 0 || now < e.calm && !lo.stale.Load()
}

// prepareLocked brings a locked entry's grant up to date, for a decision.
func (lo *local) prepareLocked(e *entry, now int64) {
	if o := lo.open(e, now); !lo.fresh(o, now) {
		lo.renew(o, now)
	}
}

// renew brings the grant up to date: the outage has begun or goes on, or it
// has expired.
func (lo *local) renew(e opened, now int64) {
	w, since := lo.world.Load(), lo.staleSince(e)
	switch {
	case since != 0:
		if e.staleSince != since {
			e.endOutage(now, w) // one outage after another, with no reply between them
		}
		entered := e.mode != modeStale
		e.staleSince = since
		e.stale(&e.bucket, since, now, w)
		if entered {
			e.redraw(w)
		}
	case e.mode == modeStale:
		e.endOutage(now, w)
		e.until = later(now, expiry*w.interval) // until the reply, which is to come
	default:
		e.staleSince = 0
		pool := e.mode == modePool
		switch {
		case e.lapse(&e.bucket, now, w):
			if pool {
				e.redraw(w)
			}
		case now >= e.expires:
			e.meet(&e.bucket, now, w)
			e.redraw(w)
		}
	}
}

// endOutage keeps the share that the entry had at the end of an outage.
func (e opened) endOutage(now int64, w *world) {
	if e.mode == modeStale && e.staleSince != 0 {
		e.share = e.drifted(e.staleSince, now, w)
	}
	e.staleSince = 0
}

// redraw draws the threshold anew where there is one to draw.
func (e opened) redraw(w *world) {
	if e.mode == modePool || w.fleet <= 1 || w.without.Has(outage.Threshold) {
		e.threshold = 1
		return
	}
	e.rng += 0x9e3779b97f4a7c15 // splitmix64
	z := e.rng
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	e.threshold = float32(float64(z>>11+1) / (1 << 53))
}

// decideLocked takes n tokens and says so, or counts a denial; one that is let
// through where the limit is on trial.
func (lo *local) decideLocked(e *entry, now int64, n int64) bool {
	ok := e.is(open)
	if !e.is(open | shut) {
		cost := float64(n)
		if level := e.levelAt(now); e.bucket.admits(level, cost) && (!e.is(awaited) || lo.admitsBehindLocked(e, level, cost)) {
			e.set(now, level-cost)
			e.lastEvent = now
			ok = true
		}
	} else if n == 0 {
		ok = true
	}
	if !ok && e.is(shadow) {
		lo.passLocked(e, now, n)
		return false
	}
	lo.countLocked(e, ok)
	if !e.noted(now, n, ok) {
		lo.tellLocked(e, now, n, ok)
		if ok && e.mode == modeStale {
			lo.open(e, now).redraw(lo.world.Load())
		}
	}
	return ok
}

// passLocked lets a cost through that a limit on trial would have denied.
func (lo *local) passLocked(e *entry, now, n int64) {
	lo.shardOf(e).shadowed.Add(1)
	lo.countLocked(e, true)
	lo.noteLocked(e, now, n, false)
}

// noteLocked writes down what was asked for, and taken if ok, for the syncer: in the
// account, or, while that is as good, in the entry.
func (lo *local) noteLocked(e *entry, now, n int64, ok bool) {
	if !e.noted(now, n, ok) {
		lo.tellLocked(e, now, n, ok)
	}
}

// noted is noteLocked in the entry; false where the account has to be told.
func (e *entry) noted(now, n int64, ok bool) bool {
	unchanging := rushed
	if ok {
		unchanging = begun
	}
	return e.accountAt == 0 || now < e.calm && e.is(unchanging) && e.pending.add(n, ok)
}

// tellLocked is noteLocked in the account.
func (lo *local) tellLocked(e *entry, now, n int64, ok bool) {
	if n == 0 || e.is(open) || e.is(shut) && !ok {
		return
	}
	if o := lo.open(e, now); o.exchanges() {
		lo.enterLocked(o, now, n, ok)
	}
}

// enterLocked writes a cost above 0 into an account, and sees to it that it is told.
// A cost above the burst asks for nothing: else one absurd call would take
// every share.
func (lo *local) enterLocked(e opened, now, n int64, ok bool) {
	w := lo.world.Load()
	asked, taken := n, int64(0)
	if float64(n) > e.burst {
		asked = 0
	} else if e.mode != modePool {
		asked = min(n, int64(max(1, toInt(e.capacity))))
	}
	if ok {
		taken = n
	}
	e.count(now, asked, taken, e.rate, w)
	lo.planLocked(e, now, ok, w)
	e.calmDown(now, w)
}

// calmDown lets decisions that change nothing of what is known and planned pass the
// account by for a while.
func (e opened) calmDown(now int64, w *world) {
	if e.is(evicted) || e.mode == modeStale || e.planned == forever && !e.frozen {
		return
	}
	calm, room := later(e.notedAt, w.interval), e.alarm-e.alarming()-1
	if e.mode == modePool && !e.frozen && e.planned > e.soonest(now, w) {
		calm, room = e.planned, min(room, e.fairRoom(now, &e.bucket, w))
	}
	e.calm = min(e.until, calm)
	e.pending = newPending(room, min(e.request(), e.capacity))
	e.mark(rushed, e.frozen || e.planned <= e.soonest(now, w))
	e.mark(begun, e.first != 0)
}

// planLocked sees to it that an entry with something to report is exchanged no
// later than it should be; lately where its use fits.
func (lo *local) planLocked(e opened, now int64, fits bool, w *world) {
	if e.frozen || !e.somethingToReport() {
		return
	}
	byNews := e.usage > 0 && e.alarm < maxTokens && e.metByNews()
	if e.alarming() >= e.alarm || byNews {
		e.alarm = maxTokens // once is enough
		e.planBy(dueUrgent)
		return
	}
	due := e.soonest(now, w)
	switch {
	case e.planned <= due:
	case !fits || e.mode != modePool || e.said > now && w.fleet > 1 || !e.withinFair(now, &e.bucket):
		e.planBy(due)
	case e.planned == forever:
		e.planBy(max(due, later(max(e.first, e.reported), lazyPeriod(&e.bucket))))
	}
}

// soonest is when a key may be exchanged again that need not be at once.
func (e opened) soonest(now int64, w *world) int64 {
	return max(now, e.exchanged+int64(w.interval/2))
}

// planBy has an entry exchanged at an instant, if it isn't earlier.
func (e opened) planBy(due int64) {
	if due < e.planned {
		e.planned = due
		e.flags |= unplaced
	}
}

// unlock ends what was done under an entry's own lock, and queues it as it has
// been planned.
func (lo *local) unlock(e *entry) {
	if !e.is(unplaced | evicted) {
		e.mu.Unlock()
		return
	}
	sh := lo.shardOf(e)
	e.mu.Unlock()
	sh.place(e)
}

// serveAndUnlock is unlock after a change that may let callers who wait go on.
func (lo *local) serveAndUnlock(e *entry) {
	if e.is(awaited) && !e.is(evicted) {
		lo.serveLocked(e)
	}
	lo.unlock(e)
}

// place has the shard see what was done under an entry's own lock alone. It may
// be another key's by now, which does no harm.
func (sh *shard) place(e *entry) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e.mu.Lock()
	o := sh.local.withAccount(e)
	if e.is(evicted) && o.account != nil && !o.frozen {
		o.planBy(sh.orphanDue(o))
	}
	sh.unlockPlaced(o)
}

// unlockPlaced is unlock for one who has the shard's lock too, and keeps that.
func (sh *shard) unlockPlaced(e opened) {
	if e.is(awaited) && !e.is(evicted) {
		sh.local.serveLocked(e.entry)
	}
	switch {
	case e.is(evicted):
		sh.orphanLocked(e)
	case e.is(unplaced) && !e.frozen:
		sh.queueLocked(e, e.planned)
	}
	e.flags &^= unplaced
	e.mu.Unlock()
}

// admitsLocked reports whether a decision would admit a cost of n now.
func (lo *local) admitsLocked(e *entry, now, n int64) bool {
	level, cost := e.levelAt(now), float64(n)
	return e.admits(level, cost) && (!e.is(awaited) || lo.admitsBehindLocked(e, level, cost))
}

// admitsBehindLocked reports whether the level admits a cost after all tokens
// that wait.
func (lo *local) admitsBehindLocked(e *entry, level, cost float64) bool {
	return e.admits(level-lo.waitingLocked(e), cost)
}

// waitingLocked is the tokens that wait for the key.
func (lo *local) waitingLocked(e *entry) float64 {
	if !e.is(awaited) {
		return 0
	}
	return float64(lo.queues.Tokens(e.key()))
}

// joinQueueLocked puts a cost into the queue of a key, whose held form and name
// are given, and tells the fleet of the demand.
func (lo *local) joinQueueLocked(e *entry, held, key string, now, n int64) *waitqueue.Waiter {
	lo.noteLocked(e, now, n, false)
	e.flags |= awaited
	return lo.queues.Join(held, key, n, now)
}

// serveLocked admits callers that wait for a key, as far as its bucket does, and
// has it exchanged in every round while some are left. It is called after each
// change that may let them go on, and when a turn has come.
func (lo *local) serveLocked(e *entry) {
	now := clock(lo.base)
	if !lo.ready(e, now) {
		lo.prepareLocked(e, now)
	}
	b := &awaitedBucket{lo, lo.open(e, now), now}
	left := lo.queues.Serve(e.key(), b, now)
	lo.countQueue(b.opened)
	e.mark(awaited, left)
	if b.exchanges() && !b.frozen && (left || b.marked(toldQueue)) {
		b.planBy(b.soonest(now, lo.world.Load()))
	}
}

// awaitedBucket is the bucket of a key with waiting callers, for waitqueue.
type awaitedBucket struct {
	lo *local
	opened
	now int64
}

// countQueue counts the tokens that wait as demand, as if each was requested
// again in every interval, so that shares follow queues.
func (lo *local) countQueue(e opened) {
	if e.exchanges() {
		interval := lo.world.Load().tau / tauIntervals
		e.queued = float32(lo.waitingLocked(e.entry) / interval.Seconds())
	}
}

// Exceeds reports whether a cost exceeds the burst.
func (b *awaitedBucket) Exceeds(n int64) bool {
	return !b.is(shadow) && b.exceeds(float64(n))
}

// Turn is the instant at which the present grant admits a cost.
func (b *awaitedBucket) Turn(from, n, extra int64) int64 {
	if b.is(open | shadow) {
		return from
	}
	from = max(from, b.at)
	more := float64(extra)
	if more > 0 && b.mode == modeShare {
		more *= b.share // the rest of what was reserved is the others' to wait for
	}
	level, cost := b.levelAt(from)+more, float64(n)
	if b.admits(level, cost) {
		return from
	}
	if !b.admits(b.capacity+more, cost) {
		if b.account != nil {
			b.cost = max(b.cost, float32(n)) // for the next grant to have room for it
		}
		return waitqueue.Never
	}
	return later(from, delay(level-b.need(cost), b.refill))
}

// Take takes a cost as of an instant that Turn returned.
func (b *awaitedBucket) Take(at, n int64) {
	if b.is(shadow) {
		b.lo.passLocked(b.entry, b.now, n)
		return
	}
	b.lo.countLocked(b.entry, true)
	if b.is(open) {
		return
	}
	b.set(at, b.levelAt(at)-float64(n))
	b.lastEvent = max(b.lastEvent, at)
	if n == 0 || !b.exchanges() {
		return
	}
	w := b.lo.world.Load()
	b.count(max(at, b.notedAt), 0, n, b.rate, w)
	b.lo.planLocked(b.opened, b.now, true, w)
	if b.mode == modeStale {
		b.redraw(w)
	}
}

// Until is the instant at which the grant has to be looked at again.
func (b *awaitedBucket) Until() int64 {
	if b.account == nil {
		return waitqueue.Never
	}
	return max(b.until, b.now+int64(time.Millisecond))
}

// alarming is the count that the alarm is about.
func (e opened) alarming() int64 {
	if e.mode == modePool {
		return e.usage
	}
	return e.asked
}

// freezeLocked keeps an entry out of other reports while it is in one.
func (sh *shard) freezeLocked(e opened) {
	e.frozen = true
	sh.frozen++
}

// thawLocked lets an entry be reported again.
func (lo *local) thawLocked(e opened, now int64) {
	sh := lo.shardOf(e.entry)
	e.frozen = false
	sh.frozen--
	if e.is(evicted) {
		sh.orphanLocked(e)
		return
	}
	if e.marked(floorDue | limitDue) {
		e.planBy(now)
	}
	if e.exchanges() {
		lo.planLocked(e, now, true, lo.world.Load())
	}
}

// giveBackLocked uncounts n tokens that have been put back into the bucket.
func (lo *local) giveBackLocked(e opened, now, n int64) {
	if !e.exchanges() {
		return
	}
	e.giveBack(e.refundable(&e.bucket, n, now), e.rate)
	lo.planLocked(e, now, false, lo.world.Load())
}

// relimitLocked changes an entry's limit.
func (lo *local) relimitLocked(e opened, lim Limit, isDefault bool, now int64) {
	e.mark(byDefault, isDefault)
	if lim == e.applied() {
		return
	}
	next := newBucket(lim, now)
	e.mark(open, next.unlimited())
	e.mark(shut, next.burst == 0)
	switch {
	case e.shared() && next.shared():
		if e.account != nil {
			e.tellLimit(now)
			e.account.relimit(&e.bucket, &next, now)
		}
		e.bucket.relimit(now, lim)
	case !e.shared():
		e.bucket = next
		if lo.needsAccount(e.entry) {
			lo.shardOf(e.entry).joinLocked(e.entry, now)
		}
		lo.resume(lo.withAccount(e.entry), lo.recall.of(e.field()), now)
	}
	if e.is(awaited) {
		lo.queues.Refuse(e.key(), &awaitedBucket{lo, lo.withAccount(e.entry), now})
	}
}

// tellLimit has a key whose limit is about to change exchanged at once, if Redis has a
// state of it.
func (e opened) tellLimit(now int64) {
	e.setMark(limitDue, e.frozen || e.tat != 0 && e.tat > now-int64(exchange.KeepState))
	if e.marked(limitDue) && !e.frozen {
		e.planBy(dueUrgent)
	}
}

// resetLocked makes an entry full, and forgets what it had to report.
func (lo *local) resetLocked(e opened, now int64) {
	lo.shardOf(e.entry).unqueueLocked(e)
	e.bucket = newBucket(e.limit(), now)
	if e.is(awaited) {
		lo.queues.Forget(e.key())
	}
	if e.account == nil {
		return
	}
	kept := e.dealings
	e.restart(now)
	e.demand, e.demandAt, e.demandThen = kept.demand, kept.demandAt, float32(kept.demand)
	e.held, e.heldAt = kept.held, kept.heldAt
	e.share, e.takenBefore = kept.share, kept.takenBefore+kept.usage
}

// forgetOrphanLocked drops what an evicted entry of a field had to report, and
// what is remembered or was heard of it.
func (sh *shard) forgetOrphanLocked(field string) {
	sh.local.recall.forget(field)
	sh.local.heard.Put(news.Item{Field: field, Reset: true})
	if sh.orphans == 0 {
		return
	}
	for _, q := range slices.Clone(sh.due.all) {
		e := sh.due.entryOf(q)
		e.mu.Lock()
		if e.is(evicted) && e.field() == field {
			sh.unqueueLocked(e)
			e.takenBefore, e.usage = e.taken(), 0
			sh.orphanLocked(e)
		}
		e.mu.Unlock()
	}
}

// pending is the number of keys with something unreported.
func (lo *local) pending() int {
	n := 0
	for sh := range lo.eachShard() {
		sh.mu.Lock()
		n += len(sh.due.all) + sh.frozen
		sh.mu.Unlock()
	}
	return n
}

// delayLocked is the expected time until the bucket holds a cost.
// Among several processes the shared bucket is asked too: by the share of the
// moment alone a small one would wait for hours.
func (lo *local) delayLocked(e opened, now int64, cost float64) time.Duration {
	d := delay(e.levelAt(now)-cost, e.refill)
	if d == 0 || !e.fleetKnown(lo) {
		return d
	}
	w := lo.world.Load()
	return min(d, max(e.sharedDelay(&e.bucket, float64(e.pending.taken)+cost, now), e.nextGrant(now, w)))
}

// expectedWaitLocked is the expected wait for n tokens, behind all callers that wait
// already; negative: no wait would be long enough.
func (lo *local) expectedWaitLocked(e opened, now, n int64) time.Duration {
	switch {
	case e.is(open):
		return 0
	case e.exceeds(float64(n)):
		return -1
	}
	return lo.delayLocked(e, now, float64(n)+lo.waitingLocked(e.entry))
}

// fleetKnown reports whether the entry's level is part of a bucket that others
// share and whose state is known.
func (e opened) fleetKnown(lo *local) bool {
	return e.exchanges() && e.mode != modeStale && e.exchanged != 0 && lo.world.Load().fleet > 1
}

// retryAfter is the time after which n tokens that were denied are expected to
// be there, after the tokens that wait.
func (lo *local) retryAfter(e opened, now int64, n, waiting float64) time.Duration {
	if e.exceeds(n) {
		return rate.InfDuration
	}
	if !e.fleetKnown(lo) {
		d := delay(e.levelAt(now)-waiting-e.need(n), e.refill)
		return min(d, rate.InfDuration-1) + 1
	}
	return max(e.sharedDelay(&e.bucket, n+waiting+float64(e.pending.taken), now), e.nextGrant(now, lo.world.Load()))
}

func (e opened) age(now int64) time.Duration {
	switch {
	case e.is(resting):
		return -1
	case !e.exchanges():
		return 0
	case e.exchanged == 0:
		return -1
	}
	return time.Duration(max(0, now-e.exchanged))
}

// resetAfter is the time until the bucket is full, after the tokens that wait.
func (e opened) resetAfter(now int64, waiting float64) time.Duration {
	if e.exchanges() && e.exchanged != 0 {
		return e.sharedDelay(&e.bucket, e.burst+waiting+float64(e.pending.taken), now)
	}
	if e.mode == modeStale { // all that is known is the share
		return delay(e.levelAt(now)-waiting-e.capacity, e.refill)
	}
	return delay(e.levelAt(now)-waiting-e.burst, e.rate)
}

// queueLocked puts an entry into the queue, or forward in it.
func (sh *shard) queueLocked(e opened, due int64) {
	e.planned = min(e.planned, due)
	e.flags &^= unplaced
	if e.planned == dueUrgent {
		sh.local.urgent.Store(true)
	}
	switch {
	case e.queuedAt == 0:
		heap.Push(&sh.due, e.entry)
		if e.is(evicted) {
			sh.orphans++
		}
	case due < sh.due.all[e.queuedAt-1].due:
		sh.due.all[e.queuedAt-1].due = due
		heap.Fix(&sh.due, int(e.queuedAt-1))
	}
}

func (sh *shard) unqueueLocked(e opened) {
	if e.account == nil {
		return
	}
	e.planned = forever
	e.flags &^= unplaced
	if e.queuedAt == 0 {
		return
	}
	heap.Remove(&sh.due, int(e.queuedAt-1))
	if e.is(evicted) {
		sh.orphans--
	}
}

// popLocked takes the entry that is due first out of the queue, if it is due
// by the given instant, and locks it.
func (sh *shard) popLocked(now, by int64) (e opened, ok bool) {
	if len(sh.due.all) == 0 || sh.due.all[0].due > by {
		return e, false
	}
	e = sh.due.entryOf(sh.due.all[0])
	e.mu.Lock()
	sh.local.tellPending(e, now)
	sh.unqueueLocked(e)
	return e, true
}

// each calls f for every resident entry, under its lock and that of its shard,
// which are taken anew for each: deciders never wait for more than one of them.
func (lo *local) each(now int64, f func(opened)) {
	for sh := range lo.eachShard() {
		sh.mu.Lock()
		for i := 0; i < len(sh.all); i++ { // places are kept, so that nothing is passed over
			resident := sh.entry(sh.all[i])
			resident.mu.Lock()
			f(lo.open(resident, now))
			sh.unlockPlaced(lo.withAccount(resident)) // it may have got one
			sh.mu.Unlock()
			sh.mu.Lock()
		}
		sh.mu.Unlock()
	}
}

// queued is an entry in the queue. It is compared by what is here, and looked
// at only where it moves. It has no pointers, as entries have none.
type queued struct {
	due       int64  // the earliest that it was planned for
	number    uint32 // account.number
	accountAt uint32 // entry.accountAt
}

// dueHeap orders entries by when they are due; for container/heap.
type dueHeap struct {
	shard  *shard
	all    []queued
	lone   map[uint32]*entry // of those in all, the ones that are for one use
	number uint32            // the last in lone
}

// entryOf returns an entry of the queue, with its account, which lacks what is pending.
func (h *dueHeap) entryOf(q queued) opened {
	if q.accountAt == loneAccount {
		return h.shard.local.withAccount(h.lone[q.number])
	}
	return opened{h.shard.entry(q.number), (*account)(h.shard.blocks.At(q.accountAt))}
}

func (h *dueHeap) Len() int           { return len(h.all) }
func (h *dueHeap) Less(i, j int) bool { return h.all[i].due < h.all[j].due }

func (h *dueHeap) Swap(i, j int) {
	h.all[i], h.all[j] = h.all[j], h.all[i]
	h.entryOf(h.all[i]).queuedAt, h.entryOf(h.all[j]).queuedAt = int32(i+1), int32(j+1)
}

func (h *dueHeap) Push(x any) {
	e := h.shard.local.withAccount(x.(*entry))
	if e.lone() {
		h.add(e)
	}
	h.all = append(h.all, queued{e.planned, e.number, e.accountAt})
	e.queuedAt = int32(len(h.all))
}

// add gives an entry that is for one use a number.
func (h *dueHeap) add(e opened) {
	if h.lone == nil {
		h.lone = map[uint32]*entry{}
	}
	for h.lone[h.number] != nil {
		h.number++
	}
	h.lone[h.number], e.number = e.entry, h.number
}

func (h *dueHeap) Pop() any {
	last := len(h.all) - 1
	e := h.entryOf(h.all[last])
	if e.lone() {
		delete(h.lone, e.number)
	}
	h.all = h.all[:last]
	e.queuedAt = 0
	return e.entry
}
