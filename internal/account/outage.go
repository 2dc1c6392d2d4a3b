package account

import (
	"time"

	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/demand"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/outage"
)

const (
	silencePart = 0.125           // mean demand, as a part of the rate, up to which a Short form may forget a silence
	unseenLeast = 5 * time.Second // least age of a key at which its others are seen
)

// observeSilence remembers the fleet's demand while processes are silent. others is the
// mean demand of the others since the last reply. Because replies follow requests, d and
// D_o at their instants would be too high.
func (a *Account) observeSilence(others float64, now mono.Time, p *Params) {
	lost := p.lost / (p.Fleet + p.lost)
	if p.SilentAt == 0 {
		a.Silence.End(lost)
		return
	}
	total := float64(a.demandAtReport) + float64(a.Queued) + a.Others
	if span := now.Sub(a.RepliedAt); span > 0 && a.Silence.Then != 0 {
		total = a.ownSinceReply(span, now, p) + others
	}
	a.Silence.Observe(outage.Observation{
		Mean:    float64(a.meanOwn) + float64(a.MeanOthers),
		Now:     total,
		Request: a.Request(), Age: now.Sub(a.ResidentSince), Since: now.Sub(a.RepliedAt),
		Tau: p.Tau, SilentAfter: p.Silence, Lost: lost,
	}, a.RepliedAt < p.SilentAt)
}

// scale returns the part of the key's rate for the processes that are not silent.
func (a *Account) scale(p *Params) float64 {
	switch {
	case p.Without.Has(outage.Room):
		return 1
	case p.Without.Has(outage.Moved):
		return p.Scale
	}
	return a.Silence.Scale(p.Scale, a.Request(), p.Tau)
}

// ApplyOutage sets the bucket for an outage that began at since: a share of rate and
// level, by the means of demand (docs/design.md §6). The share rises with the time that
// the outage lasts ([Account.ShareAfter]). There is no alarm, because no report arrives.
func (a *Account) ApplyOutage(b *bucket.Bucket, since, now mono.Time, p *Params) {
	if b.Mode != bucket.Stale {
		a.Share = a.outageShare(b, since, p)
		b.At = max(since, a.ResidentSince)
		b.Level = a.outageLevel(b, b.At)
	} else {
		b.Set(now, b.LevelAt(now))
	}
	a.outageGrant(b, a.ShareAfter(since, now, p), p)
	a.Alarm = bucket.MaxTokens
	a.Until = now.Add(outage.Renewal)
}

// outageGrant grants the bucket a share for an outage:
//
//	ρ = w·r,  C = min(b, w·b + allowance)
//
// A process alone has the whole limit.
func (a *Account) outageGrant(b *bucket.Bucket, share float64, p *Params) {
	b.Grant = bucket.Grant{
		Refill:    share * b.Rate,
		Capacity:  outage.Capacity(share, b.Burst, a.allowance(share*b.Rate, p)),
		Threshold: b.Threshold,
		Mode:      bucket.Stale,
	}
	if p.Fleet+p.lost <= 1 {
		b.Grant = bucket.Grant{Refill: b.Rate, Capacity: b.Burst, Threshold: 1, Mode: bucket.Stale}
	}
}

// allowance returns the tokens that the bucket may save up beyond its part of the burst,
// in an outage and shortly after.
func (a *Account) allowance(refill float64, p *Params) float64 {
	if p.Without.Has(outage.Saving) {
		return a.Request()
	}
	return outage.Allowance(a.Request(), refill)
}

// outageLevel returns the level with which an outage begins at an instant t:
//
//	min(w·b, w·(min(b, B(t₀)) + r·(t − t₀)) − unreported)
//
// t₀ is the instant of the first admission that no reply has confirmed. If B was bounded
// by b any later, a busy bucket would lose the refill of the time in which the outage was
// noticed.
func (a *Account) outageLevel(b *bucket.Bucket, at mono.Time) float64 {
	begin := at
	if a.FirstUse != 0 {
		begin = min(begin, a.FirstUse)
	}
	if a.InFlight != 0 && a.firstInFlight != 0 {
		begin = min(begin, a.firstInFlight)
	}
	level := a.startLevel(b, begin)
	if a.RepliedAt != 0 {
		level = min(level, a.SharedLevel(b, begin, b.Rate))
	}
	level += at.Sub(begin).Seconds() * b.Rate
	return min(a.Share*b.Burst, a.Share*level-a.Unreported(b.Rate))
}

