package account

import (
	"math"
	"time"

	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/demand"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

const alarmPart = 4 // a pool-mode key that has used 1/alarmPart of its level is told at once

const alarmDeviation = 4 // standard deviations of a count that exceeds what is expected by chance: no jump of demand

const headroom = 0.25 // of what a round asks for on the mean, or of the burst, that it may ask for beyond, before shares are kept to

// ApplyReply takes in a reply that acknowledges what was in flight, in a record.
func (a *Account) ApplyReply(b *bucket.Bucket, st exchange.KeyState, clock int64, rec *exchange.Record, now int64, p *Params) {
	tat := now + rec.Limit.ToGo(st.ToGo, b.Wire())*int64(time.Microsecond)
	if a.Is(FloorDue) {
		tat = max(tat, a.TAT) // Redis has lost what we are about to tell it
	}
	a.learnDemand(b, tat, st.Demand, clock, rec.Attempts, now, p)
	a.InFlight, a.TAT, a.RepliedTAT = 0, tat, tat
	a.observeSilence(now, p)
	a.RepliedAt, a.OwnAtReply, a.MeanOwnAtReply, a.attemptsSinceReply = now, a.DemandAtReport, float32(a.MeanOwn), 0
	if b.Mode == bucket.Stale {
		a.hold(now, p)
		if a.FirstUse != 0 && a.FirstUse < now-2*int64(p.Interval+p.Rtt) {
			a.Until = mono.Add(now, GrantIntervals*p.Interval)
			return // what the outage has run up is yet to be told; until then this reply says little
		}
	}
	a.Regrant(b, now, p)
}

// SharedLevel is B at now: the level of the fleet's one bucket as last seen,
// not clipped at full.
func (a *Account) SharedLevel(b *bucket.Bucket, now int64, rate float64) float64 {
	return b.Burst - time.Duration(a.TAT-now).Seconds()*rate
}

// Regrant sets the bucket by what the last reply said (docs/design.md §4, Grant).
func (a *Account) Regrant(b *bucket.Bucket, now int64, p *Params) {
	a.regrantFor(b, a.own(now, p), now, p)
}

func (a *Account) regrantFor(b *bucket.Bucket, own float64, now int64, p *Params) {
	rate := b.Rate * a.scale(p)
	horizon := p.horizon()
	unclipped := (p.Interval + p.Rtt + max(p.Interval, p.Rtt)).Seconds() * rate
	level := min(a.SharedLevel(b, now, rate), b.Burst+unclipped)
	share := demand.Share(a.smoothedOwn(own, p), a.Others, b.Rate, p.Fleet)
	asked := max(a.Others, float64(a.MeanOthers)) + max(own, a.MeanOwn)
	asked = asked*horizon + headroom*min(asked*horizon, b.Burst)
	contended := p.Fleet > 1 && asked > min(level, b.Burst)+rate*horizon
	most, saved := math.Inf(1), a.Request()
	if p.Fleet > 1 && now < a.HoldUntil {
		contended, share, saved = true, min(share, float64(a.FrozenShare)), a.allowance(share*rate, p)
		most = b.LevelAt(now) // the others may not have told yet what they used: a grant may take, not give
	}
	a.Share = share
	b.At = now
	if contended {
		b.Level = min(most, share*(level-a.othersUnreported(b, rate, share, p))-a.Unreported(b.Rate))
		b.Grant = bucket.Grant{
			Refill:    share * rate,
			Capacity:  min(b.Burst, share*(b.Burst+rate*horizon)+saved),
			Threshold: b.Threshold,
			Mode:      bucket.Share,
		}
		a.Alarm = bucket.AddTokens(a.Attempts, ShareAlarm(own*horizon))
	} else {
		b.Level = min(level, b.Burst) - a.Unreported(b.Rate)
		b.Grant = bucket.Grant{Refill: max(0, rate-a.Others), Capacity: b.Burst, Threshold: 1, Mode: bucket.Pool}
		a.Alarm = bucket.AddTokens(max(0, a.Usage), PoolAlarm(b.Level, p))
	}
	a.Expires = max(mono.Add(now, max(GrantIntervals*p.Interval, LazyPeriod(b))), a.TAT)
	a.Until = min(a.Expires, mono.Add(now, 2*(p.Interval+p.Rtt)))
}

// ExtendByMeans carries on with a grant that no reply has renewed for two rounds,
// because this process asks too seldom. What it was made by no longer holds:
// the demand of an instant would give every one of many such processes
// a share as if it asked all the time. Where the averages say that more is asked
// for than there is they give the share, as in an outage, and it is saved up.
func (a *Account) ExtendByMeans(b *bucket.Bucket, now int64, p *Params) bool {
	others := a.revertedOthers(now, p)
	own := a.ownMean(now, p)
	rate := b.Rate * a.scale(p)
	if p.Fleet <= 1 || a.RepliedAt == 0 || own+others <= rate || now > max(mono.Add(a.RepliedAt, demand.SlowTau), a.TAT) {
		a.Until = a.Expires
		return false
	}
	share := demand.Share(own, others, b.Rate, p.Fleet)
	a.Share = share
	capacity := min(b.Burst, share*(b.Burst+rate*p.horizon())+a.Request())
	level := min(b.LevelAt(a.Until), capacity)
	b.Set(a.Until, level)
	b.Grant = bucket.Grant{Refill: share * rate, Capacity: capacity, Threshold: b.Threshold, Mode: bucket.Share}
	a.Until = mono.Add(now, time.Second)
	return true
}

// PoolAlarm is the usage at which a pool-mode key is told at once: about a
// quarter of its level, for a small burst the first token. A process alone has
// nobody to tell.
func PoolAlarm(level float64, p *Params) int64 {
	if p.Fleet <= 1 {
		return bucket.MaxTokens
	}
	return int64(max(1, bucket.Clamp(level/alarmPart)))
}

// ShareAlarm is the count of tokens asked for at which a share-mode key's demand
// has jumped, where so many are expected until the next reply: more than twice as
// many, and more than chance makes of few. Told of chance, a fleet with hundreds
// of contended keys makes four calls where three would do.
func ShareAlarm(expected float64) int64 {
	chance := alarmDeviation*math.Sqrt(expected) - 1
	return int64(bucket.Clamp(expected+max(expected, chance))) + 2
}

// Overshoot is how many tokens of a charge of this process the last reply found
// in debt.
func (a *Account) Overshoot(b *bucket.Bucket, charged time.Duration, now int64) float64 {
	debt := -a.SharedLevel(b, now, b.Rate)
	return max(0, min(debt, charged.Seconds()*b.Rate))
}

// AssumeFull sets the bucket of a key whose grant has expired, or that was never
// exchanged: full, but for what this process has taken and not yet told, or by
// what was heard of it.
func (a *Account) AssumeFull(b *bucket.Bucket, now int64, p *Params) {
	if a.RepliedAt == 0 && a.TAT > now {
		a.regrantFor(b, a.own(now, p)+1/p.Tau.Seconds(), now, p) // with the request that brings it here
		b.Level = min(b.Level, a.startLevel(b, now)-a.Unreported(b.Rate))
		return
	}
	b.Grant = b.Alone()
	b.Level, b.At = a.startLevel(b, now)-a.Unreported(b.Rate), now
	a.Alarm = bucket.AddTokens(max(0, a.Usage), PoolAlarm(b.Level, p))
	a.Until = mono.Add(now, max(GrantIntervals*p.Interval, LazyPeriod(b)))
	a.Expires = a.Until
}

// startLevel is the level that a bucket begins with before any reply: full, but
// for what is remembered of it.
func (a *Account) startLevel(b *bucket.Bucket, now int64) float64 {
	if a.RepliedAt != 0 {
		return b.Burst
	}
	return b.LevelUntil(a.RepliedTAT, now)
}

// NextGrant is how long it is until the next reply may be expected.
func (a *Account) NextGrant(now int64, p *Params) time.Duration {
	if left := time.Duration(a.RepliedAt - now + int64(p.Interval+p.Rtt)); left > 0 {
		return left
	}
	return p.Interval + p.Rtt
}

// SharedDelay is how long until the fleet's one bucket is expected to hold n
// tokens beyond what this process has taken.
func (a *Account) SharedDelay(b *bucket.Bucket, n float64, now int64) time.Duration {
	level := min(b.Burst, a.SharedLevel(b, now, b.Rate)) - a.Unreported(b.Rate)
	return bucket.Delay(level-n, b.Rate)
}
