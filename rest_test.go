package limiter

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

// restingFleet is one of two processes in which a key was asked for long ago, and now rests in
// the first process; "busy" is asked for all the time.
func restingFleet(t *testing.T, cfg Config) (f *fleet, a, b *member) {
	t.Helper()
	cfg.MaxKeys = 10
	f = newFleet(t, 2, cfg)
	t.Cleanup(f.close)
	a, b = f.members[0], f.members[1]
	until(t, "all see each other", func() bool { return a.Status().Processes == 2 })
	if !a.AllowN("k", 4) {
		t.Fatal("denied")
	}
	letRest(t, a, b)
	return f, a, b
}

// letRest asks for "busy" until the key "k" rests in the first of two processes.
func letRest(t *testing.T, a, b *member) {
	t.Helper()
	for range restAfter/time.Second + 2*retireEvery/time.Second {
		a.Allow("busy")
		b.Allow("busy")
		time.Sleep(time.Second)
	}
	if !residentEntry(a.local, "k").is(resting) {
		t.Fatal("a key that nobody asked for does not rest")
	}
}

// TestQuietKeysKeepNoAccount: what is kept of a key for the exchange is there for
// others while nobody asks for the key, and is made anew when somebody does. Not
// that of a key that is asked for, here or elsewhere.
func TestQuietKeysKeepNoAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, b := restingFleet(t, Config{Limit: Per(60, time.Minute)})
		if residentEntry(a.local, "busy").accountAt == 0 || residentEntry(b.local, "busy").accountAt == 0 {
			t.Error("a key rests that is asked for")
		}
		sh, _ := a.local.locate("k")
		if got := len(sh.free[accounts]); got == 0 {
			t.Error("nothing has become free")
		}
		if r := a.Peek("k"); r.Remaining != 60 || r.ResetAfter != 0 || !residentEntry(a.local, "k").is(resting) {
			t.Errorf("Peek = %+v of a key that rests, want a full one", r)
		}
		key := a.Key("k")
		for range 60 {
			if !key.Allow() {
				t.Fatal("denied, of a full bucket")
			}
		}
		if key.Allow() {
			t.Error("a key that has rested admits more than its burst")
		}
		if err := a.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got, want := f.toGo("k"), time.Minute; got < want-time.Second || got > want {
			t.Errorf("the fleet's bucket is %v from full, want %v", got, want)
		}
	})
}

// TestNewsReachesKeysAtRest: what the fleet tells of a key is known at its next
// decision, though it had no account to write it into.
func TestNewsReachesKeysAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := restingFleet(t, Config{Limit: Per(60, time.Minute)})
		b.Charge("k", 120)
		until(t, "the news is heard", func() bool {
			_, ok := a.local.heard.Get("kk", a.now())
			return ok
		})
		if a.Allow("k") {
			t.Error("allowed, though the fleet has nothing left")
		}
	})
}

// TestKeysAtRestAreReset: in Redis too, where others have used them.
func TestKeysAtRestAreReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, b := restingFleet(t, Config{Limit: Per(60, time.Minute)})
		b.Charge("k", 30)
		if err := b.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := a.Reset(context.Background(), "k"); err != nil {
			t.Fatal(err)
		}
		if got := f.toGo("k"); got > 0 {
			t.Errorf("the fleet's bucket is %v from full after a Reset", got)
		}
	})
}

// TestKeysAtRestGetNewLimits: by SetLimit and by Reload, one that is not shared too.
func TestKeysAtRestGetNewLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := Per(60, time.Minute)
		limitFor := func(key string) (Limit, bool) { return limits, key == "k" }
		_, a, _ := restingFleet(t, Config{Limit: Per(60, time.Minute), LimitFor: limitFor})
		for _, want := range []Limit{Per(90, time.Minute), {Rate: rate.Inf}, Per(30, time.Minute)} {
			limits = want
			a.Reload()
			if got := a.Peek("k").Limit; got != want {
				t.Errorf("a limit of %v, want %v", got, want)
			}
		}
		if a.AllowN("k", 31) || !a.AllowN("k", 30) || a.Allow("k") {
			t.Error("not decided by the new limit")
		}
		if residentEntry(a.local, "k").accountAt == 0 {
			t.Error("a key of a shared limit has no account")
		}
	})
}

// TestPeekKnowsTheNewsOfKeysAtRest: as the decision that comes next.
func TestPeekKnowsTheNewsOfKeysAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := restingFleet(t, Config{Limit: Per(60, time.Minute)})
		b.Charge("k", 120)
		until(t, "the news is heard", func() bool { return !a.Peek("k").Allowed })
		if got, want := a.Peek("k"), a.Take("k"); got.Allowed || got.RetryAfter != want.RetryAfter || got.ResetAfter != want.ResetAfter {
			t.Errorf("Peek = %+v, and then Take = %+v", got, want)
		}
	})
}

// TestResetOutlivesNewsOfKeysAtRest: here in any case, though Redis was not asked.
func TestResetOutlivesNewsOfKeysAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := restingFleet(t, Config{Limit: Per(60, time.Minute)})
		b.Charge("k", 120)
		until(t, "the news is heard", func() bool { return !a.Peek("k").Allowed })
		a.cut.Store(true)
		called, off := context.WithCancel(context.Background())
		off()
		if a.Reset(called, "k") == nil {
			t.Error("a Reset that was called off says that it was done")
		}
		if !a.Allow("k") {
			t.Error("denied after a Reset, for what was heard before")
		}
	})
}

// TestRefundOutlivesNewsOfKeysAtRest: what was heard of a key before the fleet had it back
// is nothing to deny it for when it wakes.
func TestRefundOutlivesNewsOfKeysAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := restingFleet(t, Config{Limit: Per(1000, 10*time.Hour)})
		b.Charge("k", 900)
		until(t, "the news is heard", func() bool { return a.Peek("k").Remaining < 500 })
		a.Allow("k")
		b.Refund("k", 900)
		if err := b.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		for range 15 { // until the others' demand is forgotten
			a.Allow("k")
			time.Sleep(time.Minute)
		}
		letRest(t, a, b)
		if got := a.Peek("k").Remaining; got < 950 {
			t.Errorf("%d remain of 1000 that the fleet has", got)
		}
	})
}

// TestKeysAtRestWakeWhereTheyAreMissed: a decision that does not find its key, for
// the index grows meanwhile, finds it when it is about to make it resident.
func TestKeysAtRestWakeWhereTheyAreMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, _ := restingFleet(t, Config{Limit: Per(60, time.Minute)})
		sh, hash := a.local.locate("k")
		sh.mu.Lock()
		e := a.applyLocked("k", sh, hash, a.ruleOf("k"), a.now())
		sh.mu.Unlock()
		if e.is(resting) || e.accountAt == 0 {
			t.Error("a key of which the fleet is to hear has no account")
		}
		e.mu.Unlock()
	})
}
