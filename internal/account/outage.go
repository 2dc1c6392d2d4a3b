package account

import (
	"time"

	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/demand"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/outage"
)

const unlimitedPart = 0.125 // of the rate, for which a key need not remember who fell silent

// observeSilence remembers the fleet's demand while processes are silent.
func (a *Account) observeSilence(now int64, p *Params) {
	lost := p.lost / (p.Fleet + p.lost)
	if p.SilentAt == 0 {
		a.Silence.End(lost)
		return
	}
	a.Silence.Observe(outage.Observation{
		Mean:    a.MeanOwn + float64(a.MeanOthers),
		Now:     a.smoothedOwn(float64(a.DemandAtReport)+float64(a.Queued), p) + a.Others,
		Request: a.Request(), Age: time.Duration(now - a.ResidentSince), Since: time.Duration(now - a.RepliedAt),
		Tau: p.Tau, Quiet: p.Silence, Lost: lost,
	}, a.RepliedAt < p.SilentAt)
}

// scale is the part of the key's rate that is for the processes that are not silent.
func (a *Account) scale(p *Params) float64 {
	switch {
	case p.Without.Has(outage.Room):
		return 1
	case p.Without.Has(outage.Moved):
		return p.Scale
	}
	return a.Silence.Scale(p.Scale, a.Request(), p.Tau)
}

// ApplyOutage sets the bucket for an outage that began at since: the share that
// slow averages of demand give (docs/design.md §6).
func (a *Account) ApplyOutage(b *bucket.Bucket, since, now int64, p *Params) {
	if b.Mode != bucket.Stale {
		a.Share = a.outageShare(b, since, p)
		b.At = max(since, a.ResidentSince)
		b.Level = a.outageLevel(b, b.At)
	} else {
		b.Set(now, b.LevelAt(now))
	}
	a.outageGrant(b, a.ShareAfter(since, now, p), p)
	a.Alarm = bucket.MaxTokens // there is nobody to tell
	a.Until = mono.Add(now, time.Second)
}

// outageGrant gives the bucket a share for an outage.
func (a *Account) outageGrant(b *bucket.Bucket, share float64, p *Params) {
	b.Grant = bucket.Grant{
		Refill:    share * b.Rate,
		Capacity:  min(b.Burst, share*b.Burst+a.allowance(share*b.Rate, p)),
		Threshold: b.Threshold,
		Mode:      bucket.Stale,
	}
	if p.Fleet+p.lost <= 1 {
		b.Grant = bucket.Grant{Refill: b.Rate, Capacity: b.Burst, Threshold: 1, Mode: bucket.Stale}
	}
}

// allowance is the number of tokens that the bucket may hold beyond its part of the burst,
// in an outage and just after.
func (a *Account) allowance(refill float64, p *Params) float64 {
	if p.Without.Has(outage.Saving) {
		return a.Request()
	}
	return outage.Savings(a.Request(), refill)
}

// outageLevel is the share of the shared level that is left at the instant at:
// what it was when the first unreported token was taken, refilled since, less
// what was taken. Clipped before that, a busy bucket would lose the refill of
// the time that it takes to notice an outage.
func (a *Account) outageLevel(b *bucket.Bucket, at int64) float64 {
	begin := at
	if a.FirstUse != 0 {
		begin = min(begin, a.FirstUse)
	}
	if a.InFlight != 0 && a.firstInFlight != 0 {
		begin = min(begin, a.firstInFlight)
	}
	full := a.startLevel(b, begin)
	if a.RepliedAt != 0 {
		full = min(full, a.SharedLevel(b, begin, b.Rate))
	}
	full += time.Duration(at-begin).Seconds() * b.Rate
	return min(a.Share*b.Burst, a.Share*full-a.Unreported(b.Rate))
}

func (a *Account) outageShare(b *bucket.Bucket, since int64, p *Params) float64 {
	switch {
	case p.Fleet+p.lost <= 1:
		return 1
	case a.RepliedAt == 0:
		return 1 / p.Fleet
	}
	own, others := a.ownMean(since, p), a.othersMean(since, p)
	if a.newsWouldArrive(b, p) {
		others = a.revertedOthers(since, p)
	}
	if !p.Without.Has(outage.Absence) {
		others = max(others, float64(a.Silence.Then)-own) + float64(a.Silence.Lost) // those that are cut off still ask
	}
	share := demand.Share(own, others, b.Rate, p.Fleet)
	return share + (1/p.Fleet-share)*a.stoppedConfidence(b, since, p)
}

// newsWouldArrive reports whether there would be news of the key if others asked for
// more than there is: its bucket takes longer to fill than news to travel. Where
// no more than there is was asked for at last, there is nothing to tell.
func (a *Account) newsWouldArrive(b *bucket.Bucket, p *Params) bool {
	return mono.Seconds(b.Burst/b.Rate) > p.newsDelay() || a.Others+float64(a.OwnAtReply)+float64(a.Queued) < b.Rate
}

// stoppedConfidence is how sure it is that a load which has left here since the last reply
// has stopped, rather than moved: many requests are missing, and there has been
// time to hear that the key runs low elsewhere, and no word of it. Nobody's
// share by the averages is then worth more than another's.
func (a *Account) stoppedConfidence(b *bucket.Bucket, now int64, p *Params) float64 {
	span := time.Duration(now - a.RepliedAt)
	low := a.TAT > a.RepliedTAT && mono.Add(a.TAT, p.newsDelay()) > now // by another's word
	if span <= 0 || low || p.Without.Has(outage.Stop) || !a.newsWouldArrive(b, p) {
		return 0
	}
	requested := float64(a.attemptsSinceReply+a.Attempts) + float64(a.Queued)*span.Seconds()
	word := mono.Seconds(b.Burst/(alarmPart*b.Rate)) + p.newsDelay()
	return outage.Stopped(float64(a.MeanOwnAtReply)*span.Seconds(), requested, a.Request(), span, word)
}

// ShareAfter is the share of an outage by now: a process that was idle takes part
// after a while.
func (a *Account) ShareAfter(since, now int64, p *Params) float64 {
	if p.Without.Has(outage.Drift) {
		return a.Share
	}
	return outage.Drifted(a.Share, p.Fleet, time.Duration(now-since))
}
