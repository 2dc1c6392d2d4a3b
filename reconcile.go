package limiter

import (
	"math"
	"slices"
	"strings"

	"github.com/seed-e56e777b/limiter/internal/account"
	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/delivery"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/keyform"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/news"
	"github.com/seed-e56e777b/limiter/internal/outage"
	"github.com/seed-e56e777b/limiter/internal/recall"
	"github.com/seed-e56e777b/limiter/internal/table"
)

// This file has the exchange of a key with its fleet, in the order of a round:
//
//   - grant: the account of a key, and its grant before a decision (refresh, renew);
//   - record decisions, in the buffer or in the account;
//   - schedule: the instant at which a key is due, and the search for due keys;
//   - report due keys, apply replies, heal after a loss;
//   - news, changes of limit, resets, demotion.
//
// Package account has the rules. Here they are applied to locked keys.

// cargo identifies the key of a record in a report. The account stays that of the key
// until the report has ended. The zero cargo is that of restored news, which has no key.
type cargo struct {
	shard   *shard
	account *account.Account
}

// carrier takes records to Redis. The syncer is one.
type carrier interface {
	// usable reports whether a report to the partition would be sent now.
	usable(part int) bool
	// room returns a report of the partition with room for a record; nil: there is none
	// in this round.
	room(part int, now mono.Time) *report
	// full reports whether no partition has room for a record in this round.
	full() bool
}

// exchanges reports whether the key has an account for its exchange with the fleet.
func (k *lockedKey) exchanges() bool { return k.account.Exchanges() }

// needsAccount reports whether the fleet is to share the key, and the key has no account
// for that.
func (k *lockedKey) needsAccount() bool {
	return !k.exchanges() && len(k.shard.local.parts) > 0 && k.bucket.Shared()
}

// openAccount begins the exchange of a key: it gets an account, its partition, and the
// TAT and demand of received news, if there is some.
func (k *lockedKey) openAccount(it news.Item, now mono.Time) {
	lo := k.shard.local
	if k.account == nil { // otherwise it has one for reservations
		k.takeAccount(now)
		k.short = k.orphan == nil
	}
	part := k.fieldHash() % uint64(len(lo.parts))
	k.account.Partition = 1 + uint16(part)
	k.flags = k.flags&(partBits-1) | flags(part)*partBits
	if it.Field != "" {
		p := lo.params.Load()
		k.account.TAT = believedTAT(&k.bucket, it, now)
		k.account.AnnouncedTAT = k.account.TAT
		k.account.Others = float64(it.Demand) / account.AttemptsMilli / p.Tau.Seconds()
		k.account.MeanOthers = float32(k.account.Others)
	}
}

// takeAccount gives a key without an account a new one.
func (k *lockedKey) takeAccount(now mono.Time) {
	k.account = k.shard.accounts.Take()
	k.account.Begin(now)
	if k.orphan != nil {
		k.orphan.account = k.account
		return
	}
	k.flags |= hasAccount
	k.slot.Account = k.account.Number
}

// dropReserved takes the account from a key that the fleet does not share, once all
// reservations may have acted and no hold is left.
func (k *lockedKey) dropReserved(now mono.Time) {
	if max(k.bucket.LastEvent, k.account.Reserved, k.account.HeldUntil) < now && !k.account.Frozen {
		k.shard.accounts.Release(k.account)
		k.flags &^= hasAccount
		k.slot.Account, k.account = 0, nil
	}
}

// refresh makes the key ready for a decision: it has an account if it needs one, and a
// grant that holds.
func (k *lockedKey) refresh(now mono.Time) {
	switch a := k.account; {
	case k.needsAccount():
		k.openAccount(k.shard.local.newsOf(k, now), now)
	case a == nil:
		return
	case !a.Exchanges():
		k.dropReserved(now)
		return
	case k.short && k.fresh(now), !k.short && now < a.FastUntil && !k.shard.local.stale.Load():
		return
	case k.short:
		k.renewShort(now)
		return
	}
	k.flush(now)
	if !k.fresh(now) {
		k.renew(now)
	}
}

// fresh reports whether the key's grant holds.
func (k *lockedKey) fresh(now mono.Time) bool {
	return !k.exchanges() || now < k.account.Until && k.account.StaleSince == k.staleSince()
}

