package account

import (
	"math"
	"time"

	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/demand"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/outage"
)

const AttemptsMilli = 1000 // attempts travel in thousandths

const demandStep = 1. / 16 // of τ, for which demand is not brought forward

const evenly = 0.25 // of τ: what comes in less counts as of its middle, to 0.3 %

const unreportedPart = 0.6 // of a round's refill, the mean that others have taken since they last reported

// ObserveCost takes in the cost of a request.
func (a *Account) ObserveCost(n int64) {
	if cost := float32(n); n != 0 && a.Cost != cost {
		a.Cost = max(cost, a.Cost-(a.Cost-cost)*MeanWeight)
	}
}

// Request is what a request takes, of late.
func (a *Account) Request() float64 { return max(1, float64(a.Cost)) }

// addDemand adds attempts to d that came evenly from one instant to another: in the
// middle of a short time, at the end of a long one, by when the first of them have
// decayed. Demand is kept as of demandAt, which moves now and then only, for an
// exponential takes long too.
func (a *Account) addDemand(attempts, from, to int64, p *Params) {
	if attempts == 0 {
		return
	}
	at, part := from+(to-from)/2, 1.
	if span := float64(to-from) * p.perTau; span > evenly {
		at, part = to, -math.Expm1(-span)/span
	}
	x := float64(at-a.demandAt) * p.perTau
	if x > demandStep {
		a.Demand, a.demandAt, x = demand.Decay(a.Demand, time.Duration(at-a.demandAt), p.Tau), at, 0
	}
	a.Demand += part * float64(attempts) * 1e9 * p.perTau * (1 + x*(1+x*(1./2)*(1+x*(1./3)))) // e^x, within 1e-6
}

func (a *Account) DemandAfter(now int64, p *Params) float64 {
	return demand.Decay(a.Demand, time.Duration(now-a.demandAt), p.Tau)
}

// own is this process's demand for the key, that of waiting callers included.
func (a *Account) own(now int64, p *Params) float64 {
	return a.DemandAfter(now, p) + float64(a.Queued)
}

// takeAttempts empties the count of attempts into d̄ and returns the number to
// report: all of them, or, with waiting callers, or where they span long and all
// would look like a flood, the number that Redis's decayed count lacks.
func (a *Account) takeAttempts(now int64, p *Params) float64 {
	asked, span := float64(a.Attempts), time.Duration(now-a.ReportedAt)
	a.MeanOwn = a.ownMean(now, p)
	a.attemptsSinceReply = bucket.AddTokens(a.attemptsSinceReply, a.Attempts)
	a.DemandAtReport = float32(a.DemandAfter(now, p))
	a.Attempts, a.ReportedAt = 0, now
	waited := a.Is(ReportedQueue)
	a.Mark(ReportedQueue, a.Queued != 0)
	if a.Queued == 0 && !waited && span <= 2*p.Tau {
		return asked
	}
	want, since := float64(a.DemandAtReport), time.Duration(now-a.RepliedAt)
	if a.Queued != 0 || waited {
		next := max(p.Interval, min(span, 2*(p.Interval+p.Rtt)))
		mean := demand.Risen(next, p.Tau) * p.Tau.Seconds() / next.Seconds() // of a count that decays from 1 until the next report
		want = (want + float64(a.Queued)) / mean
		since += p.Rtt // from one report's arrival to the next one's
	}
	missing := want*p.Tau.Seconds() - demand.Decay(float64(a.mirror), since, p.Tau)
	if waited {
		return missing // negative if waiters have left
	}
	return max(0, missing)
}

// ownMean is d̄ with what was asked since the last report: the mean of d over
// that time, which its integral gives exactly. Others see our demand through
// the same filter, so that the shares of all sum to 1 from the start.
func (a *Account) ownMean(now int64, p *Params) float64 {
	span := time.Duration(now - a.ReportedAt)
	if span <= 0 {
		return a.MeanOwn
	}
	mean := demand.Counted(a.Attempts, float64(a.DemandAtReport), a.DemandAfter(now, p), span, p.Tau) + float64(a.Queued)
	return a.slowMean(a.MeanOwn, mean, span, now, p)
}

// slowMean moves a mean towards a value that was held for span.
func (a *Account) slowMean(mean, value float64, span time.Duration, now int64, p *Params) float64 {
	return demand.Average(mean, value, span, time.Duration(now-a.ResidentSince), p.Tau)
}

// learnDemand finds D_o: what Redis counts, less what it holds of ours. Where
// that is not complete again the average may rise by it, not fall. Over a span
// of which Redis's count knows the end alone the average rises by no more than
// was charged: where all processes ask at the same time, replies see nothing
// but such times.
func (a *Account) learnDemand(b *bucket.Bucket, tat, total, clock, sent, now int64, p *Params) {
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
	span := time.Duration(now - a.RepliedAt)
	switch {
	case a.RepliedAt == 0:
		a.MeanOthers = float32(a.Others)
		return
	case span <= 0:
		return
	}
	went := demand.Between(before, a.Others, span, p.Tau)
	if b.Mode == bucket.Stale || now < a.HoldUntil {
		went = max(went, float64(a.MeanOthers))
	} else if span > 2*p.Tau {
		if most, least := a.chargedOf(b, tat, now, p); went > most {
			went = least
		}
	}
	a.MeanOthers = float32(a.slowMean(float64(a.MeanOthers), went, span, now, p))
}

