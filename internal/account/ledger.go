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

const lateRounds = 2 // in T; a report of older usage is late

// NewBuffer has room for so many tokens, in costs that are as easy.
func NewBuffer(room int64, easy float64) table.Buffer {
	return table.Buffer{
		Room: uint16(max(0, min(room, math.MaxUint16))),
		Easy: uint16(min(easy, math.MaxUint16)),
	}
}

// Flush takes in what is in a buffer. Of denials it is not known when they were,
// except that it was before now, and by fastUntil.
func (a *Account) Flush(buffer table.Buffer, b *bucket.Bucket, now int64, p *Params) {
	attempts, taken := int64(buffer.Attempts), int64(buffer.Taken)
	from, to := a.CountedAt, a.CountedAt
	if taken != 0 {
		a.Usage = bucket.AddTokens(a.Usage, taken)
		to = max(to, min(b.At, a.FastUntil))
		latest := mono.Add(max(a.OwnTAT, to), mono.Seconds(float64(taken)/b.Rate))
		a.chain(taken, from, to, b.Rate, p)
		// What came late in a long time stands behind more, but not behind more than all
		// have taken. The level knows of that as late as the reply was on its way, which
		// a busy key would be charged for in every round.
		if b.Mode == bucket.Pool && to-from > int64(p.Interval) {
			a.OwnTAT = max(a.OwnTAT, min(latest, mono.Add(b.At, bucket.Delay(b.Level-b.Burst, b.Rate))))
		}
	}
	if attempts != taken {
		to = max(to, min(now, a.FastUntil))
	}
	a.Attempts = bucket.AddTokens(a.Attempts, attempts)
	a.addDemand(attempts, from, to, p)
	a.CountedAt = to
}

// UnfoldSinceReply takes out of the demand, and out of the process's own chain, what was taken since
// a reply that came just now, as if it had come evenly.
func (a *Account) UnfoldSinceReply(rate float64, p *Params) {
	x := float64(a.RepliedAt-a.FirstUse) * p.perTau
	part := 1.
	if x > demandStep {
		part = -math.Expm1(-x) / x
	}
	d := demand.Decay(a.Demand, time.Duration(a.RepliedAt-a.demandAt), p.Tau)
	a.Demand, a.demandAt = max(0, d-part*float64(a.Usage)/p.Tau.Seconds()), a.RepliedAt
	a.OwnTAT = max(0, a.OwnTAT-int64(mono.Seconds(float64(a.Usage)/rate)))
	a.Usage, a.Attempts = 0, 0
}

// UnreportedAt reports whether the last report of the key was made by an instant, or does not
// have all usage until then.
func (a *Account) UnreportedAt(at int64) bool {
	return a.ReportedAt <= at || a.FirstUse != 0 && a.FirstUse <= at
}

// AlarmCount is the count that the alarm is about.
func (a *Account) AlarmCount(b *bucket.Bucket) int64 {
	if b.Mode == bucket.Pool {
		return a.Usage
	}
	return a.Attempts
}

// Unreported is what Redis may not know of yet, in tokens of the given rate.
func (a *Account) Unreported(rate float64) float64 {
	tokens := float64(a.Usage) + float64(a.InFlight)
	if math.Abs(a.Carry) >= 1 { // else it is what is left of a rounding, by which a full bucket would not be full
		tokens += a.Carry * rate / 1e6
	}
	return tokens
}

func (a *Account) SomethingToReport() bool {
	return a.Queued != 0 || a.Is(ReportedQueue) || a.Usage != 0 || a.Attempts != 0 || a.Carry >= 1 || a.Carry <= -1
}

// Count counts tokens that were attempted, and taken, at an instant.
func (a *Account) Count(now, asked, taken int64, rate float64, p *Params) {
	a.CountedAt = now
	a.Attempts = bucket.AddTokens(a.Attempts, asked)
	a.addDemand(asked, now, now, p)
	a.ObserveCost(asked)
	if taken != 0 {
		a.Usage = bucket.AddTokens(a.Usage, taken)
		a.chain(taken, now, now, rate, p)
		if a.FirstUse == 0 {
			a.FirstUse = now
		}
	}
}

// chain puts tokens behind those taken before them: the first at one instant, the last
// at another.
func (a *Account) chain(taken, from, to int64, rate float64, p *Params) {
	own := float64(taken) / rate
	last := min(own, a.Request()/rate)
	a.OwnTAT = max(mono.Add(max(a.OwnTAT, from), mono.Seconds(own)), mono.Add(to, mono.Seconds(last)))
	a.fairTAT = max(mono.Add(max(a.fairTAT, from), mono.Seconds(own*p.Fleet)), mono.Add(to, mono.Seconds(last*p.Fleet)))
}

// Taken is the tokens admitted less those given back, ever.
func (a *Account) Taken() int64 {
	if a == nil {
		return 0
	}
	return a.TakenBefore + a.Usage
}

// GiveBack uncounts tokens taken: what is unreported first, the rest becomes
// a refund.
func (a *Account) GiveBack(n int64, rate float64) {
	a.Mark(gaveBack, true)
	a.Usage = bucket.AddTokens(a.Usage, -n)
	a.OwnTAT = max(0, a.OwnTAT-int64(mono.Seconds(float64(n)/rate)))
	if a.Usage <= 0 {
		a.FirstUse = 0
	}
}

