package account

import (
	"math"
	"time"

	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/demand"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/outage"
)

const (
	demandStep     = 1. / 16 // longest time for which demandAt stays, in τ
	evenly         = 0.25    // longest span whose attempts count as of its middle, in τ: exact to 0.3 %
	fullPart       = 0.9     // largest part of the rate that is taken to be requested from a full bucket
	unreportedPart = 0.6     // mean usage of the others since their last reports, as a part of a round's refill
)

// ObserveCost takes in the cost n of a request. It rises at once and falls slowly:
//
//	c ← max(n, c − (c − n)/8)
func (a *Account) ObserveCost(n int64) {
	if cost := float32(n); n != 0 && a.Cost != cost {
		a.Cost = max(cost, a.Cost-(a.Cost-cost)*MeanWeight)
	}
}

// Request returns c, the smoothed cost of a request, at least one token.
func (a *Account) Request() float64 { return max(1, float64(a.Cost)) }

// addDemand adds attempts to d that came evenly between two instants:
//
//	d ← d + attempts/τ                             at the middle of a span of up to τ/4
//	d ← d + attempts/τ·(1 − exp(−x))/x,  x = span/τ   at the end of a longer one
//
// Because an exponential is slow, d is kept as of demandAt, which moves after τ/16. In
// between attempts weigh exp(x), x = (at − demandAt)/τ, by a series.
func (a *Account) addDemand(attempts int64, from, to mono.Time, p *Params) {
	if attempts == 0 {
		return
	}
	at, part := from+(to-from)/2, 1.
	if span := float64(to-from) * p.perTau; span > evenly {
		at, part = to, -math.Expm1(-span)/span
	}
	x := float64(at-a.demandAt) * p.perTau
	if x > demandStep {
		a.Demand, a.demandAt, x = demand.Decay(a.Demand, at.Sub(a.demandAt), p.Tau), at, 0
	}
	a.Demand += part * float64(attempts) * 1e9 * p.perTau * (1 + x*(1+x*(1./2)*(1+x*(1./3)))) // exp(x), within 1e-6
}

// OwnDemand returns d at an instant.
func (a *Account) OwnDemand(now mono.Time, p *Params) float64 {
	return demand.Decay(a.Demand, now.Sub(a.demandAt), p.Tau)
}

// own returns d at an instant, with the demand of waiting callers.
func (a *Account) own(now mono.Time, p *Params) float64 {
	return a.OwnDemand(now, p) + float64(a.Queued)
}

// takeAttempts returns the attempts to report, in tokens, and brings d̄ up to now:
//
//	Attempts                                    normally
//	max(0, d·τ − mirror)                        if the last report is more than 2·τ ago
//	(d + Queued)·τ/m − mirror a trip from now   if callers wait, or did at the last report
//
// The mirror is this process's part of the shared count, so that the others see the
// demand of now. Attempts of a long span, reported at once, would look like a flood. m
// is the mean of a count that decays from 1 until the next report. The result is
// negative only if callers waited at the last report, and some have left.
func (a *Account) takeAttempts(now mono.Time, p *Params) float64 {
	attempts, span := float64(a.Attempts), now.Sub(a.ReportedAt)
	a.meanOwn = float32(a.ownMean(now, p))
	a.attemptsSinceReply = bucket.AddTokens(a.attemptsSinceReply, a.Attempts)
	a.demandAtReport = float32(a.OwnDemand(now, p))
	a.Attempts, a.ReportedAt = 0, now
	waited := a.Is(ReportedQueue)
	a.Mark(ReportedQueue, a.Queued != 0)
	if a.Queued == 0 && !waited && span <= 2*p.Tau {
		return attempts
	}
	want, since := float64(a.demandAtReport), now.Sub(a.RepliedAt)
	if a.Queued != 0 || waited {
		next := max(p.Interval, min(span, 2*p.round()))
		mean := demand.Risen(next, p.Tau) * p.Tau.Seconds() / next.Seconds()
		want = (want + float64(a.Queued)) / mean
		since += p.RTT // from one report's arrival to the next one's
	}
	missing := want*p.Tau.Seconds() - demand.Decay(float64(a.mirror), since, p.Tau)
	if waited {
		return missing
	}
	return max(0, missing)
}

// ownMean returns d̄ at an instant. It moves by the mean of d since the last report, which
// the attempts give exactly. Because the others see this demand through the same decay,
// the shares of all sum to 1 from the start.
func (a *Account) ownMean(now mono.Time, p *Params) float64 {
	span := now.Sub(a.ReportedAt)
	if span <= 0 {
		return float64(a.meanOwn)
	}
	mean := demand.MeanCounted(a.Attempts, float64(a.demandAtReport), a.OwnDemand(now, p), span, p.Tau) + float64(a.Queued)
	return a.slowMean(float64(a.meanOwn), mean, span, now, p)
}

// slowMean moves a mean of demand towards a value, which was that of a span.
func (a *Account) slowMean(mean, value float64, span time.Duration, now mono.Time, p *Params) float64 {
	return demand.Average(mean, value, span, now.Sub(a.ResidentSince), p.Tau)
}

