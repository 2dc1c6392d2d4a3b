package account

import (
	"math"

	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/demand"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/outage"
	"github.com/seed-e56e777b/limiter/internal/table"
)

// IdleAfter is the time without a decision or an exchange after which a Short form is as
// good as empty: its means of demand have decayed.
const IdleAfter = 4 * demand.SlowTau

// TickRange is the longest time that Ticks are used for, in nanoseconds: 39 hours.
const TickRange = 1 << (31 + tickShift - 1)

const (
	tickShift     = 17 // log2 of a tick, in nanoseconds: 131 µs
	residentShift = 24 // log2 of the unit of Short.ResidentSince, in nanoseconds: 17 ms
)

// Short is the account of a key far from its limit, in 64 bytes beside the key's slot.
// All other state follows from the slot, or matters only near the limit.
type Short struct {
	exchanged     mono.Time // RepliedAt
	TAT           mono.Time // TAT and RepliedTAT; before the first reply RepliedTAT alone
	mirrorAt      int64     // microseconds of the partition's clock
	First         Ticks     // FirstUse
	ownTAT        Ticks     // OwnTAT
	Stale         Ticks     // StaleSince
	ResidentSince uint32    // ResidentSince, in 2^24 ns
	mirror        float32   // tokens
	demand        float32   // d at the last exchange
	meanOwn       float32   // d̄ at the last exchange
	meanOther     float32   // D̄_o at the last exchange
	share         float32   // w, in an outage
	Cost          uint16    // upper half of the bits of Cost
	carry         int8      // Carry, in 1/128 µs
	threshold     uint8     // θ in an outage, in 1/256, less 1
}

// Ticks is an instant as the number of ticks since an epoch ([Short.Epoch]); 0: none.
type Ticks int32

// TicksOf returns the ticks of an instant. An instant within a tick after the epoch is −1,
// because 0 is none.
func TicksOf(at, epoch mono.Time) Ticks {
	d := (at - epoch) >> tickShift
	switch {
	case at == 0:
		return 0
	case d == 0:
		return -1
	}
	return Ticks(d)
}

// After returns the instant of the ticks, to a tick; 0 if there is none.
func (t Ticks) After(epoch mono.Time) mono.Time {
	if t == 0 {
		return 0
	}
	return epoch + mono.Time(t)<<tickShift
}

// NewShort returns the Short form of a key that comes into memory now.
func NewShort(now mono.Time) Short { return Short{ResidentSince: uint32(now >> residentShift)} }

// Epoch returns the instant from which ticks count: that of the last reply, or, before the
// first one, that at which the key came into memory.
func (l *Short) Epoch() mono.Time {
	if l.exchanged != 0 {
		return l.exchanged
	}
	return mono.Time(l.ResidentSince) << residentShift
}

// Lengthen writes into an account all that the Short form has of it, and into the bucket
// its grant. others is D_o, staleSince the begin of the outage of the key's partition; 0:
// there is none.
func (l *Short) Lengthen(a *Account, b *bucket.Bucket, others float32, staleSince mono.Time, p *Params) {
	epoch := l.Epoch()
	since, first := mono.Time(l.ResidentSince)<<residentShift, l.First.After(epoch)
	*a = Account{
		FastUntil: mono.Never, identity: a.identity, Partition: a.Partition,
		Lease:  Lease{RepliedAt: l.exchanged, RepliedTAT: l.TAT},
		Ledger: Ledger{FirstUse: first, OwnTAT: l.ownTAT.After(epoch), Carry: float64(l.carry) / 128},
		Demands: Demands{
			CountedAt: first, Demand: float64(l.demand), demandAt: epoch, demandAtReport: l.demand,
			ownAtReply: l.demand, meanOwn: l.meanOwn, meanOwnAtReply: l.meanOwn,
			Cost: math.Float32frombits(uint32(l.Cost) << 16), Others: float64(others), MeanOthers: l.meanOther,
			mirror: l.mirror, mirrorAt: l.mirrorAt, ResidentSince: since,
		},
		Schedule: Schedule{Due: mono.Never, ReportedAt: epoch},
	}
	if l.exchanged != 0 {
		a.TAT = l.TAT
	}
	b.Grant = bucket.Grant{Refill: max(0, b.Rate-a.Others), Capacity: b.Burst, Threshold: 1, Mode: bucket.Pool}
	a.Expires = max(epoch.Add(max(GrantIntervals*p.Interval, LazyPeriod(b))), a.TAT)
	a.Until = a.Expires
	if l.Stale != 0 {
		a.Share, a.StaleSince, a.Until = float64(l.share), l.Stale.After(epoch), 0
		if TicksOf(staleSince, epoch) == l.Stale {
			a.StaleSince = staleSince
		}
		b.Threshold = (float32(l.threshold) + 1) / 256
		a.outageGrant(b, a.ShareAfter(a.StaleSince, b.At, p), p)
	}
}

// Shorten writes the Short form of an account, and reports whether that has all that
// matters. All usage has to be in the buffer. In pool mode the key has to be far from its
// limit: at least half of its bucket is full.
func (a *Account) Shorten(l *Short, b *bucket.Bucket, buffer table.Buffer, now mono.Time, p *Params) bool {
	full := mono.Seconds(b.Burst / b.Rate)
	switch {
	case a.Frozen, a.Queued != 0, a.InFlight != 0, a.Usage != 0, a.Attempts != 0, a.Marks&^inShort != 0:
		return false
	case a.AnnouncedTAT > now, a.RelearnUntil > now, a.HeldUntil != 0, a.Reserved >= now, b.LastEvent > b.At, buffer.Attempts != buffer.Taken:
		return false
	case a.RepliedAt == 0 && a.TAT != 0, a.RepliedAt != 0 && a.RepliedTAT != a.TAT && max(a.RepliedTAT, a.TAT) > now:
		return false
	case b.Mode == bucket.Share, b.Mode == bucket.Pool && a.StaleSince != 0, b.Mode == bucket.Stale && a.StaleSince == 0:
		return false
	case b.Mode == bucket.Pool && (a.TAT > now.Add(full/2) || a.scale(p) != 1):
		return false
	case (a.Silence != outage.Silence{}) && float64(a.meanOwn)+float64(a.MeanOthers) > b.Rate*silencePart:
		return false
	}
	epoch := a.RepliedAt
	if epoch == 0 {
		epoch = a.ResidentSince >> residentShift << residentShift
	}
	for _, at := range []mono.Time{a.FirstUse, a.OwnTAT, a.StaleSince} {
		if at != 0 && (at-epoch > TickRange || epoch-at > TickRange) {
			return false
		}
	}
	*l = Short{
		exchanged: a.RepliedAt, TAT: a.RepliedTAT, mirrorAt: a.mirrorAt,
		First: TicksOf(a.FirstUse, epoch), ownTAT: TicksOf(a.OwnTAT, epoch), Stale: TicksOf(a.StaleSince, epoch),
		ResidentSince: uint32(a.ResidentSince >> residentShift), mirror: a.mirror,
		demand:  float32(demand.Decay(a.Demand, epoch.Sub(a.demandAt), p.Tau)),
		meanOwn: a.meanOwn, meanOther: a.MeanOthers, share: float32(a.Share),
		Cost: uint16(math.Float32bits(a.Cost) >> 16), carry: int8(max(-127, min(a.Carry*128, 127))),
	}
	if b.Mode == bucket.Stale {
		l.threshold = uint8(max(0, min(b.Threshold*256-1, 255)))
	}
	return true
}
