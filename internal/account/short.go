package account

import (
	"math"
	"time"

	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/demand"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/outage"
	"github.com/seed-e56e777b/limiter/internal/table"
)

// Short is the account of a key far from its limit, in short: 64 bytes beside its slot.
// What is not here follows from the slot, or matters near the limit alone.
type Short struct {
	exchanged     int64
	Tat           int64 // account.tat and replied; before the first reply, replied
	mirrorAt      int64
	First         ticks
	ownTAT        ticks
	Stale         ticks  // account.staleSince
	ResidentSince uint32 // account.met, in 2^metShift ns
	mirror        float32
	demand        float32 // when it was exchanged
	meanOwn       float32
	meanOther     float32
	share         float32
	Cost          uint16 // the upper half of account.cost
	carry         int8   // account.carry, in 1/128 µs
	threshold     uint8  // bucket.threshold in an outage, in 1/256, less 1
}

// ticks are an instant, in 2^tickShift ns (131 µs) after the last exchange, or, before
// the first one, after the key came; 0: none.
type ticks int32

const (
	tickShift = 17
	TickRange = 1 << (31 + tickShift - 1) // 39 hours
	MetShift  = 24
)

func TicksOf(at, epoch int64) ticks {
	d := (at - epoch) >> tickShift
	switch {
	case at == 0:
		return 0
	case d == 0:
		return -1
	}
	return ticks(d)
}

func (t ticks) After(epoch int64) int64 {
	if t == 0 {
		return 0
	}
	return epoch + int64(t)<<tickShift
}

func (l *Short) Epoch() int64 {
	if l.exchanged != 0 {
		return l.exchanged
	}
	return int64(l.ResidentSince) << MetShift
}

// Lengthen makes an account what it was when it was shortened. staleSince is that of the
// key's partition.
func (l *Short) Lengthen(a *Account, b *bucket.Bucket, others float32, staleSince int64, p *Params) {
	epoch := l.Epoch()
	since, first := int64(l.ResidentSince)<<MetShift, l.First.After(epoch)
	*a = Account{
		FastUntil: mono.Never, identity: a.identity,
		Lease:  Lease{RepliedAt: l.exchanged, RepliedTAT: l.Tat},
		Ledger: Ledger{FirstUse: first, OwnTAT: l.ownTAT.After(epoch), Carry: float64(l.carry) / 128},
		Demands: Demands{
			CountedAt: first, Demand: float64(l.demand), demandAt: epoch, DemandAtReport: l.demand,
			OwnAtReply: l.demand, MeanOwn: float64(l.meanOwn), MeanOwnAtReply: l.meanOwn,
			Cost: math.Float32frombits(uint32(l.Cost) << 16), Others: float64(others), MeanOthers: l.meanOther,
			mirror: l.mirror, mirrorAt: l.mirrorAt, ResidentSince: since,
		},
		Schedule: Schedule{Due: mono.Never, ReportedAt: epoch, Partition: a.Partition},
	}
	if l.exchanged != 0 {
		a.TAT = l.Tat
	}
	b.Grant = bucket.Grant{Refill: max(0, b.Rate-a.Others), Capacity: b.Burst, Threshold: 1, Mode: bucket.Pool}
	a.Expires = max(mono.Add(epoch, max(GrantIntervals*p.Interval, LazyPeriod(b))), a.TAT)
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

const IdleAfter = 4 * demand.SlowTau // without a decision or an exchange: what averages say is as good as gone

// Shorten writes a short form of an account with an empty ledger, but for what is in the
// buffer, and reports whether that has all that matters.
func (a *Account) Shorten(l *Short, b *bucket.Bucket, buffer table.Buffer, now int64, p *Params) bool {
	full := mono.Seconds(b.Burst / b.Rate)
	switch {
	case a.Frozen, a.Queued != 0, a.InFlight != 0, a.Usage != 0, a.Attempts != 0, a.Marks&^inShort != 0:
		return false
	case a.AnnouncedTAT > now, a.HoldUntil > now, a.Reserved >= now, b.LastEvent > b.At, buffer.Attempts != buffer.Taken:
		return false
	case a.RepliedAt == 0 && a.TAT != 0, a.RepliedAt != 0 && a.RepliedTAT != a.TAT && max(a.RepliedTAT, a.TAT) > now:
		return false
	case b.Mode == bucket.Share, b.Mode == bucket.Pool && a.StaleSince != 0, b.Mode == bucket.Stale && a.StaleSince == 0:
		return false
	case b.Mode == bucket.Pool && (a.TAT > mono.Add(now, full/2) || a.scale(p) != 1):
		return false
	case (a.Silence != outage.Silence{}) && a.MeanOwn+float64(a.MeanOthers) > b.Rate*unlimitedPart:
		return false
	}
	epoch := a.RepliedAt
	if epoch == 0 {
		epoch = a.ResidentSince >> MetShift << MetShift
	}
	for _, at := range []int64{a.FirstUse, a.OwnTAT, a.StaleSince} {
		if at != 0 && (at-epoch > TickRange || epoch-at > TickRange) {
			return false
		}
	}
	*l = Short{
		exchanged: a.RepliedAt, Tat: a.RepliedTAT, mirrorAt: a.mirrorAt,
		First: TicksOf(a.FirstUse, epoch), ownTAT: TicksOf(a.OwnTAT, epoch), Stale: TicksOf(a.StaleSince, epoch),
		ResidentSince: uint32(a.ResidentSince >> MetShift), mirror: a.mirror,
		demand:  float32(demand.Decay(a.Demand, time.Duration(epoch-a.demandAt), p.Tau)),
		meanOwn: float32(a.MeanOwn), meanOther: a.MeanOthers, share: float32(a.Share),
		Cost: uint16(math.Float32bits(a.Cost) >> 16), carry: int8(max(-127, min(a.Carry*128, 127))),
	}
	if b.Mode == bucket.Stale {
		l.threshold = uint8(max(0, min(b.Threshold*256-1, 255)))
	}
	return true
}
