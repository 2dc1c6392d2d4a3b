package limiter

import (
	"slices"
	"strings"

	"github.com/seed-e56e777b/limiter/internal/account"
	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/news"
	"github.com/seed-e56e777b/limiter/internal/recall"
	"github.com/seed-e56e777b/limiter/internal/table"
)

// This file has the eviction of keys, in this order:
//
//   - a key leaves its slot (evictShardLocked);
//   - its TAT is remembered (recaller), and restored when the key returns;
//   - its unreported usage stays with an orphan until it is reported.

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

// recaller remembers the TATs of evicted keys, so that no key returns with a fresh
// burst. It keeps debts by field, too. Because two keys may share a cell of the table,
// one would otherwise pay for the other.
type recaller struct {
	table *recall.Table // TATs by hash of the key
	debts *news.Table   // local.news
	limit bucket.Bucket // last default limit with a finite rate above 0, by which the TATs are; guarded by Limiter.changing
}

// remember keeps the TAT of a key that is evicted, and its debt.
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

// relimit converts the remembered TATs to another default limit, as if the keys were in
// memory. Except that a rate of 0, or no limit, converts nothing: the next limit follows
// on the one before. A key with a limit of its own is converted too. Such a key may
// return with less than it had, never below empty.
func (r *recaller) relimit(lim Limit, now int64) {
	from, to := r.limit, newBucket(lim, now)
	if !to.Shared() {
		return
	}
	if r.limit = to; from.Shared() {
		r.table.PutOff(func(tat int64) int64 { return bucket.UnderLimit(tat, now, from.ExchangeLimit(), to.ExchangeLimit()) }, now)
	}
}

// restore sets the level by the remembered TAT of the key, if its rate is finite and
// above 0:
//
//	TAT = max(min(recalled TAT, now + b/r), TAT of an own debt)
//
// It reports whether there is such a debt.
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

// fullAt returns the instant at which the key's bucket is full again, as known at the
// last decision. In share mode the shared TAT gives it, because the level of a share is
// mostly low.
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

// makeOrphan makes a new orphan of a key that is not in memory, and loads it. No lock
// guards the orphan, because its shard does not have it.
func (sh *shard) makeOrphan(k *lockedKey, localKey string, lim Limit, now int64) {
	o := &orphan{localKey: strings.Clone(localKey), field: sh.local.fieldOf(localKey), hash: sh.local.seeds.Hash(localKey), bucket: newBucket(lim, now)}
	k.loadOrphan(sh, o, now)
	k.initialize(localKey)
}

// adoptOrphan gives the shard an orphan of makeOrphan after a decision, if it has usage
// to report. Except that usage is dropped, and counted, if there are too many orphans.
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
func (sh *shard) orphanDueShardLocked(a *account.Account) int64 {
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
	for _, o := range slices.Clone(sh.orphans) {
		if o.field == field && !o.account.Frozen {
			o.account.Usage = 0 // the reset replaces it, so that it does not count as dropped
			sh.unreportedOrphans--
			sh.removeOrphanShardLocked(o)
		}
	}
}
