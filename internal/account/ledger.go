package account

import (
	"math"
	"time"

	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/delivery"
	"github.com/seed-e56e777b/limiter/internal/demand"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/table"
)

// AttemptsMilli is the number of units in which reports and replies count a token.
const AttemptsMilli = 1000

const lateRounds = 2 // time after which usage is late, in T, beside a trip and the lazy period

// NewBuffer returns a buffer for so many attempted tokens, in costs of at most easy
// tokens each.
func NewBuffer(room int64, easy float64) table.Buffer {
	return table.Buffer{
		Room: uint16(max(0, min(room, math.MaxUint16))),
		Easy: uint16(min(easy, math.MaxUint16)),
	}
}

// Flush moves the counts of a buffer into the account, as if they had come evenly since
// the last counted decision. Usage ends at the bucket's instant, denials at now, both
// at FastUntil at the latest, because a buffer does not keep when it was written.
func (a *Account) Flush(buffer table.Buffer, b *bucket.Bucket, now mono.Time, p *Params) {
	attempts, usage := int64(buffer.Attempts), int64(buffer.Taken)
	from, to := a.CountedAt, a.CountedAt
	if usage != 0 {
		a.Usage = bucket.AddTokens(a.Usage, usage)
		to = max(to, min(b.At, a.FastUntil))
		latest := max(a.OwnTAT, to).Add(mono.Seconds(float64(usage) / b.Rate))
		a.chain(usage, from, to, b.Rate, p)
		// The usage may have come late in its span, at the latest all at its end. The
		// level bounds that, because it shows how much all processes have used. Except in
		// a span of at most T: because the level has the others' usage a trip late, a busy
		// key would be charged for the trip in every round.
		if b.Mode == bucket.Pool && to.Sub(from) > p.Interval {
			a.OwnTAT = max(a.OwnTAT, min(latest, b.At.Add(bucket.Delay(b.Level-b.Burst, b.Rate))))
		}
	}
	if attempts != usage {
		to = max(to, min(now, a.FastUntil))
	}
	a.Attempts = bucket.AddTokens(a.Attempts, attempts)
	a.addDemand(attempts, from, to, p)
	a.CountedAt = to
}

// UnfoldSinceReply takes the usage since a reply that came just now out of the ledger and
// the demand, for a buffer to hold it again. Usage counts as if it had come evenly since
// its first admission, t before the reply:
//
//	d ← max(0, d − usage/τ·(1 − exp(−t/τ))·τ/t),   OwnTAT ← max(0, OwnTAT − usage/r)
func (a *Account) UnfoldSinceReply(rate float64, p *Params) {
	x := float64(a.RepliedAt-a.FirstUse) * p.perTau
	part := 1.
	if x > demandStep {
		part = -math.Expm1(-x) / x
	}
	d := demand.Decay(a.Demand, a.RepliedAt.Sub(a.demandAt), p.Tau)
	a.Demand, a.demandAt = max(0, d-part*float64(a.Usage)/p.Tau.Seconds()), a.RepliedAt
	a.OwnTAT = max(0, a.OwnTAT-mono.Time(mono.Seconds(float64(a.Usage)/rate)))
	a.Usage, a.Attempts = 0, 0
}

// UnreportedAt reports whether the key has no report since an instant, or usage until
// then that no report has.
func (a *Account) UnreportedAt(at mono.Time) bool {
	return a.ReportedAt <= at || a.FirstUse != 0 && a.FirstUse <= at
}

// AlarmCount returns the count that the alarm compares: usage in pool mode, otherwise
// attempts, both in unreported tokens.
func (a *Account) AlarmCount(b *bucket.Bucket) int64 {
	if b.Mode == bucket.Pool {
		return a.Usage
	}
	return a.Attempts
}

// Unreported returns the tokens of usage that Redis may not have yet, at a rate:
//
//	Usage + InFlight + Carry·r
//
// Except that a carry below a microsecond is left out. Because it is the rest of a
// rounding, a full bucket would not be full with it.
func (a *Account) Unreported(rate float64) float64 {
	tokens := float64(a.Usage) + float64(a.InFlight)
	if math.Abs(a.Carry) >= 1 {
		tokens += a.Carry * rate / 1e6
	}
	return tokens
}

// SomethingToReport reports whether there is something for a report: usage, a carry of
// a microsecond, attempts, or demand of waiting callers to report or to take back.
func (a *Account) SomethingToReport() bool {
	return a.Queued != 0 || a.Is(ReportedQueue) || a.Usage != 0 || a.Attempts != 0 || a.Carry >= 1 || a.Carry <= -1
}

