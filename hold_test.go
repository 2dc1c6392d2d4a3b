package limiter

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
	"pgregory.net/rapid"
)

// attempts are the ways in which a test requests tokens of a key. They report whether
// some were admitted at once.
var attempts = map[string]func(l *Limiter, key string) bool{
	"Allow":    func(l *Limiter, key string) bool { return l.Allow(key) },
	"TakeN":    func(l *Limiter, key string) bool { return l.TakeN(key, 2).Allowed },
	"AllowN 0": func(l *Limiter, key string) bool { return l.AllowN(key, 0) },
	"AllowAll": func(l *Limiter, key string) bool { return AllowAll(l.Part(key, 1), l.Part("beside", 0)) },
	"Key":      func(l *Limiter, key string) bool { return l.Key(key).Allow() },
	"Reserve": func(l *Limiter, key string) bool {
		r := l.Reserve(key)
		defer r.Cancel()
		return r.OK() && r.Delay() == 0
	},
	"Wait": func(l *Limiter, key string) bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
		defer cancel()
		return l.Wait(ctx, key) == nil
	},
	"WaitAll": func(l *Limiter, key string) bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
		defer cancel()
		return WaitAll(ctx, l.Part(key, 1), l.Part("beside", 0)) == nil
	},
}

// TestHoldAdmitsNothingBefore: in the process that holds a key, whatever is done to the
// key and to Redis. After a hold an empty bucket fills.
func TestHoldAdmitsNothingBefore(t *testing.T) {
	for name, lim := range map[string]Limit{
		"fast": Per(1000, time.Second), "slow": Per(5, time.Minute), "one by one": Per(10, time.Second).WithBurst(1), "no limit": {Rate: rate.Inf},
	} {
		for how, admitted := range attempts {
			t.Run(name+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := newTestLocalOf(t, Config{Limit: lim})
					l.Allow("k")
					l.Hold("k", time.Second)
					l.Hold("k", 20*time.Second)
					l.Hold("k", 2*time.Second)
					l.Hold("k", 0)
					begin := time.Now()
					for time.Since(begin) < 20*time.Second {
						require.False(t, admitted(l, "k"), "after %v", time.Since(begin))
						r := l.Take("k")
						require.False(t, r.Allowed)
						require.Zero(t, r.Remaining)
						require.GreaterOrEqual(t, r.RetryAfter, 20*time.Second-time.Since(begin))
						require.GreaterOrEqual(t, r.ResetAfter, 20*time.Second-time.Since(begin))
						l.Refund("k", 1000)
						time.Sleep(500*time.Millisecond - time.Since(begin)%500*time.Millisecond)
					}
					one := time.Duration(float64(time.Second) / float64(lim.Rate))
					require.LessOrEqual(t, l.Peek("k").RetryAfter, one+1)
					time.Sleep(2*one + 1) // an admission that a test asks for has a cost of up to 2
					require.True(t, admitted(l, "k") || lim.Burst == 1 && how == "TakeN")
				})
			})
		}
	}
}

// TestHoldIsOfTheFleet: all processes follow, with the key in memory or not, also those
// that start later, and after a loss of all data in Redis. Reset ends it everywhere.
func TestHoldIsOfTheFleet(t *testing.T) {
	for name, lim := range map[string]Limit{"fast": Per(1000, time.Second), "slow": Per(5, time.Minute), "no limit": {Rate: rate.Inf}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := Config{Limit: lim, Processes: 3}
				f := newFleet(t, 3, cfg)
				defer f.close()
				until(t, "synced", func() bool { return f.members[0].Status().State == Synced })
				time.Sleep(time.Second)
				f.members[1].Allow("k")
				f.members[0].Hold("k", 20*time.Second)
				begin := time.Now()
				time.Sleep(300 * time.Millisecond)
				nobody := func(d time.Duration) {
					t.Helper()
					for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
						for i, m := range f.members {
							require.False(t, m.Allow("k"), "process %d after %v", i, time.Since(begin))
							m.Refund("k", 3)
						}
					}
				}
				nobody(5 * time.Second)
				f.State.Wipe()
				nobody(time.Second)
				f.join(cfg)
				time.Sleep(500 * time.Millisecond) // a new process learns it with its first replies
				nobody(3 * time.Second)
				f.Down.Store(true)
				nobody(5 * time.Second)
				f.Down.Store(false)
				nobody(20*time.Second - time.Since(begin) - time.Millisecond)

				f.members[2].Hold("k", time.Hour)
				time.Sleep(300 * time.Millisecond)
				nobody(time.Second)
				until(t, "Reset", func() bool { return f.members[1].Reset(context.Background(), "k") == nil })
				time.Sleep(500 * time.Millisecond)
				for i, m := range f.members {
					require.True(t, m.Allow("k"), "process %d after Reset", i)
				}
			})
		})
	}
}