// Relimit makes time by one limit time by another: tokens stay what they are.
func (a *Account) Relimit(from, to *bucket.Bucket, now int64) {
	stretch := from.Rate / to.Rate
	a.Carry *= stretch
	a.fairTAT = now + int64(float64(a.fairTAT-now)*stretch)
	if a.RepliedAt == 0 {
		a.RepliedTAT = max(a.RepliedTAT, now) // for what this process has not taken itself
	}
	for _, tat := range []*int64{&a.TAT, &a.AnnouncedTAT, &a.RepliedTAT, &a.OwnTAT} {
		*tat = bucket.UnderLimit(*tat, now, from.Wire(), to.Wire())
	}
	a.Expires = max(a.Expires, a.TAT)
}

// WithinFair reports whether the key's use here fits a bucket of rate r/N and
// burst b/2N.
func (a *Account) WithinFair(now int64, b *bucket.Bucket) bool {
	return float64(a.fairTAT-now)*b.Rate <= b.Burst*(1e9/2)
}

// FairRoom is for how many tokens more it would be.
func (a *Account) FairRoom(now int64, b *bucket.Bucket, p *Params) int64 {
	over := max(0, mono.Elapsed(a.fairTAT-now))
	return int64(bucket.Clamp((b.Burst/2 - over*b.Rate) / p.Fleet))
}

// Report moves what is unreported into a record, with the span of its charge.
func (a *Account) Report(now int64, b *bucket.Bucket, p *Params) (rec exchange.Record, span delivery.Span) {
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
	if a.FirstUse != 0 {
		others := a.Others
		if now < a.HoldUntil {
			others = max(others, float64(a.MeanOthers)) // Redis does not know the others' demand again yet
		}
		late := lateRounds*p.Interval + p.Rtt + LazyPeriod(b)
		if a.RepliedAt == 0 && p.Fleet > 1 && now >= mono.Add(a.FirstUse, late) {
			others = b.Rate // they may have used as much since, and nothing is known of them
		}
		span.Begin = chargeBegin(a.FirstUse, a.OwnTAT, time.Duration(whole*1e3), others/b.Rate, now, lateness(b, p))
		span.Late, span.Empty = mono.Add(a.FirstUse, late), mono.Add(a.FirstUse, max(late, exchange.MaxUnused))
		span.Full, span.Owed = a.owes(b, now, p)
	}
	rec.Left = uint8(256 * (1 - scale))
	rec.Attempts = int64(AttemptsMilli * a.takeAttempts(now, p))
	rec.Limit = b.Wire()
	a.Mark(LimitDue, false)
	a.TakenBefore += a.Usage
	a.InFlight, a.Usage = a.Usage, 0
	a.firstInFlight, a.FirstUse = a.FirstUse, 0
	return rec, span
}

// owes returns how far ahead a late charge may leave the TAT, and how much of it its
// callers know to owe, in microseconds. A level below empty is a debt of Charge and
// Reserve, or a part of the fleet's debt; each process waits while the fleet repays it.
func (a *Account) owes(b *bucket.Bucket, now int64, p *Params) (full, owed int64) {
	debt := max(0, -b.LevelAt(now)) * 1e6
	return b.FullMicros() + int64(debt/max(b.Refill, b.Rate/p.Fleet)), int64(debt / b.Rate)
}

// chargeBegin is where a charge begins: for a process alone at the end of its
// own chain, for one among many late before now, in between by how much the
// others ask, o = min(1, D_o/r) (docs/design.md §4, Age).
func chargeBegin(first, chainEnd int64, usage time.Duration, o float64, now int64, late time.Duration) int64 {
	o = min(1, o)
	span := float64(max(chainEnd-first, int64(usage)))
	f := float64(first) + max(0, span*(1-o)-float64(usage))
	f = min(f, (1-o)*f+o*float64(now-int64(late)))
	return min(now, int64(f))
}

// lateness is how late others may be with what they used before: a round and
// its trip. What that credits is refill that a full bucket might have lost, so
// that it matters less the larger the burst is beside a round's refill.
func lateness(b *bucket.Bucket, p *Params) time.Duration {
	h := p.horizon()
	return mono.Seconds(h * min(1, b.Rate*h/(2*b.Burst)))
}

// Floor is the last TAT seen, as far as it is believed.
func (a *Account) Floor(b *bucket.Bucket, now int64) int64 {
	return min(a.TAT, b.Furthest(now, bucket.LongestDebt))
}

// OutlastsRedis reports whether a Redis that has lost the last TAT seen has to be
// told: it is still to come, or what is unreported was taken before it.
func (a *Account) OutlastsRedis(now int64) bool {
	return a.TAT > now || a.FirstUse != 0 && a.TAT > a.FirstUse || a.InFlight != 0 && a.TAT > a.firstInFlight
}

// Refundable is how many of n tokens given back count: all that are not yet
// reported, and beyond them no more than fill the shared bucket.
func (a *Account) Refundable(b *bucket.Bucket, n int64, now int64) int64 {
	unsaid := min(n, max(0, a.Usage))
	level := b.LevelAt(now)
	if a.RepliedAt != 0 {
		level = min(b.Burst, a.SharedLevel(b, now, b.Rate)) - a.Unreported(b.Rate)
	}
	missing := b.Burst - level - float64(unsaid)
	return unsaid + int64(max(0, min(float64(n-unsaid), math.Floor(missing))))
}