// Count counts a decision: its attempts and its usage, in tokens.
func (a *Account) Count(now mono.Time, attempts, usage int64, rate float64, p *Params) {
	a.CountedAt = now
	a.Attempts = bucket.AddTokens(a.Attempts, attempts)
	a.addDemand(attempts, now, now, p)
	a.ObserveCost(attempts)
	if usage != 0 {
		a.Usage = bucket.AddTokens(a.Usage, usage)
		a.chain(usage, now, now, rate, p)
		if a.FirstUse == 0 {
			a.FirstUse = now
		}
	}
}

// chain appends usage, whose first request came at one instant and whose last at another,
// to the process's own chain:
//
//	OwnTAT ← max(max(OwnTAT, from) + usage/r, to + min(usage, c)/r)
//
// The chain of the fair part is the same with r/N.
func (a *Account) chain(usage int64, from, to mono.Time, rate float64, p *Params) {
	own := float64(usage) / rate
	last := min(own, a.Request()/rate)
	a.OwnTAT = max(max(a.OwnTAT, from).Add(mono.Seconds(own)), to.Add(mono.Seconds(last)))
	a.fairTAT = max(max(a.fairTAT, from).Add(mono.Seconds(own*p.Fleet)), to.Add(mono.Seconds(last*p.Fleet)))
}

// Taken returns the usage of all time, in tokens.
func (a *Account) Taken() int64 {
	if a == nil {
		return 0
	}
	return a.TakenBefore + a.Usage
}

// GiveBack takes n tokens out of the usage. Where that leaves less than 0 the next
// report is a refund.
func (a *Account) GiveBack(n int64, rate float64) {
	a.Mark(gaveBack, true)
	a.Usage = bucket.AddTokens(a.Usage, -n)
	a.OwnTAT = max(0, a.OwnTAT-mono.Time(mono.Seconds(float64(n)/rate)))
	if a.Usage <= 0 {
		a.FirstUse = 0
	}
}

// Relimit converts time by one limit to time by another, so that tokens stay as they
// are.
func (a *Account) Relimit(from, to *bucket.Bucket, now mono.Time) {
	stretch := from.Rate / to.Rate
	a.Carry *= stretch
	a.fairTAT = now + mono.Time(float64(a.fairTAT-now)*stretch)
	if a.RepliedAt == 0 {
		a.RepliedTAT = max(a.RepliedTAT, now) // a bucket that was full gets no larger burst
	}
	for _, tat := range []*mono.Time{&a.TAT, &a.AnnouncedTAT, &a.RepliedTAT, &a.OwnTAT} {
		*tat = bucket.UnderLimit(*tat, now, from.ExchangeLimit(), to.ExchangeLimit())
	}
	a.Expires = max(a.Expires, a.TAT)
}

// WithinFair reports whether the usage of the key here fits a bucket of rate r/N and
// burst b/2N:
//
//	(fairTAT − now)·r ≤ b/2
func (a *Account) WithinFair(now mono.Time, b *bucket.Bucket) bool {
	return float64(a.fairTAT-now)*b.Rate <= b.Burst*(1e9/2)
}

// FairRoom returns the tokens that fit the bucket of [Account.WithinFair] besides:
//
//	(b/2 − max(0, fairTAT − now)·r)/N
func (a *Account) FairRoom(now mono.Time, b *bucket.Bucket, p *Params) int64 {
	over := max(0, mono.Elapsed(a.fairTAT.Sub(now)))
	return int64(bucket.Clamp((b.Burst/2 - over*b.Rate) / p.Fleet))
}

