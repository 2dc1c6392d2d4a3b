package account

import (
	"time"

	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

// KnownByNews reports whether news is all that is known of the fleet's bucket.
func (a *Account) KnownByNews() bool { return a.RepliedAt == 0 && a.AnnouncedTAT != 0 }

// WorthAnnouncing reports whether the fleet should hear of a reply to a charge of
// this process: that it has taken the key below half of its burst, or a further
// quarter beyond what was last said of it. One charge alone crosses that line;
// where that went unheard, anybody tells after another quarter. An admission by news
// alone (byNews) is told at once, because processes that live for one decision know of
// each other by nothing else. Nothing is told that would be over before it is heard.
func (a *Account) WorthAnnouncing(b *bucket.Bucket, charged time.Duration, byNews bool, now int64, p *Params) bool {
	full := int64(mono.Seconds(b.Burst / b.Rate))
	if a.TAT-now < 2*int64(p.Interval+p.Rtt) {
		return false
	}
	if byNews && charged > 0 && a.TAT > max(mono.Add(a.AnnouncedTAT, p.Interval+p.Rtt), now+full/2) {
		return true
	}
	line := max(a.AnnouncedTAT+full/4, now+full/2)
	return a.TAT > line && (a.TAT-int64(charged) <= line || a.TAT > line+full/4)
}

// Receive takes in what another process said of a key that is resident here. It
// may take from the bucket, not give; from a share its part of the new debt
// alone, or what it has saved up would be gone at every word.
func (a *Account) Receive(b *bucket.Bucket, tat, demand, now int64, p *Params) {
	tat = min(tat, b.Furthest(now, mono.Seconds((p.Fleet-1)*b.Burst/b.Rate))) // a burst of each other process: the rest is for the next reply to tell
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
	a.Regrant(b, now, p)
	b.Level = min(b.Level, level)
}

// ReceiveReset forgets what was known of a key but for what is yet to be told.
func (a *Account) ReceiveReset(b *bucket.Bucket, now int64, p *Params) {
	a.AnnouncedTAT, a.TAT, a.RepliedTAT = 0, min(a.TAT, now), min(a.RepliedTAT, now)
	a.Others, a.MeanOthers, a.MeanOwn, a.MeanOwnAtReply = 0, 0, 0, 0
	if b.Mode != bucket.Stale && a.RepliedAt != 0 {
		a.Regrant(b, now, p)
	}
}