// staleSince returns the instant since which the key's partition is stale; 0: it is not.
func (k *lockedKey) staleSince() mono.Time {
	return k.shard.local.parts[k.account.Partition-1].staleSince.Load()
}

// renewShort renews the grant of a key in short form, and leaves its buffer as it is.
// Except that a key whose new grant is in share mode is promoted.
func (k *lockedKey) renewShort(now mono.Time) {
	kept, buffer := *k.account, k.buffer
	k.flush(now)
	if k.renew(now); k.bucket.Mode == bucket.Share {
		k.promote()
		return
	}
	if k.bucket.Mode == bucket.Stale {
		buffer.Room = 0 // in an outage every decision needs the account
	}
	kept.Share, kept.StaleSince = k.account.Share, k.account.StaleSince
	kept.Until, kept.Expires, kept.Alarm, kept.RNG = k.account.Until, k.account.Expires, k.account.Alarm, k.account.RNG
	*k.account, k.buffer = kept, buffer
}

// renew replaces a grant that does not hold any more: because of an outage, after an
// outage, or because no reply has renewed it.
func (k *lockedKey) renew(now mono.Time) {
	a, b := k.account, &k.bucket
	p, since, debt := k.shard.local.params.Load(), k.staleSince(), k.account.Debt(&k.bucket, now)
	switch {
	case since != 0:
		if a.StaleSince != since {
			k.endOutage(now, p) // another outage, without a reply in between
		}
		entered := b.Mode != bucket.Stale
		a.StaleSince = since
		a.ApplyOutage(b, since, now, p)
		if entered {
			k.redrawThreshold(p)
		}
	case b.Mode == bucket.Stale:
		k.endOutage(now, p)
		a.Until = now.Add(account.GrantIntervals * p.Interval) // time enough for a reply
	default:
		a.StaleSince = 0
		pool := b.Mode == bucket.Pool
		switch {
		case a.ExtendByMeans(b, now, p):
			if pool {
				k.redrawThreshold(p)
			}
		case now >= a.Expires:
			a.AssumeFull(b, now, p)
			k.redrawThreshold(p)
		}
	}
	a.KeepHeld(b, debt, now)
}

// endOutage keeps the share that the key has at the end of an outage.
func (k *lockedKey) endOutage(now mono.Time, p *account.Params) {
	a := k.account
	if k.bucket.Mode == bucket.Stale && a.StaleSince != 0 {
		a.Share = a.ShareAfter(a.StaleSince, now, p)
	}
	a.StaleSince = 0
}