// Report moves usage and attempts into a record, and returns it with the span of its
// charge:
//
//	charge = Carry + Usage/(r·scale), its whole microseconds; the rest is carried
//
// A negative charge is a refund. The charge exceeds the usage by the room of silent
// processes; Left is that room as a part of the charge.
func (a *Account) Report(now mono.Time, b *bucket.Bucket, p *Params) (rec exchange.Record, span delivery.Span) {
	scale := a.scale(p)
	exact := a.Carry + float64(a.Usage)*1e6/(b.Rate*scale)
	whole := math.Trunc(max(-bucket.MaxMicros, min(exact, bucket.MaxMicros)))
	a.Carry = exact - whole
	if math.Abs(a.Carry) >= 1 {
		a.Carry = 0
	}
	rec.Delta = int64(whole)
	if rec.Delta < 0 {
		rec.Op, rec.Delta = exchange.Refund, -rec.Delta
	}
	span = delivery.Span{Begin: now, Late: mono.Never, Empty: mono.Never}
	if a.RepliedAt != 0 {
		span.Known = a.RepliedTAT
	}
	if a.FirstUse != 0 {
		others := a.Others
		if now < a.RelearnUntil {
			others = max(others, float64(a.MeanOthers)) // the shared count lacks the others' demand so far
		}
		late := lateRounds*p.Interval + p.RTT + LazyPeriod(b)
		if a.RepliedAt == 0 && p.Fleet > 1 && now >= a.FirstUse.Add(late) {
			others = b.Rate // they may have used as much since, and nothing is known of them
		}
		span.Begin = chargeBegin(a.FirstUse, a.OwnTAT, time.Duration(whole*1e3), others/b.Rate, now, lateness(b, p))
		span.Late, span.Empty = a.FirstUse.Add(late), a.FirstUse.Add(max(late, exchange.MaxUnused))
		span.Full, span.Owed = a.owes(b, now, p)
	}
	rec.Left = uint8(256 * (1 - scale))
	rec.Attempts = int64(AttemptsMilli * a.takeAttempts(now, p))
	rec.Limit = b.ExchangeLimit()
	a.Mark(LimitDue, false)
	a.TakenBefore += a.Usage
	a.InFlight, a.Usage = a.Usage, 0
	a.firstInFlight, a.FirstUse = a.FirstUse, 0
	return rec, span
}

// owes returns how far ahead of now a late charge may leave the TAT, in microseconds. It
// also returns the part of the charge that its callers know to owe:
//
//	full = b/r + debt/max(ρ, r/N),   owed = debt/r
//
// The debt ([Account.Debt]) is of Charge and Reserve, or a part of the fleet's. Each
// process waits while the fleet repays it.
func (a *Account) owes(b *bucket.Bucket, now mono.Time, p *Params) (full, owed int64) {
	debt := a.Debt(b, now) * 1e6
	return b.FullMicros() + int64(debt/max(b.Refill, b.Rate/p.Fleet)), int64(debt / b.Rate)
}

// chargeBegin returns the instant at which a charge begins (docs/design.md §4, Age):
//
//	f = first + max(0, max(ownTAT − first, usage)·(1 − o) − usage),   o = min(1, D_o/r)
//	begin = min(now, f, (1 − o)·f + o·(now − late))
//
// The charge of a process alone (o = 0) ends with its own chain. That of one among many
// (o = 1) begins at its first admission, or late ago if that is earlier. Because
// refill that came in between must not be lost, and others may have used it, the
// others' demand decides.
func chargeBegin(first, ownTAT mono.Time, usage time.Duration, o float64, now mono.Time, late time.Duration) mono.Time {
	o = min(1, o)
	span := float64(max(ownTAT.Sub(first), usage))
	f := float64(first) + max(0, span*(1-o)-float64(usage))
	f = min(f, (1-o)*f+o*float64(now-mono.Time(late)))
	return min(now, mono.Time(f))
}

// lateness returns how late the others' usage may be charged:
//
//	H·min(1, r·H/2b)
//
// Setting a charge back credits refill that a full bucket might have lost. The larger
// the burst is beside a round's refill, the less of that is needed.
func lateness(b *bucket.Bucket, p *Params) time.Duration {
	h := p.horizon()
	return mono.Seconds(h * min(1, b.Rate*h/(2*b.Burst)))
}

// Floor returns the least TAT that Redis has to have after a loss, or after a hold: the
// last known one, as far as it is believed.
func (a *Account) Floor(b *bucket.Bucket, now mono.Time) mono.Time {
	return min(a.TAT, b.Furthest(now, bucket.LongestDebt))
}

// OutlastsRedis reports whether a Redis that has lost the last known TAT needs it again:
// the TAT is later than now, or than the first unreported or unconfirmed admission.
func (a *Account) OutlastsRedis(now mono.Time) bool {
	return a.TAT > now || a.FirstUse != 0 && a.TAT > a.FirstUse || a.InFlight != 0 && a.TAT > a.firstInFlight
}

// Refundable returns how many of n tokens given back count. All unreported ones do.
// Beyond them those do that the shared bucket lacks, because a refund is no credit.
func (a *Account) Refundable(b *bucket.Bucket, n int64, now mono.Time) int64 {
	unreported := min(n, max(0, a.Usage))
	level := b.LevelAt(now)
	if a.RepliedAt != 0 {
		level = min(b.Burst, a.SharedLevel(b, now, b.Rate)) - a.Unreported(b.Rate)
	}
	missing := b.Burst - level - float64(unreported)
	return unreported + int64(max(0, min(float64(n-unreported), math.Floor(missing))))
}
