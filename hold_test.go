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

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/longtest"
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

// TestHoldEndsInTime: a hold is time. No change of limit and no refund makes it longer, and
// none lets a burst through at its end.
func TestHoldEndsInTime(t *testing.T) {
	for _, n := range []int{1, 3} {
		for name, meanwhile := range map[string]func(l *Limiter){
			"nothing": func(*Limiter) {},
			"refund":  func(l *Limiter) { l.Refund("k", 80) },
			"limit": func(l *Limiter) {
				_ = l.SetLimit(Per(10, time.Second))
				_ = l.SetLimit(Limit{Rate: rate.Inf})
				_ = l.SetLimit(Per(100, time.Second))
			},
			"evicted": func(l *Limiter) {
				_ = l.SetLimit(Per(1000, time.Second))
				for i := range 200 {
					l.Allow(fmt.Sprint(i))
				}
				_ = l.SetLimit(Per(100, time.Second))
			},
		} {
			t.Run(fmt.Sprint(n, " processes, ", name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFleet(t, n, Config{Limit: Per(100, time.Second), Processes: n, MaxKeys: 64})
					defer f.close()
					until(t, "synced", func() bool { return f.members[0].Status().State == Synced })
					l := f.members[0].Limiter
					l.AllowN("k", 80)
					time.Sleep(time.Second)
					l.Hold("k", 10*time.Second)
					end := time.Now().Add(10 * time.Second)
					time.Sleep(time.Second)
					for _, m := range f.members {
						meanwhile(m.Limiter)
					}
					r := l.Peek("k")
					require.InDelta(t, 9, r.RetryAfter.Seconds(), 0.2, "%+v", r)
					time.Sleep(time.Until(end))
					admitted := 0
					for time.Since(end) < time.Second {
						for _, m := range f.members {
							for m.Allow("k") {
								admitted++
							}
						}
						time.Sleep(time.Millisecond)
					}
					require.InDelta(t, 100, admitted, 12)
				})
			})
		}
	}
}

// TestHoldsOfManyKeys: more holds than the fleet keeps pieces of news, in one process with
// few keys in memory, reach the others and stay.
func TestHoldsOfManyKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, Config{Limit: Per(10, time.Second), Processes: 2, MaxKeys: 64})
		defer f.close()
		until(t, "synced", func() bool { return f.members[0].Status().State == Synced })
		const keys = exchange.NewsKept + 2000
		each := longtest.Choose(7, 1, 1)
		key := func(i int) string { return fmt.Sprint("k", i) }
		for i := range keys {
			f.members[0].Hold(key(i), time.Hour)
		}
		time.Sleep(5 * time.Second)
		for i := range keys { // other news
			f.members[0].Charge(fmt.Sprint("low", i), 1000)
		}
		time.Sleep(15 * time.Second)
		for n, m := range f.members {
			for i := 0; i < keys; i += each {
				require.False(t, m.Allow(key(i)), "%s in process %d", key(i), n)
			}
		}
		late := f.join(Config{Limit: Per(10, time.Second), Processes: 2})
		time.Sleep(15 * time.Second) // they are announced again
		for i := 0; i < keys; i += each {
			require.False(t, late.Peek(key(i)).Allowed, key(i))
		}
	})
}

// TestHoldAndReset: whatever their order in the fleet, afterwards all processes have the key
// held, or none.
func TestHoldAndReset(t *testing.T) {
	for _, lim := range []Limit{Per(10, time.Second), {Rate: rate.Inf}} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 3, Config{Limit: lim, Processes: 3})
			defer f.close()
			until(t, "synced", func() bool { return f.members[0].Status().State == Synced })
			for i := range 60 {
				key, ctx := fmt.Sprint("k", i), context.Background()
				f.members[0].Hold(key, time.Hour)
				time.Sleep(time.Duration(i) * 5 * time.Millisecond)
				require.NoError(t, f.members[i%2].Reset(ctx, key))
				again := i%4 == 0
				if again {
					f.members[0].Hold(key, 2*time.Second)
				}
				time.Sleep(time.Second)
				var held []bool
				for _, m := range f.members {
					held = append(held, !m.Peek(key).Allowed)
				}
				require.Equal(t, held[0], held[1], "%d: %v", i, held)
				require.Equal(t, held[0], held[2], "%d: %v", i, held)
				if i%2 == 0 {
					require.Equal(t, again, held[0], "%d: by the holder itself", i)
				}
				if again {
					time.Sleep(2 * time.Second)
					for j, m := range f.members {
						require.True(t, m.Peek(key).Allowed, "%d: process %d, after the second hold", i, j)
					}
				}
			}
		})
	}
}

// TestHoldOutlivesAll: no operation on a held key ends the hold, except Reset, nor does
// that other keys take its place in memory.
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