// outageShare returns the share with which an outage begins:
//
//	w = Share(d̄, max(D̄_o, Silence.Then − d̄) + Silence.Lost),   w ← w + (1/N − w)·q
//
// q is [Account.stoppedConfidence]. A process alone has 1. A key that was never exchanged,
// or whose others are unseen, has 1/N. Because silent and lost processes may still admit
// requests, their demand counts.
func (a *Account) outageShare(b *bucket.Bucket, since mono.Time, p *Params) float64 {
	switch {
	case p.Fleet+p.lost <= 1:
		return 1
	case a.RepliedAt == 0 || a.unseen(b, since, p):
		return 1 / p.Fleet
	}
	own, others := a.ownMean(since, p), a.othersMean(since, p)
	if a.newsWouldArrive(b, p) {
		others = a.revertedOthers(since, p)
	}
	if !p.Without.Has(outage.Absence) {
		others = max(others, float64(a.Silence.Then)-own) + float64(a.Silence.Lost)
	}
	share := demand.Share(own, others, b.Rate, p.Fleet)
	return share + (1/p.Fleet-share)*a.stoppedConfidence(b, since, p)
}

// unseen reports whether the key is so new that replies don't show how much the others
// request: for max(5 s, 3·τ), and of a lazy key for three lazy periods. The time is that of
// a Redis which is late or drops calls from the start.
func (a *Account) unseen(b *bucket.Bucket, since mono.Time, p *Params) bool {
	young := max(unseenLeast, RelearnTaus*p.Tau)
	if isLazy(b, p) {
		young = max(young, 3*LazyPeriod(b))
	}
	return since.Sub(a.ResidentSince) <= young
}

// newsWouldArrive reports whether news of the key would arrive if the others used it up:
//
//	b/r > newsDelay, or d + D_o < r at the last reply
//
// A bucket that fills faster has no news. The second case is a key on which the fleet's
// demand was below the limit, of which there was nothing to announce.
func (a *Account) newsWouldArrive(b *bucket.Bucket, p *Params) bool {
	return mono.Seconds(b.Burst/b.Rate) > p.newsDelay() || a.Others+float64(a.ownAtReply)+float64(a.Queued) < b.Rate
}

// stoppedConfidence returns q, the confidence that a load which has left this process
// since the last reply has stopped, and not moved to another one. It is high if many
// requests are missing and no news of the key came in the time that news takes:
//
//	b/4r + newsDelay
//
// It is 0 if news said that the key was low, or none would arrive.
func (a *Account) stoppedConfidence(b *bucket.Bucket, now mono.Time, p *Params) float64 {
	span := now.Sub(a.RepliedAt)
	low := a.TAT > a.RepliedTAT && a.TAT.Add(p.newsDelay()) > now // a later TAT than the reply's came by news
	if span <= 0 || low || p.Without.Has(outage.Stop) || !a.newsWouldArrive(b, p) {
		return 0
	}
	requested := float64(a.attemptsSinceReply+a.Attempts) + float64(a.Queued)*span.Seconds()
	delay := mono.Seconds(b.Burst/(alarmPart*b.Rate)) + p.newsDelay()
	return outage.StoppedConfidence(float64(a.meanOwnAtReply)*span.Seconds(), requested, a.Request(), span, delay)
}

// ShareAfter returns the share at now in an outage that began at since: that of a process
// that was idle rises ([outage.ShareAfter]).
func (a *Account) ShareAfter(since, now mono.Time, p *Params) float64 {
	if p.Without.Has(outage.Drift) {
		return a.Share
	}
	return outage.ShareAfter(a.Share, p.Fleet, now.Sub(since))
}