// learnDemand takes D_o and D̄_o from a reply that came at now: the TAT, the shared count
// of attempts (total), the partition's clock, and the attempts of the answered report
// (sent), both in thousandths of a token:
//
//	mirror ← mirror·exp(−t/τ) + sent,   D_o = max(0, total − mirror)/τ
//
// D̄_o moves by the mean of D_o since the last reply. Until RelearnUntil, while the shared
// count is not complete again, it may rise and not fall.
//
// Over a span of more than τ the charges bound that mean ([Account.meanWithin]). It is
// returned; for a first reply D_o is.
func (a *Account) learnDemand(b *bucket.Bucket, tat mono.Time, total, clock, sent int64, now mono.Time, p *Params) float64 {
	if a.mirrorAt != 0 {
		a.mirror = float32(demand.Decay(float64(a.mirror), time.Duration(clock-a.mirrorAt)*time.Microsecond, p.Tau))
	}
	a.mirror += float32(float64(sent) / AttemptsMilli)
	a.mirrorAt = clock
	before := a.Others
	a.Others = 0
	if p.Fleet > 1 {
		a.Others = max(0, float64(total)/AttemptsMilli-float64(a.mirror)) / p.Tau.Seconds()
	}
	span := now.Sub(a.RepliedAt)
	switch {
	case a.RepliedAt == 0:
		a.MeanOthers = float32(a.Others)
		return a.Others
	case span <= 0:
		return a.Others
	}
	mean := demand.MeanBetween(before, a.Others, span, p.Tau)
	if now < a.RelearnUntil {
		mean = max(mean, float64(a.MeanOthers))
	} else if span > p.Tau {
		mean = a.meanWithin(mean, b, tat, span, now, p)
	}
	a.MeanOthers = float32(a.slowMean(float64(a.MeanOthers), mean, span, now, p))
	return mean
}

// meanWithin returns a mean of D_o over the span since the last reply within the bounds by
// charges ([Account.chargedOf]). The shared count knows the end of a span, and little of
// the time before. Processes that all request at the same instants would see nothing but
// those. A mean above most becomes most, or least after more than 2·τ. After such a span
// a mean below most is corrected by [waitedWeight] if requests may wait for over τ/2.
//
// Of a lazy key it says nothing. The others are then taken to request as much as this
// process, as far as the charges allow:
//
//	max(mean, least, min((N − 1)·own mean, most))
//
// If the bucket is full, all together request at most 0.9·r by that, so that it does not
// count as contended.
func (a *Account) meanWithin(mean float64, b *bucket.Bucket, tat mono.Time, span time.Duration, now mono.Time, p *Params) float64 {
	most, least := a.chargedOf(b, tat, now, p)
	if span <= 2*p.Tau {
		return min(mean, most)
	}
	switch lazy := LazyPeriod(b); {
	case mean > most:
		mean = least
	case lazy > p.Tau/2 && !isLazy(b, p): // of a shorter one reports carry most attempts in full
		mean = min(mean/waitedWeight(lazy, p), most)
	}
	if !isLazy(b, p) || math.IsInf(most, 1) {
		return mean
	}
	own := a.ownSinceReply(span, now, p)
	if tat <= now {
		most = min(most, max(0, fullPart*b.Rate-own))
	}
	return max(mean, least, min((p.Fleet-1)*own, most))
}

// waitedWeight returns the mean weight, in the shared count, of requests that wait for
// their report up to a lazy period of x times τ: the first one for all of it, later ones
// evenly less. They are taken to be as many:
//
//	(exp(−x) + (1 − exp(−x))/x)/2
func waitedWeight(lazy time.Duration, p *Params) float64 {
	x := lazy.Seconds() / p.Tau.Seconds()
	return (math.Exp(-x) + demand.Risen(lazy, p.Tau)/x) / 2
}

// chargedOf returns bounds of the others' mean demand in the time t since the last reply,
// by how far their charges have moved the TAT:
//
//	most  = max(0, (TAT − RepliedTAT)·r − usage)·e/t
//	least = max(0, (TAT − max(RepliedTAT, now))·r − usage)·e/t
//
// usage and attempts are those of the answered report. The least holds if the bucket
// was full in between. Below half of its level the bucket denies the others as often as
// this process: e = max(1, attempts/usage), otherwise 1.
//
// Except that there, if this process was denied many requests and admitted none, both
// bounds are D_o·τ/t: the others requested together with it. Except that of a bucket
// which fills within newsDelay the least is the most. Both are infinite, because charges
// say too little of demand, in these cases:
//
//   - Tokens were given back.
//   - The bucket is below half of its level, and fills within newsDelay.
//   - It is below half, and of few requests all were denied, or news had it low before.
//   - It is below half, news had it low before, and over half of the attempts were admitted.
func (a *Account) chargedOf(b *bucket.Bucket, tat, now mono.Time, p *Params) (most, least float64) {
	span, full, each := now.Sub(a.RepliedAt), mono.Seconds(b.Burst/b.Rate), 1.
	if a.Is(gaveBack) || a.InFlight < 0 {
		return math.Inf(1), math.Inf(1)
	}
	if tat.Sub(now) > full/2 {
		few := float64(a.attemptsSinceReply) < demand.SteadyRequests*a.Request()
		low := a.AnnouncedTAT > now.Add(full/2)
		switch {
		case full < p.newsDelay(), few && (low || a.InFlight == 0):
			return math.Inf(1), math.Inf(1)
		case a.InFlight == 0:
			together := a.Others * p.Tau.Seconds() / span.Seconds()
			return together, together
		case low && 2*a.InFlight > a.attemptsSinceReply:
			return math.Inf(1), math.Inf(1)
		}
		each = float64(a.attemptsSinceReply) / float64(a.InFlight)
	}
	charged := func(from mono.Time) float64 {
		return max(0, tat.Sub(from).Seconds()*b.Rate-float64(a.InFlight)) * max(1, each) / span.Seconds()
	}
	most = charged(a.RepliedTAT)
	if full < p.newsDelay() {
		return most, most
	}
	return most, charged(max(a.RepliedTAT, now))
}

