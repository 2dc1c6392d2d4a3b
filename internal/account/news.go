package account

import (
	"time"

	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

// KnownByNews reports whether the shared bucket is known by news, and by no reply.
func (a *Account) KnownByNews() bool { return a.RepliedAt == 0 && a.AnnouncedTAT != 0 }

// WorthAnnouncing reports whether this process announces a key to the fleet, after the
// reply to its charge (docs/design.md §8):
//
//	line = max(AnnouncedTAT + b/4r, now + b/2r)
//	TAT − now ≥ 2·H, and TAT > line, and either TAT − charged ≤ line or TAT > line + b/4r
//
// So the charge that takes the key below half of its burst announces it, or a further
// quarter below the last news. If that was lost, another process announces it after one
// more quarter. News that would be over before it arrives is not sent.
//
// Except that an admission by news alone (byNews) is announced whenever it has moved
// the TAT by H and the bucket is below half. Because a process that lives for one
// decision has no reply, others know of it by news alone.
func (a *Account) WorthAnnouncing(b *bucket.Bucket, charged time.Duration, byNews bool, now mono.Time, p *Params) bool {
	full := mono.Seconds(b.Burst / b.Rate)
	if a.TAT.Sub(now) < 2*p.round() {
		return false
	}
	if byNews && charged > 0 && a.TAT > max(a.AnnouncedTAT.Add(p.round()), now.Add(full/2)) {
		return true
	}
	line := max(a.AnnouncedTAT.Add(full/4), now.Add(full/2))
	return a.TAT > line && (a.TAT.Sub(line) <= charged || a.TAT > line.Add(full/4))
}

// Receive takes in news of a key that is in memory: the TAT and the fleet's count of
// attempts that another process announced. News may take from the bucket and never gives
// to it. In pool mode the bucket gets a new grant by that TAT, with D_o at least the
// announced demand less this process's own. In share mode it loses its share of the new
// debt:
//
//	L ← L + w·min(0, B after − min(0, B before))
//
// Because a share saves up tokens for its requests, a new grant would take them with
// every piece of news. In stale mode only AnnouncedTAT changes. A TAT is believed up to
// now + b/r + min((N − 1)·b/r, LongestDebt), a burst of each other process. The next
// reply has the rest.
func (a *Account) Receive(b *bucket.Bucket, tat mono.Time, demand int64, now mono.Time, p *Params) {
	tat = min(tat, b.Furthest(now, mono.Seconds((p.Fleet-1)*b.Burst/b.Rate)))
	a.AnnouncedTAT = max(a.AnnouncedTAT, tat)
	if tat <= a.TAT || b.Mode == bucket.Stale {
		return
	}
	debt := min(0, a.SharedLevel(b, now, b.Rate))
	a.TAT, a.Expires = tat, max(a.Expires, tat)
	level := b.LevelAt(now)
	if b.Mode == bucket.Share {
		b.Set(now, level+a.Share*min(0, a.SharedLevel(b, now, b.Rate)-debt))
		return
	}
	a.Others = max(a.Others, float64(demand)/AttemptsMilli/p.Tau.Seconds()-a.own(now, p))
	a.regrant(b, now, p)
	b.Level = min(b.Level, level)
}

// ReceiveReset takes in the news that a key was reset: debts, holds, news and means of
// demand are forgotten. Usage that is not yet reported stays.
func (a *Account) ReceiveReset(b *bucket.Bucket, now mono.Time, p *Params) {
	a.AnnouncedTAT, a.HeldUntil, a.TAT, a.RepliedTAT = 0, 0, min(a.TAT, now), min(a.RepliedTAT, now)
	a.Others, a.MeanOthers, a.meanOwn, a.meanOwnAtReply = 0, 0, 0, 0
	switch {
	case b.Mode == bucket.Stale:
	case a.RepliedAt != 0:
		b.Set(now, b.Burst) // the level may rise even while demand is learnt anew
		a.regrant(b, now, p)
	default:
		a.Until, a.Expires = 0, 0
	}
}
