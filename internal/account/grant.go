package account

import (
	"math"
	"time"

	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/demand"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

const (
	alarmPart      = 4    // usage of 1/alarmPart of its level makes a pool-mode key due at once
	alarmDeviation = 4    // standard deviations of a count, up to which more attempts than expected are chance
	headroom       = 0.25 // part of the mean attempts in a round, or of the burst, that may come beyond them before a key is contended
)

// ApplyReply takes in the reply to the report that is in flight: the key's state, the
// partition's clock in microseconds, and the record that was sent. It sets the bucket by
// a new grant. Except that usage from before an outage has to be reported first: the
// first reply after the outage holds the share of the outage until then. After a lapse
// demand is learnt anew.
func (a *Account) ApplyReply(b *bucket.Bucket, st exchange.KeyState, clock int64, rec *exchange.Record, now mono.Time, p *Params) {
	toGo := time.Duration(rec.Limit.ToGo(st.ToGo, b.ExchangeLimit())) * time.Microsecond
	tat := now + mono.Time(toGo)
	if a.Is(FloorDue) {
		tat = max(tat, a.TAT) // Redis has lost the TAT that the next report restores
	}
	if b.Mode == bucket.Stale && now.Sub(a.RepliedAt) > p.lapse() {
		a.relearn(now, p)
	}
	others := a.learnDemand(b, tat, st.Demand, clock, rec.Attempts, now, p)
	a.InFlight, a.TAT, a.RepliedTAT = 0, tat, tat
	a.observeSilence(others, now, p)
	a.RepliedAt, a.ownAtReply, a.meanOwnAtReply, a.attemptsSinceReply = now, a.demandAtReport, a.meanOwn, 0
	if b.Mode == bucket.Stale && a.FirstUse != 0 && now.Sub(a.FirstUse) > 2*p.round() {
		a.Until = now.Add(GrantIntervals * p.Interval)
		return
	}
	a.regrant(b, now, p)
}

// SharedLevel returns B, the level of the shared bucket as last known. It is not bounded
// by the burst, so that it may exceed it:
//
//	b − (TAT − now)·rate
func (a *Account) SharedLevel(b *bucket.Bucket, now mono.Time, rate float64) float64 {
	return b.Burst - a.TAT.Sub(now).Seconds()*rate
}

// regrant sets the bucket by the last reply (docs/design.md §4, Grant). With B bounded by
// b + r·(T + RTT + max(T, RTT)), H = T + RTT and r scaled for silent processes:
//
//	w = min(1, (d* + ε)/(D_o + d* + N·ε))
//	x = (max(D_o, D̄_o) + max(d, d̄))·H
//	contended = N > 1 and x + min(x, b)/4 > min(B, b) + r·H
//
//	pool mode:   L = min(B, b) − unreported,  ρ = max(0, r − D_o),  C = b,  θ = 1
//	share mode:  L = w·B − unreported,        ρ = w·r,              C = min(b, w·(b + r·H) + c)
//
// w is by the unscaled r. In share mode B lacks the tokens of
// [Account.othersUnreported], and θ is the caller's to draw. Until RelearnUntil the key
// counts as contended, w is at most frozenShare, c is [Account.allowance], and L does
// not rise: because not all have reported their usage, a grant may take and not give.
func (a *Account) regrant(b *bucket.Bucket, now mono.Time, p *Params) {
	a.regrantFor(b, a.own(now, p), now, p)
}

// regrantFor is regrant with a given d.
func (a *Account) regrantFor(b *bucket.Bucket, own float64, now mono.Time, p *Params) {
	rate := b.Rate * a.scale(p)
	horizon := p.horizon()
	unclipped := (p.round() + max(p.Interval, p.RTT)).Seconds() * rate
	level := min(a.SharedLevel(b, now, rate), b.Burst+unclipped)
	share := demand.Share(a.smoothedOwn(own, p), a.Others, b.Rate, p.Fleet)
	attempts := (max(a.Others, float64(a.MeanOthers)) + max(own, float64(a.meanOwn))) * horizon
	attempts += headroom * min(attempts, b.Burst)
	contended := p.Fleet > 1 && attempts > min(level, b.Burst)+rate*horizon
	most, allowance := math.Inf(1), a.Request()
	if p.Fleet > 1 && now < a.RelearnUntil {
		contended, share, allowance = true, min(share, float64(a.frozenShare)), a.allowance(share*rate, p)
		most = b.LevelAt(now)
	}
	a.Share = share
	b.At = now
	if contended {
		b.Level = min(most, share*(level-a.othersUnreported(b, rate, share, p))-a.Unreported(b.Rate))
		b.Grant = bucket.Grant{
			Refill:    share * rate,
			Capacity:  min(b.Burst, share*(b.Burst+rate*horizon)+allowance),
			Threshold: b.Threshold,
			Mode:      bucket.Share,
		}
		a.Alarm = bucket.AddTokens(a.Attempts, shareAlarm(own*horizon))
	} else {
		b.Level = min(level, b.Burst) - a.Unreported(b.Rate)
		b.Grant = bucket.Grant{Refill: max(0, rate-a.Others), Capacity: b.Burst, Threshold: 1, Mode: bucket.Pool}
		a.Alarm = bucket.AddTokens(max(0, a.Usage), PoolAlarm(b.Level, p))
	}
	a.Expires = max(now.Add(max(GrantIntervals*p.Interval, LazyPeriod(b))), a.TAT)
	a.Until = min(a.Expires, now.Add(2*p.round()))
}

// ExtendByMeans extends a grant that no reply has renewed for two rounds, and reports
// whether it has set the bucket. If the means say that the key is contended, d̄ + D̄_o >
// r, it gets their share, and saves up for the next request:
//
//	w = Share(d̄, D̄_o),  ρ = w·r,  C = min(b, w·(b + r·H) + c)
//
// Because such a process requests seldom, the demand of an instant overstates it. Each
// process like it would have a share as if it requested all the time. The extension lasts
// for SlowTau after the reply, or until the TAT if that is later. Otherwise the grant
// stays until it expires.
func (a *Account) ExtendByMeans(b *bucket.Bucket, now mono.Time, p *Params) bool {
	if p.Fleet <= 1 || a.RepliedAt == 0 || now > max(a.RepliedAt.Add(demand.SlowTau), a.TAT) {
		a.Until = a.Expires
		return false
	}
	others, own, rate := a.revertedOthers(now, p), a.ownMean(now, p), b.Rate*a.scale(p)
	if own+others <= rate {
		a.Until = a.Expires
		return false
	}
	share := demand.Share(own, others, b.Rate, p.Fleet)
	a.Share = share
	capacity := min(b.Burst, share*(b.Burst+rate*p.horizon())+a.Request())
	level := min(b.LevelAt(a.Until), capacity)
	b.Set(a.Until, level)
	b.Grant = bucket.Grant{Refill: share * rate, Capacity: capacity, Threshold: b.Threshold, Mode: bucket.Share}
	a.Until = now.Add(time.Second)
	return true
}

// PoolAlarm returns the usage at which a pool-mode key is due at once:
//
//	max(1, L/4)
//
// Except that a process alone has no alarm, because no other process waits for its
// report.
func PoolAlarm(level float64, p *Params) int64 {
	if p.Fleet <= 1 {
		return bucket.MaxTokens
	}
	return int64(max(1, bucket.Clamp(level/alarmPart)))
}

// shareAlarm returns the attempts at which a share-mode key is due at once, because its
// demand has jumped. With x the attempts that are expected until the next reply:
//
//	⌊x + max(x, 4·√x − 1)⌋ + 2
//
// That is more than twice as many, and more than chance makes of few. With alarms by
// chance a fleet with hundreds of contended keys would make four calls in place of
// three.
func shareAlarm(expected float64) int64 {
	chance := alarmDeviation*math.Sqrt(expected) - 1
	return int64(bucket.Clamp(expected+max(expected, chance))) + 2
}

// Overshoot returns the tokens of this process's charge that the last reply found in
// debt:
//
//	max(0, min(−B, charged·r))
func (a *Account) Overshoot(b *bucket.Bucket, charged time.Duration, now mono.Time) float64 {
	debt := -a.SharedLevel(b, now, b.Rate)
	return max(0, min(debt, charged.Seconds()*b.Rate))
}

// AssumeFull sets the bucket of a key whose grant has expired, or that no reply has
// granted yet: with the whole limit, and full except for unreported usage. Except that
// before the first reply a TAT to come, known by news, leads to a grant as a reply does.
// The request that brings the key here then counts as demand.
func (a *Account) AssumeFull(b *bucket.Bucket, now mono.Time, p *Params) {
	if a.RepliedAt == 0 && a.TAT > now {
		a.regrantFor(b, a.own(now, p)+1/p.Tau.Seconds(), now, p)
		b.Level = min(b.Level, a.startLevel(b, now)-a.Unreported(b.Rate))
		return
	}
	b.Grant = b.Alone()
	b.Level, b.At = a.startLevel(b, now)-a.Unreported(b.Rate), now
	a.Alarm = bucket.AddTokens(max(0, a.Usage), PoolAlarm(b.Level, p))
	a.Until = now.Add(max(GrantIntervals*p.Interval, LazyPeriod(b)))
	a.Expires = a.Until
}

// startLevel returns the level of a bucket that is assumed to be full. Before the first
// reply it lacks the tokens that are remembered from the key's eviction.
func (a *Account) startLevel(b *bucket.Bucket, now mono.Time) float64 {
	if a.RepliedAt != 0 {
		return b.Burst
	}
	return b.LevelUntil(a.RepliedTAT, now)
}

// NextGrant returns the expected time to the next reply: H after the last one, or H from
// now if that has passed.
func (a *Account) NextGrant(now mono.Time, p *Params) time.Duration {
	if left := a.RepliedAt.Sub(now) + p.round(); left > 0 {
		return left
	}
	return p.round()
}

// SharedDelay returns the expected time until the shared bucket holds n tokens beyond the
// unreported usage of this process, after a hold.
func (a *Account) SharedDelay(b *bucket.Bucket, n float64, now mono.Time) time.Duration {
	level := min(b.Burst, a.SharedLevel(b, now, b.Rate)) - a.Unreported(b.Rate)
	return max(bucket.Delay(level-n, b.Rate), a.heldDelay(b, n, now))
}