// relearn keeps the bucket in share mode, with at most its present share, while demand is
// learnt anew.
func (a *Account) relearn(now mono.Time, p *Params) {
	if now >= a.RelearnUntil {
		a.frozenShare = float32(a.Share)
	}
	if !p.Without.Has(outage.Holding) {
		a.RelearnUntil = now.Add(p.Relearn)
	}
}

// ForgetDemand drops the mirror of a shared count that Redis has lost. A bucket in share
// mode, or in an outage, holds its share until demand is learnt anew.
func (a *Account) ForgetDemand(b *bucket.Bucket, now mono.Time, p *Params) {
	a.mirrorAt, a.mirror = 0, 0
	if b.Mode != bucket.Pool {
		a.relearn(now, p)
	}
}

// othersUnreported returns the mean usage of the others since their last reports, in
// tokens, of a key with waiting callers:
//
//	(1 − w)·0.6·r·T · b/(b + r·T)
//
// Waiting callers take a grant at once, so that a reply shows the others' usage late.
// Because a small share suffers less from that than a large one, shares would be uneven:
// 25 % of the waiting callers got 31 % of the tokens. The last factor spares buckets that
// can't hold back so much.
func (a *Account) othersUnreported(b *bucket.Bucket, rate, share float64, p *Params) float64 {
	if a.Queued == 0 {
		return 0
	}
	round := rate * p.Interval.Seconds()
	return (1 - share) * unreportedPart * round * b.Burst / (b.Burst + round)
}

// smoothedOwn returns d*, own demand that is drawn towards its mean if few requests make
// it:
//
//	d* = d̄ + min(1, d·τ/8c)·(d − d̄)
//
// Because d is high just after a request, it overstates processes that request now and
// then. Each of them would have a share as if it did so all the time.
func (a *Account) smoothedOwn(own float64, p *Params) float64 {
	mean, trust := float64(a.meanOwn), min(1, own*p.Tau.Seconds()/(demand.SteadyRequests*a.Request()))
	return mean + trust*(own-mean)
}

// revertedOthers returns D̄_o at an instant, for a key of which news would arrive. Since
// the last reply it moves towards
//
//	mean of a demand that decays from D_o to D̄_o, + max(0, d̄ at the reply − own mean since)
//
// So the fleet's total is assumed to go back to its mean. Because at the instant of a
// reply this process has just requested, and in clumps the others too, D_o is too high to
// stay.
func (a *Account) revertedOthers(now mono.Time, p *Params) float64 {
	span := now.Sub(a.RepliedAt)
	if span <= 0 {
		return float64(a.MeanOthers)
	}
	own := a.ownSinceReply(span, now, p)
	mean := float64(a.MeanOthers)
	reverted := demand.MeanBetween(a.Others, mean, span, p.Tau)
	return a.slowMean(mean, reverted+max(0, float64(a.meanOwnAtReply)-own), span, now, p)
}

// othersMean returns D̄_o at an instant, for a key of which no news would arrive. Since the
// last reply it moves towards
//
//	D_o + max(0, d* at the reply − own mean since)
//
// So the fleet's total is assumed to stay: demand that has left this process has moved to
// others. Otherwise each process through which a load has passed would claim the whole.
func (a *Account) othersMean(now mono.Time, p *Params) float64 {
	span := now.Sub(a.RepliedAt)
	if span <= 0 {
		return float64(a.MeanOthers)
	}
	own := a.ownSinceReply(span, now, p)
	return a.slowMean(float64(a.MeanOthers), a.Others+max(0, a.smoothedOwn(float64(a.ownAtReply)+float64(a.Queued), p)-own), span, now, p)
}

// ownSinceReply returns the mean of this process's demand over the span since the last
// reply, with that of waiting callers.
func (a *Account) ownSinceReply(span time.Duration, now mono.Time, p *Params) float64 {
	return demand.MeanCounted(a.attemptsSinceReply+a.Attempts, float64(a.ownAtReply), a.OwnDemand(now, p), span, p.Tau) + float64(a.Queued)
}