// chargedOf returns the most and the least that others have requested since the last
// reply, as rates, by how far the TAT has moved: by what they charged. The least holds
// if the bucket was full in between, for as long as it can have been; of a bucket that
// fills faster than news travels the TAT says no more than the most. A bucket below
// half its level has denied them as often as this process. If it has denied this
// process everything, their requests are taken to have come together with its own. Of
// few requests, or if few were denied though news says that the bucket was low before,
// both are unbounded.
func (a *Account) chargedOf(b *bucket.Bucket, tat, now int64, p *Params) (most, least float64) {
	span, full, each := time.Duration(now-a.RepliedAt), mono.Seconds(b.Burst/b.Rate), 1.
	if a.Is(gaveBack) || a.InFlight < 0 {
		return math.Inf(1), math.Inf(1)
	}
	if time.Duration(tat-now) > full/2 {
		few := float64(a.attemptsSinceReply) < demand.SteadyRequests*a.Request()
		low := a.AnnouncedTAT > mono.Add(now, full/2)
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
	charged := func(from int64) float64 {
		return max(0, time.Duration(tat-from).Seconds()*b.Rate-float64(a.InFlight)) * max(1, each) / span.Seconds()
	}
	most = charged(a.RepliedTAT)
	if full < p.newsDelay() {
		return most, most
	}
	return most, charged(max(a.RepliedTAT, now))
}

// hold keeps the bucket in share mode with at most its present share, while
// demand is being learnt anew.
func (a *Account) hold(now int64, p *Params) {
	if now >= a.HoldUntil {
		a.FrozenShare = float32(a.Share)
	}
	if !p.Without.Has(outage.Holding) {
		a.HoldUntil = mono.Add(now, p.Hold)
	}
}

// ForgetDemand drops what was learnt of demand from a Redis that has lost it. The
// bucket keeps its share until demand is learnt anew.
func (a *Account) ForgetDemand(b *bucket.Bucket, now int64, p *Params) {
	a.mirrorAt, a.mirror = 0, 0
	if b.Mode == bucket.Share {
		a.hold(now, p)
	}
}

// othersUnreported is the mean of the tokens that other processes have taken since their
// last reports, for a key with waiting callers:
//
//	(1 − w)·0.6·r·T · b/(b + r·T)
//
// Waiting callers take a grant at once, so a reply shows the usage of the others
// late. A small share suffers less from that than a large one, and got 31 % of
// the tokens for 25 % of the waiting callers. The last factor spares buckets that
// can't hold back so much.
func (a *Account) othersUnreported(b *bucket.Bucket, rate, share float64, p *Params) float64 {
	if a.Queued == 0 {
		return 0
	}
	round := rate * p.Interval.Seconds()
	return (1 - share) * unreportedPart * round * b.Burst / (b.Burst + round)
}

// smoothedOwn is own demand, drawn towards its long mean where it is made of few
// requests: else each of many processes that ask now and then would have, just
// after it has asked, a share as if it did so all the time.
func (a *Account) smoothedOwn(own float64, p *Params) float64 {
	trust := min(1, own*p.Tau.Seconds()/(demand.SteadyRequests*a.Request()))
	return a.MeanOwn + trust*(own-a.MeanOwn)
}

// revertedOthers is D̄_o at now for a key that there would be news of. Since the
// last reply the total is taken to have gone back, as demand decays, to its
// mean: the instant of a reply is one at which this process, and where requests
// come in clumps the others too, have just asked.
func (a *Account) revertedOthers(now int64, p *Params) float64 {
	span := time.Duration(now - a.RepliedAt)
	if span <= 0 {
		return float64(a.MeanOthers)
	}
	own := a.ownSinceReply(span, now, p)
	mean := float64(a.MeanOthers)
	went := demand.Between(a.Others, mean, span, p.Tau)
	return a.slowMean(mean, went+max(0, float64(a.MeanOwnAtReply)-own), span, now, p)
}

// othersMean is D̄_o at now where others may ask without a word of it. Since the
// last reply the total is taken to have stayed: what this process no longer asks
// has moved to others. Were D_o alone held, every process that a load has passed
// through would claim the whole.
func (a *Account) othersMean(now int64, p *Params) float64 {
	span := time.Duration(now - a.RepliedAt)
	if span <= 0 {
		return float64(a.MeanOthers)
	}
	own := a.ownSinceReply(span, now, p)
	return a.slowMean(float64(a.MeanOthers), a.Others+max(0, a.smoothedOwn(float64(a.OwnAtReply)+float64(a.Queued), p)-own), span, now, p)
}

// ownSinceReply is the mean of own over the span since the last reply.
func (a *Account) ownSinceReply(span time.Duration, now int64, p *Params) float64 {
	return demand.Counted(a.attemptsSinceReply+a.Attempts, float64(a.OwnAtReply), a.DemandAfter(now, p), span, p.Tau) + float64(a.Queued)
}

const MeanWeight = 1. / 8 // of the newest in the mean of round trips
