package limiter

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-e56e777b/limiter/internal/account"
	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
)

// TestNewsOutlivesTheGrant: what was heard of a key holds as long as it says,
// though the grant that it came upon was to end before.
func TestNewsOutlivesTheGrant(t *testing.T) {
	w := account.NewParams(2, 0, 1, 100*time.Millisecond, time.Millisecond, 500*time.Millisecond)
	now := mono.Time(time.Hour)
	lo := newLocal(1, 1, 0, nil)
	lo.params.Store(w)
	a, sh := account.New(now), &lo.shards[0].shard
	a.RNG = 1
	k := &lockedKey{bucket: newBucket(Per(6, time.Minute), now), account: &a, shard: sh}
	a.Partition = 1
	reply := exchange.KeyState{ToGo: 61e6, Demand: 25} // 0.05/s
	a.ApplyReply(&k.bucket, reply, 1, &exchange.Record{Limit: k.bucket.ExchangeLimit()}, now, w)
	if k.bucket.Mode != bucket.Share {
		t.Fatalf("mode %v: nothing is tried", k.bucket.Mode)
	}
	a.Receive(&k.bucket, now.Add(2*time.Minute), 0, now, w)
	now = now.Add(62 * time.Second)
	k.renew(now)
	if got := k.bucket.LevelAt(now); got > 1.1 {
		t.Errorf("a level of %.1f where the shared bucket has %.1f", got, a.SharedLevel(&k.bucket, now, k.bucket.Rate))
	}
}

// TestResetOutlivesNews: what was heard of a key before its Reset is no reason
// to deny it, in the process that has reset it or in one that has evicted it.
func TestResetOutlivesNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, Config{Limit: Per(6, time.Minute), MaxKeys: 1})
		defer f.close()
		a, b := f.members[0], f.members[1]
		for _, m := range f.members {
			until(t, "all see each other", func() bool { return m.Status().Processes == 2 })
		}
		a.AllowN("k", 6)
		until(t, "the news is heard", func() bool { return b.Peek("k").Remaining == 0 })
		if err := b.Reset(context.Background(), "k"); err != nil {
			t.Fatal(err)
		}
		if got := b.Peek("k").Remaining; got != 6 {
			t.Errorf("%d remain after Reset, want 6", got)
		}
		time.Sleep(time.Second)
		if got := b.Peek("k").Remaining; got != 6 {
			t.Errorf("%d remain a second after Reset, want 6", got)
		}
		a.AllowN("k", 6)
		until(t, "the news is heard again", func() bool { return b.Peek("k").Remaining == 0 })
		b.Allow("k")
		if err := a.Reset(context.Background(), "k"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		b.Allow("another")
		if got := b.Peek("k"); got.Remaining != 6 || got.Age >= 0 {
			t.Errorf("%d remain of a key evicted after Reset, want 6 (age %v)", got.Remaining, got.Age)
		}
	})
}