// redrawThreshold draws θ, uniform in (0, 1]. Except that θ is 1 in pool mode, and in a
// fleet of one process.
func (k *lockedKey) redrawThreshold(p *account.Params) {
	if k.bucket.Mode == bucket.Pool || p.Fleet <= 1 || p.Without.Has(outage.Threshold) {
		k.bucket.Threshold = 1
		return
	}
	if k.account.RNG == 0 {
		k.account.RNG = k.shard.local.random ^ k.fieldHash()
		if k.short { // a short form does not keep it
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

// record records a decision on a cost of n for the exchange: in the buffer if that
// suffices, otherwise in the account. Except that a key without an account, an unlimited
// key and a cost of 0 are not recorded. A blocked key records no denials.
func (k *lockedKey) record(now mono.Time, n int64, ok bool) {
	if k.account == nil || !k.short && now < k.account.FastUntil && k.flags.is(bufferFlag(ok)) && k.buffer.Add(n, ok) {
		return
	}
	if n == 0 || k.flags.is(unlimited) || k.flags.is(blocked) && !ok {
		return
	}
	if k.short {
		if ok && k.recordShort(now, n) {
			return
		}
		k.promote()
	}
	if k.flush(now); k.exchanges() {
		k.recordInAccount(now, n, ok)
	}
}

// recordShort records an admission of a key far from its limit in its short form and
// buffer. It returns false, and changes nothing, if the key needs an account of its own.
func (k *lockedKey) recordShort(now mono.Time, n int64) bool {
	a, b, p := k.account, &k.bucket, k.shard.local.params.Load()
	usage := int64(k.buffer.Taken) + n
	if float64(n) > b.Burst || usage > math.MaxUint16 || a.Usage != 0 || a.Attempts != 0 {
		return false
	}
	first := a.FirstUse
	if first == 0 {
		first = now
	}
	fair := int64(bucket.Clamp((mono.Elapsed(now.Sub(first))*b.Rate + b.Burst/2) / p.Fleet))
	if b.Mode != bucket.Stale && (usage >= a.Alarm || usage > fair || a.KnownByNews()) {
		return false
	}
	a.ObserveCost(n)
	a.FirstUse = first
	k.buffer = account.NewBuffer(min(a.Alarm-1, fair), min(a.Request(), b.Capacity))
	k.buffer.Attempts, k.buffer.Taken = uint16(usage), uint16(usage)
	k.flags.mark(buffersAdmission, true)
	k.flags.mark(buffersDenial, false)
	if b.Mode == bucket.Stale {
		k.buffer.Room = 0
		k.scheduleBy(a.Soonest(now, p))
	} else {
		k.scheduleBy(a.LazyDue(b, k.shard.phase))
	}
	return true
}

// recordInAccount records a decision on a cost above 0 in the account, and schedules the
// key. Except in pool mode, attempts count up to the capacity of the grant. A cost above
// the burst counts as no attempt, because one absurd call would take every share.
func (k *lockedKey) recordInAccount(now mono.Time, n int64, ok bool) {
	p, b := k.shard.local.params.Load(), &k.bucket
	attempts, usage := n, int64(0)
	if float64(n) > b.Burst {
		attempts = 0
	} else if b.Mode != bucket.Pool {
		attempts = min(n, int64(max(1, bucket.ToInt(b.Capacity))))
	}
	if ok {
		usage = n
	}
	k.account.Count(now, attempts, usage, b.Rate, p)
	k.schedule(now, ok, p)
	k.openBuffer(now, p)
}

// openBuffer lets the buffer alone record the next decisions, as far as they change
// neither the grant nor the schedule.
func (k *lockedKey) openBuffer(now mono.Time, p *account.Params) {
	a, b := k.account, &k.bucket
	if k.short || k.orphan != nil || b.Mode == bucket.Stale || a.Due == mono.Never && !a.Frozen {
		return
	}
	until, room := a.CountedAt.Add(p.Interval), a.Alarm-a.AlarmCount(b)-1
	if b.Mode == bucket.Pool && !a.Frozen && a.Due > a.Soonest(now, p) {
		until, room = a.Due, min(room, a.FairRoom(now, b, p))
	}
	a.FastUntil = min(a.Until, until)
	k.buffer = account.NewBuffer(room, min(a.Request(), b.Capacity))
	k.flags.mark(buffersDenial, a.Frozen || a.Due <= a.Soonest(now, p))
	k.flags.mark(buffersAdmission, a.FirstUse != 0)
}

// flush moves the buffer into the account. The next decision needs the account too.
func (k *lockedKey) flush(now mono.Time) {
	if k.account == nil {
		return
	}
	if k.buffer.Attempts != 0 {
		k.account.Flush(k.buffer, &k.bucket, now, k.shard.local.params.Load())
	}
	k.account.FastUntil, k.buffer = 0, table.Buffer{}
}

// giveBack takes tokens out of the usage that are about to be refunded: as many of n as
// are refundable.
func (k *lockedKey) giveBack(now mono.Time, n int64) {
	if !k.exchanges() {
		return
	}
	k.account.GiveBack(k.account.Refundable(&k.bucket, n, now), k.bucket.Rate)
	k.schedule(now, false, k.shard.local.params.Load())
}

// schedule makes a key with something to report due:
//
//   - at once, if its count is at the alarm;
//   - lazily, if it is far from its limit;
//   - otherwise in the next round.
//
// fits is false after a denial or a refund, after which no key is lazy.
func (k *lockedKey) schedule(now mono.Time, fits bool, p *account.Params) {
	a, b := k.account, &k.bucket
	if a.Frozen || !a.SomethingToReport() {
		return
	}
	byNews := a.Usage > 0 && a.Alarm < bucket.MaxTokens && a.KnownByNews()
	if a.AlarmCount(b) >= a.Alarm || byNews {
		a.Alarm = bucket.MaxTokens // one alarm is enough until the reply
		k.scheduleBy(dueUrgent)
		return
	}
	due := a.Soonest(now, p)
	switch {
	case a.Due <= due:
	case !fits || b.Mode != bucket.Pool || a.AnnouncedTAT > now && p.Fleet > 1 || !a.WithinFair(now, b):
		k.scheduleBy(due)
	case a.Due == mono.Never:
		k.scheduleBy(max(due, a.LazyDue(b, k.shard.phase)))
	}
}

// scheduleBy makes the key due at an instant, unless it is due before.
func (k *lockedKey) scheduleBy(due mono.Time) {
	if k.orphan != nil {
		k.shard.setDue(k.account, due, nil)
		return
	}
	k.shard.setDue(k.account, due, &k.slot)
}

// unschedule makes the key due at no instant.
func (k *lockedKey) unschedule() {
	k.account.Due = mono.Never
	if k.orphan == nil {
		k.slot.SetMark(table.Due, false)
	}
}

// setDue makes the key of an account due at an instant, unless it is due before. An
// orphan has no slot.
func (sh *shard) setDue(a *account.Account, due mono.Time, slot *table.Ref) {
	if due >= a.Due {
		return
	}
	a.Due = due
	if slot != nil {
		slot.SetMark(table.Due, true)
	}
	sh.scanAt(due)
}

// scanAt has the shard searched for due keys at an instant, or before.
func (sh *shard) scanAt(due mono.Time) {
	for {
		at := sh.nextScan.Load()
		if at <= due || sh.nextScan.CompareAndSwap(at, due) {
			break
		}
	}
	if due == dueUrgent {
		sh.local.urgent.Store(true)
	}
}

// eachDue calls f with every key that is due by an instant, locked and loaded, and with
// every such orphan that is in no report. If every is set, the others are due too. The
// next search is at the instant at which the first of the rest is due.
func (sh *shard) eachDue(now, by mono.Time, every bool, f func(*lockedKey)) {
	sh.nextScan.Store(mono.Never)
	var k lockedKey // one for all keys, because it is on the heap
	visit := func(ref table.Ref) {
		if due := sh.dueOf(ref); due > by && !every {
			sh.scanAt(due)
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
	for _, o := range slices.Backward(sh.orphans) { // the last one moves to the place of the removed one
		switch {
		case o.account.Frozen:
		case o.account.Due > by && !every:
			sh.scanAt(o.account.Due)
		default:
			k.loadOrphan(sh, o, now)
			f(&k)
			k.close()
		}
	}
}

// dueOf returns the instant at which a key with the mark Due is due. That of a key in
// short form follows from the short form.
func (sh *shard) dueOf(ref table.Ref) mono.Time {
	f, l := flags(ref.Flags), table.Beside[account.Short](ref)
	switch {
	case f.is(hasAccount):
		return sh.accounts.At(ref.Account).Due
	case f.is(owesLimit):
		return dueUrgent
	case f.is(owesFloor), l.Stale != 0: // in the next round
		return dueUrgent + 1
	}
	lim := sh.local.limits.At(ref.Limit)
	return account.LazyDue(&bucket.Bucket{Rate: lim.Rate, Burst: lim.Burst}, max(l.First.After(l.Epoch()), l.Epoch()), sh.phase)
}

// unreportedKeys returns the number of keys with something unreported, or in a report
// without a reply.
func (lo *local) unreportedKeys() int {
	n := int(lo.frozen.Load())
	for sh := range lo.eachShard() {
		sh.mu.Lock()
		n += sh.keys.Count(table.Due) + sh.unreportedOrphans
		sh.mu.Unlock()
	}
	return n
}

// hasUnreported reports whether the shard has a key with usage up to an instant that no
// reply has confirmed, or with no report since.
func (sh *shard) hasUnreported(at mono.Time) (found bool) {
	sh.keys.Each(func(ref table.Ref) {
		if flags(ref.Flags).is(hasAccount) {
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

// drain moves the keys that are due by an instant into reports. If forcedAt is not 0, it
// moves all keys without a report since that instant too. Keys without room in a report
// stay due.
func (lo *local) drain(now, by, forcedAt mono.Time, to carrier) {
	for sh := range lo.eachShard() {
		if forcedAt != 0 || sh.nextScan.Load() <= by {
			sh.eachDue(now, by, forcedAt != 0, func(k *lockedKey) { k.report(now, by, forcedAt, to) })
		}
	}
}

// report moves a key that is due, or forced, into a report.
func (k *lockedKey) report(now, by, forcedAt mono.Time, to carrier) {
	a := k.account
	due := a.Due
	switch {
	case a.Frozen:
		return
	case due > by && (!k.exchanges() || !a.UnreportedAt(forcedAt)), to.full():
		k.shard.scanAt(due)
		return
	case !k.exchanges():
		k.unschedule()
		return
	}
	part := int(a.Partition - 1)
	if !to.usable(part) {
		if due != mono.Never {
			k.unschedule()
			k.scheduleBy(now.Add(unusablePause))
		}
		return
	}
	r := to.room(part, now)
	if r == nil {
		k.shard.scanAt(now + 1)
		return
	}
	k.unschedule()
	k.promote()
	k.flush(now)
	if k.flags.is(awaited) {
		k.countQueue()
	}
	rec, span := a.Report(now, &k.bucket, k.shard.local.params.Load())
	rec.Field = k.fieldIn(r)
	k.freeze()
	r.Append(rec, span, cargo{k.shard, a})
	if a.Is(account.FloorDue) {
		r.Floor(len(r.Records)-1, a.Floor(&k.bucket, now))
		a.Mark(account.FloorDue, false)
	}
}

// fieldIn returns the key's field. If it has to be made, it is made in the text of the
// report.
func (k *lockedKey) fieldIn(r *report) string {
	if k.orphan != nil || k.shard.local.secret != nil {
		return k.field()
	}
	var room [1 + keyform.MaxKey + 1]byte
	return r.Text(k.appendField(room[:0]))
}

// reportReset moves the reset of a key into a report, and returns the key's account. It
// returns nil if another report of the key is under way, or if room returns nil.
func (lo *local) reportReset(q *request, now mono.Time, room func() *report) *account.Account {
	var k lockedKey
	found := lo.find(&k, q.localKey, now)
	if found && k.account == nil {
		k.unlock()
		found = false
	}
	switch {
	case found && k.account.Frozen:
		k.unlock()
		return nil
	case !found:
		sh, _ := lo.locate(q.localKey)
		sh.makeOrphan(&k, q.localKey, q.limit, now)
		if k.account == nil {
			k.takeAccount(now)
		}
	}
	r := room()
	if r == nil {
		if found {
			k.unlock()
		} else {
			k.shard.accounts.Release(k.account)
		}
		return nil
	}
	k.promote()
	k.flush(now)
	k.unschedule()
	rec := exchange.Record{Field: q.field, Op: exchange.Reset}
	if k.bucket.Shared() {
		rec.Limit = k.bucket.ExchangeLimit()
	}
	a := k.account
	r.Append(rec, delivery.Span{Begin: now, Late: mono.Never, Empty: mono.Never}, cargo{k.shard, a})
	if found {
		k.freeze()
		k.close()
		return a
	}
	k.shard.mu.Lock()
	defer k.shard.mu.Unlock()
	k.shard.addOrphanShardLocked(k.orphan)
	k.freeze()
	k.save()
	return a
}

// freeze begins the time of a key in a report. Until thaw it is in no other.
func (k *lockedKey) freeze() {
	k.account.Frozen = true
	k.shard.local.frozen.Add(1)
	if k.orphan != nil {
		k.shard.unreportedOrphans--
	}
}

// applyReply gives a key the grant of the reply to record i of a report, and puts news
// of the key into out. It returns the tokens of the charge that the reply found in debt.
func (lo *local) applyReply(of cargo, r *report, i int, out *news.Outbox, now mono.Time) (overshoot float64) {
	p, rec := lo.params.Load(), &r.Records[i]
	var k lockedKey
	lo.loadReported(&k, of, rec.Field, now)
	defer k.closeReported()
	k.flush(now)
	if a := k.account; k.exchanges() {
		debt := a.Debt(&k.bucket, now)
		k.endOutage(now, p)
		if a.Is(account.FloorDue) && rec.Op.Charges() && rec.Ceiling == 0 {
			a.TAT = a.TAT.Add(k.bucket.ChargedTime(rec)) // Redis may have lost the charge too: the floor has to include it
		}
		byNews := a.KnownByNews()
		a.ApplyReply(&k.bucket, r.Reply.Keys[i], r.Reply.Now, rec, now, p)
		a.KeepHeld(&k.bucket, debt, now)
		k.redrawThreshold(p)
		overshoot = k.observeCharge(rec, r.Reply.Keys[i].Demand, byNews, out, now)
	}
	k.thaw(now)
	return overshoot
}

// observeCharge announces the key if its own charge has taken it low, and takes the
// announcement back if the TAT has fallen since. It returns the tokens of the charge
// that are in debt.
func (k *lockedKey) observeCharge(rec *exchange.Record, demand int64, byNews bool, out *news.Outbox, now mono.Time) (overshoot float64) {
	a, b, p := k.account, &k.bucket, k.shard.local.params.Load()
	if a.TAT.Add(p.Interval+p.RTT) < a.AnnouncedTAT { // refunded or reset: the TAT fell by more than its instants differ between messages
		a.AnnouncedTAT = 0
		out.Drop(rec.Field)
		k.shard.local.news.Put(news.Item{Field: rec.Field, Reset: true})
	}
	if !rec.Op.Charges() {
		return 0
	}
	charged := b.ChargedTime(rec)
	if a.WorthAnnouncing(b, charged, byNews, now, p) {
		it := news.Item{Field: strings.Clone(rec.Field), TAT: a.TAT, Demand: demand, Limit: b.ExchangeLimit(), Level: a.SharedLevel(b, now, b.Rate) / b.Burst}
		if out.Put(it) {
			a.AnnouncedTAT = a.TAT
		}
	}
	return a.Overshoot(b, charged, now)
}

// addFloor adds the last known TAT of a key to record i of a report that Redis refused
// because it has lost state.
func (lo *local) addFloor(of cargo, r *report, i int, now mono.Time) {
	var k lockedKey
	lo.loadReported(&k, of, r.Records[i].Field, now)
	defer k.closeReported()
	k.flush(now)
	r.Floor(i, bucket.UnderLimit(k.account.Floor(&k.bucket, now), now, k.bucket.ExchangeLimit(), r.Records[i].Limit))
	k.account.Mark(account.FloorDue, false)
}

// giveUp drops the usage of a key in a report whose fate is unknown, and returns its
// tokens.
func (lo *local) giveUp(of cargo, field string, now mono.Time) uint64 {
	var k lockedKey
	lo.loadReported(&k, of, field, now)
	defer k.closeReported()
	k.flush(now)
	dropped := uint64(max(0, k.account.InFlight))
	k.account.InFlight = 0
	k.thaw(now)
	return dropped
}

// thaw ends the time of a key in a report, and schedules it again. A key in pool mode
// may then be demoted by save.
func (k *lockedKey) thaw(now mono.Time) {
	a := k.account
	a.Frozen = false
	k.short = k.orphan == nil && k.exchanges() && k.bucket.Mode == bucket.Pool
	k.shard.local.frozen.Add(-1)
	if k.orphan != nil {
		k.shard.unreportedOrphans++
		return
	}
	if a.Is(account.FloorDue | account.LimitDue) {
		k.scheduleBy(now)
	}
	if k.exchanges() {
		k.schedule(now, true, k.shard.local.params.Load())
	}
}

// loadReported locks and loads a key that is in a report: in memory, or the orphan with
// its account.
func (lo *local) loadReported(k *lockedKey, of cargo, field string, now mono.Time) {
	if lo.findField(k, field, now) {
		if k.account == of.account {
			return
		}
		k.unlock()
	}
	of.shard.mu.Lock()
	k.loadOrphan(of.shard, of.shard.orphans[of.account.Orphan-1], now)
}

// closeReported closes a key of loadReported, and unlocks the shard of an orphan.
func (k *lockedKey) closeReported() {
	sh := k.shard
	if k.close(); k.orphan != nil {
		sh.mu.Unlock()
	}
}

// heal makes keys of partitions that have lost state due, to report the last known TAT
// if Redis needs it. Until demand is learnt again, each key keeps its share.
func (lo *local) heal(lost map[int]bool, now mono.Time) {
	p := lo.params.Load()
	lo.each(now, func(k *lockedKey) {
		a := k.account
		if !k.exchanges() || !lost[int(a.Partition-1)] {
			return
		}
		a.ForgetDemand(&k.bucket, now, p)
		if a.OutlastsRedis(now) {
			a.Mark(account.FloorDue, true)
			if !a.Frozen {
				k.scheduleBy(now)
			}
		}
	})
}

// receive applies news to a key in memory, and keeps it for the next insertion of the
// key.
func (lo *local) receive(it news.Item, now mono.Time) {
	var k lockedKey
	if it.Reset {
		lo.holds.Drop(it.Field)
	}
	if !lo.findField(&k, it.Field, now) {
		if it.Reset {
			lo.recall.table.Forget(lo.recallHashOf(it.Field))
			lo.queues.Wake(keyform.FromField(it.Field))
		}
		lo.news.Put(it)
		return
	}
	defer k.close()
	k.flush(now)
	lo.news.Put(it) // in place of older news, which would outlive the eviction of the key
	switch p := lo.params.Load(); {
	case it.Reset && k.account != nil:
		k.account.ReceiveReset(&k.bucket, now, p)
	case k.exchanges():
		pool, debt := k.bucket.Mode == bucket.Pool, k.account.Debt(&k.bucket, now)
		k.account.Receive(&k.bucket, bucket.UnderLimit(it.TAT, now, it.Limit, k.bucket.ExchangeLimit()), it.Demand, now, p)
		if pool && k.bucket.Mode == bucket.Share {
			k.redrawThreshold(p)
		}
		k.account.KeepHeld(&k.bucket, debt, now)
	}
}

// unannounce forgets the announcement of a key whose news was cut. The next report that
// finds the key low announces it again.
func (lo *local) unannounce(field string, now mono.Time) {
	var k lockedKey
	if lo.findField(&k, field, now) {
		if k.exchanges() {
			k.account.AnnouncedTAT = 0
		}
		k.unlock()
	}
}

// repliedSince reports whether a key is in memory, and its last known TAT is that of a
// reply.
func (lo *local) repliedSince(field string, now mono.Time) bool {
	var k lockedKey
	if !lo.findField(&k, field, now) {
		return false
	}
	defer k.unlock()
	return k.account != nil && k.account.TAT <= k.account.RepliedTAT
}

// newsOf returns the received news of a key, or its own debt, if the TAT is still to
// come; otherwise the zero Item.
func (lo *local) newsOf(k *lockedKey, now mono.Time) news.Item {
	if !lo.news.Empty() {
		if it, ok := lo.news.Get(k.field(), now); ok {
			return it
		}
	}
	return news.Item{}
}

// believedTAT returns the TAT of news by the key's present limit, as far as it is
// believed. An own debt is believed in full.
func believedTAT(b *bucket.Bucket, it news.Item, now mono.Time) mono.Time {
	tat := bucket.UnderLimit(it.TAT, now, it.Limit, b.ExchangeLimit())
	if it.Own {
		return tat
	}
	return min(tat, b.Furthest(now, bucket.LongestDebt))
}

// relimit changes the limit of the key, which keeps its tokens and its debt.
func (k *lockedKey) relimit(lim Limit, isDefault bool, now mono.Time) {
	k.flags.mark(byDefault, isDefault)
	if lim == k.applied() {
		return
	}
	next, b := newBucket(lim, now), &k.bucket
	if k.account.Held(now) {
		b.Set(now, -k.account.Debt(b, now)) // a hold is time, and stays as it is
	}
	k.flags.mark(unlimited, next.Unlimited())
	k.flags.mark(blocked, next.Burst == 0)
	switch {
	case b.Shared() && next.Shared():
		if k.exchanges() {
			if !k.short {
				k.flush(now)
			}
			k.reportLimit(now)
			k.account.Relimit(b, &next, now)
		}
		b.Relimit(now, &next)
	case !b.Shared():
		if *b = next; k.needsAccount() {
			k.openAccount(k.shard.local.newsOf(k, now), now)
		}
		k.restore(k.shard.local.recall.table.Get(k.recallHash()), k.shard.local.newsOf(k, now), now)
	}
	k.account.KeepHeld(b, max(0, -b.LevelAt(now)), now)
	k.setSlotLimit()
	if k.flags.is(awaited) {
		k.shard.local.queues.Refuse(k.key(), k.awaited(now))
	}
}

// reportLimit makes a key whose limit is about to change due at once, if Redis may have
// a state of it.
func (k *lockedKey) reportLimit(now mono.Time) {
	a := k.account
	a.Mark(account.LimitDue, a.Frozen || a.TAT != 0 && a.TAT > now.Add(-exchange.KeepState))
	if a.Is(account.LimitDue) && !a.Frozen {
		k.scheduleBy(dueUrgent)
	}
}

// resetBucket makes the key full, and drops all that it had to report.
func (k *lockedKey) resetBucket(now mono.Time) {
	k.bucket = bucket.New(k.bucket.Rate, k.bucket.Burst, now)
	if k.flags.is(awaited) {
		k.shard.local.queues.Forget(k.key())
	}
	if a := k.account; a != nil {
		k.unschedule()
		a.Reset(now)
		a.FastUntil, k.buffer = 0, table.Buffer{}
	}
}

// demoteIdle demotes the keys of a shard that are idle, and drops accounts of past
// reservations.
func (sh *shard) demoteIdle(now mono.Time) {
	sh.keys.Each(func(ref table.Ref) {
		if flags(ref.Flags).is(hasAccount) {
			var k lockedKey
			k.load(sh, ref, now)
			if !k.account.Exchanges() {
				k.dropReserved(now)
			} else if k.idle(now) {
				k.bucket.Grant, k.bucket.Level, k.bucket.At, k.bucket.LastEvent = k.bucket.Alone(), k.bucket.Burst, now, now
				k.account.ForgetGrant()
				k.short = true
			}
			k.save()
		}
		ref.Unlock()
	})
}

// idle reports whether the key has nothing to report, its bucket is full, and its grant
// has expired.
func (k *lockedKey) idle(now mono.Time) bool {
	a := k.account
	switch {
	case a.Due != mono.Never || a.Frozen || k.flags.is(awaited) || k.buffer.Attempts != 0:
		return false
	case now < max(a.Expires, a.TAT, a.RepliedTAT, a.AnnouncedTAT, a.RelearnUntil, a.HeldUntil, k.bucket.LastEvent+1, a.Reserved+1):
		return false
	}
	return k.staleSince() == 0 && !a.Is(account.FloorDue) && !a.SomethingToReport()
}

// demoteRarely calls demoteIdle once in demoteEvery. A limiter without a syncer needs
// it.
func (sh *shard) demoteRarely(now mono.Time) {
	sh.mu.Lock()
	due := now.Sub(sh.demotedAt) > demoteEvery
	if due {
		sh.demotedAt = now
	}
	sh.mu.Unlock()
	if due {
		sh.demoteIdle(now)
		sh.local.spares.Trim()
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

// remember keeps the TAT of a key that is evicted, and its debt. A hold is in
// local.holds.
func (r *recaller) remember(k *lockedKey, now mono.Time) {
	if !k.bucket.Shared() {
		return
	}
	if k.account.Held(now) {
		k.bucket.Set(now, -k.account.Debt(&k.bucket, now))
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
func (r *recaller) relimit(lim Limit, now mono.Time) {
	from, to := r.limit, newBucket(lim, now)
	if !to.Shared() {
		return
	}
	if r.limit = to; from.Shared() {
		r.table.PutOff(func(tat mono.Time) mono.Time {
			return bucket.UnderLimit(tat, now, from.ExchangeLimit(), to.ExchangeLimit())
		}, now)
	}
}

// restore sets the level by the remembered TAT of the key, if its rate is finite and
// above 0:
//
//	TAT = max(min(recalled TAT, now + b/r), TAT of an own debt)
//
// It reports whether there is such a debt.
func (k *lockedKey) restore(recalled mono.Time, it news.Item, now mono.Time) (owes bool) {
	if !k.bucket.Shared() {
		return false
	}
	remembered := min(recalled, now.Add(mono.Seconds(k.bucket.Burst/k.bucket.Rate)))
	if it.Own {
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
func (k *lockedKey) fullAt() mono.Time {
	b, a := &k.bucket, k.account
	switch {
	case a == nil:
		return b.At.Add(bucket.Delay(b.Level-b.Burst, b.Rate))
	case b.Mode == bucket.Share:
		return max(a.TAT, b.At).Add(bucket.Delay(-a.Unreported(b.Rate), b.Rate))
	case b.Mode == bucket.Stale:
		return b.At.Add(bucket.Delay(b.Level-b.Capacity, b.Refill))
	}
	return max(a.TAT, b.At.Add(bucket.Delay(b.Level-b.Burst, b.Rate)))
}

// inDebt reports whether the key's bucket is below empty.
func (k *lockedKey) inDebt(now mono.Time) bool {
	return k.fullAt() > now.Add(mono.Seconds(k.bucket.Burst/k.bucket.Rate))
}