// TestHoldAndLimit: the fleet admits from the end of a hold on as if it had begun with an
// empty bucket then.
func TestHoldAndLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, Config{Limit: busy, Processes: 3})
		defer f.close()
		until(t, "synced", func() bool { return f.members[0].Status().State == Synced })
		ask := func(d time.Duration) (admitted int) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
				for _, m := range f.members {
					if m.Allow("k") {
						admitted++
					}
				}
			}
			return admitted
		}
		ask(2 * time.Second)
		f.members[0].Hold("k", 5*time.Second)
		ask(300 * time.Millisecond)
		require.Zero(t, ask(4699*time.Millisecond))
		require.InEpsilon(t, 5*1000, ask(5*time.Second), 0.05)
	})
}

// TestHoldOutlivesAll: no operation on a held key, or on the others, ends the hold, except
// Reset.
func TestHoldOutlivesAll(t *testing.T) {
	limits := []Limit{Per(1000, time.Second), Per(5, time.Minute), {Rate: rate.Inf}, Per(100, time.Second).WithBurst(1), {}}
	rapid.Check(t, func(rt *rapid.T) {
		local := rapid.Bool().Draw(rt, "local")
		first := rapid.IntRange(0, len(limits)-2).Draw(rt, "limit")
		ops := rapid.SliceOfN(rapid.IntRange(0, 11), 1, 60).Draw(rt, "operations")
		key := rapid.SampledFrom([]string{"k", "a key of more than sixty-four bytes, which is held and sent as a digest of it"}).Draw(rt, "key")
		var secret []byte
		if rapid.Bool().Draw(rt, "secret") {
			secret = []byte("a secret of 32 bytes, or of more")
		}
		var failure string
		synctest.Test(t, func(t *testing.T) {
			cfg := Config{Limit: limits[first], MaxKeys: 64, Processes: 2, KeySecret: secret}
			var l *Limiter
			f := &fleet{}
			if local {
				l = newTestLocalOf(t, cfg)
			} else {
				f = newFleet(t, 2, cfg)
				defer f.close()
				l = f.members[0].Limiter
			}
			time.Sleep(time.Second)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var reserved []Reservation
			var heldUntil time.Time
			for i, op := range ops {
				switch op {
				case 0, 1:
					l.Hold(key, time.Duration(op*9+1)*time.Second)
					heldUntil = laterOf(heldUntil, time.Now().Add(time.Duration(op*9+1)*time.Second))
				case 2:
					l.Refund(key, 100)
				case 3:
					l.Charge(key, 3)
				case 4:
					_ = l.SetLimit(limits[(first+i)%len(limits)])
				case 5:
					for j := range 200 {
						l.Allow(fmt.Sprint(i, j))
					}
				case 6:
					reserved = append(reserved, l.ReserveN(key, 2))
				case 7:
					for _, r := range reserved {
						r.Cancel()
					}
				case 8:
					if !local {
						f.State.Wipe()
					}
				case 9:
					if !local {
						f.Down.Store(!f.Down.Load())
					}
				case 10:
					l.Reload()
				case 11:
					go func() { _ = l.Wait(ctx, key) }()
					synctest.Wait()
				}
				for how, admitted := range attempts {
					if now := time.Now(); failure == "" && now.Before(heldUntil) && admitted(l, key) {
						failure = fmt.Sprintf("%s admitted %v before the end, after operation %d", how, heldUntil.Sub(now), i)
					}
				}
				time.Sleep(137 * time.Millisecond)
			}
		})
		if failure != "" {
			rt.Fatal(failure)
		}
	})
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
