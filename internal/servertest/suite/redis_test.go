package suite_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/redisstore"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// backends starts each kind of Redis and says how to reach it.
var backends = map[string]func(testing.TB) *redis.UniversalOptions{
	"standalone": func(t testing.TB) *redis.UniversalOptions {
		return tuned(servertest.Server(t, redisserver.Options{}).Addr())
	},
	"cluster": func(t testing.TB) *redis.UniversalOptions { return tuned(servertest.Cluster(t).Addrs()...) },
	"sentinel": func(t testing.TB) *redis.UniversalOptions {
		s := servertest.Sentinel(t)
		o := tuned(s.Addrs()...)
		o.MasterName = redisserver.MasterName
		return o
	},
}

// TestFleetOnRedis: on every kind of Redis, and for keys of any shape, two processes
// never take the same token.
func TestFleetOnRedis(t *testing.T) {
	t.Parallel()
	keys := []string{
		"", "plain", "\x00", "{", "}{", "a\nb\r\n", "\xff\xfe", strings.Repeat("k", 64), strings.Repeat("k", 65),
		strings.Repeat("x", 64<<10), "limiter:16:{0-1}", "*1\r\n$4\r\nPING\r\n",
	}
	for i := range 300 {
		keys = append(keys, fmt.Sprint("key ", i))
	}
	for name, options := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && name != "standalone" {
				t.Skip("runs without -short: a Cluster and Sentinels take seconds to start")
			}
			o := options(t)
			copied := *o
			a := start(t, o, limiter.Config{Limit: slow, Processes: 2})
			b := start(t, &copied, limiter.Config{Limit: slow, Processes: 2})
			for _, l := range []*limiter.Limiter{a, b} {
				eventually(t, "a fleet of two", func() bool { st := l.Status(); return st.State == limiter.Synced && st.Processes == 2 })
			}
			for _, key := range keys {
				require.True(t, a.AllowN(key, 60))
			}
			exchanged(t, a)
			for _, key := range keys {
				require.True(t, b.AllowN(key, 20), "20 of the 40 that are left, and of a bucket that looks full here")
			}
			exchanged(t, b)
			for i, key := range keys {
				if got := seen(b, key); got != 20 {
					t.Errorf("key %d: %d are left, want 20", i, got)
				}
			}
			eventually(t, "a Reset", func() bool { return a.Reset(t.Context(), keys[0]) == nil })
			exchanged(t, b)
			exchanged(t, b) // news from before the Reset may come with the first
			if r := b.Peek(keys[0]); r.Remaining < 90 {
				t.Errorf("elsewhere after a Reset and two exchanges: %+v", r)
			}
			require.NoError(t, a.Close())
			eventually(t, "the other is alone", func() bool { return b.Status().Processes == 1 })
		})
	}
}

// TestRedisFaultsAreSurvived: the faults of Redis in sequence, with both kinds of client:
// nothing is lost, and the limiter recovers by itself.
func TestRedisFaultsAreSurvived(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]func(...string) *redis.UniversalOptions{"tuned": tuned, "untuned": untuned} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servertest.Server(t, redisserver.Options{})
			admin := s.Client()
			t.Cleanup(func() { _ = admin.Close() })
			ctx := t.Context()

			require.NoError(t, s.Kill())
			a := start(t, options(s.Addr()), limiter.Config{Limit: slow})
			require.True(t, a.AllowN("k", 10), "decides before Redis is there")
			require.Error(t, syncOnce(a))
			require.Equal(t, limiter.Connecting, a.Status().State)
			require.Error(t, a.Status().Err)
			require.NoError(t, s.Restart(false))
			eventually(t, "synced when Redis appears", synced(a))
			b := start(t, options(s.Addr()), limiter.Config{Limit: slow})
			left := func(want int, when string) {
				t.Helper()
				eventually(t, when, func() bool {
					if syncOnce(a) != nil || !b.AllowN("k", 0) || syncOnce(b) != nil {
						return false
					}
					return remaining(t, admin, "k") == want && seen(b, "k") == want
				})
			}
			left(90, "what was taken before Redis was there is charged")

			require.NoError(t, admin.ScriptFlush(ctx).Err())
			require.True(t, a.AllowN("k", 10))
			left(80, "SCRIPT FLUSH")

			require.NoError(t, admin.FlushAll(ctx).Err())
			require.True(t, a.AllowN("k", 10))
			left(70, "FLUSHALL")

			require.NoError(t, s.Kill())
			eventually(t, "degraded by a kill", func() bool { return a.Status().State == limiter.Degraded })
			a.Charge("k", 10)
			require.NoError(t, s.Restart(false))
			left(60, "killed, and restarted empty")

			require.NoError(t, s.Freeze())
			eventually(t, "degraded by a hang", func() bool { return a.Status().State == limiter.Degraded })
			a.Charge("k", 10)
			require.NoError(t, s.Thaw())
			left(50, "frozen and thawed")

			require.NoError(t, admin.ConfigSet(ctx, "requirepass", "secret").Err())
			require.NoError(t, admin.ClientKillByFilter(ctx, "SKIPME", "yes").Err())
			eventually(t, "degraded by a password", func() bool {
				st := a.Status()
				return st.State == limiter.Degraded && st.Err != nil && strings.Contains(st.Err.Error(), "password")
			})
			a.Charge("k", 10)
			require.NoError(t, admin.ConfigSet(ctx, "requirepass", "").Err())
			left(40, "a password demanded, and no longer")

			require.NoError(t, admin.ConfigSet(ctx, "maxmemory", "1").Err())
			eventually(t, "degraded by OOM", func() bool { return a.Status().State == limiter.Degraded })
			a.Charge("k", 10)
			require.NoError(t, admin.ConfigSet(ctx, "maxmemory", "0").Err())
			left(30, "out of memory, and no longer")
		})
	}
}

// remaining reads a key of the limit slow from Redis itself.
func remaining(t testing.TB, client redis.UniversalClient, key string) int {
	t.Helper()
	return slow.Burst - int((toGo(t, client, key).Seconds()*float64(slow.Rate))+0.5)
}

// toGo is how far ahead of now Redis has a key's TAT.
func toGo(t testing.TB, client redis.UniversalClient, key string) time.Duration {
	t.Helper()
	c, field := redisstore.New(client, "limiter"), "k"+key
	chunk := &exchange.Chunk{
		Partition: exchange.Partition(field, c.Partitions()), ID: exchange.ID{0xff}, Seq: time.Now().UnixMicro(), Floors: true,
		Tau: time.Second, Records: []exchange.Record{{Field: field}},
	}
	c.Exchange(context.Background(), nil, []*exchange.Chunk{chunk})
	if chunk.Err != nil {
		return 0
	}
	return time.Duration(chunk.Reply.Keys[0].ToGo) * time.Microsecond
}

// TestCutRepliesAreCountedOnce: through a proxy that cuts connections at random, before
// or after Redis has applied a report, every token is charged exactly once.
func TestCutRepliesAreCountedOnce(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]func(...string) *redis.UniversalOptions{"tuned": tuned, "untuned": untuned} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servertest.Server(t, redisserver.Options{})
			admin := s.Client()
			t.Cleanup(func() { _ = admin.Close() })
			proxy := newCutter(t, s.Addr())
			// A token is 100 seconds, so that no delay of a reading is worth
			// one, and the bucket is never full again. With so long an interval
			// no process is taken for silent.
			const token = 100 * time.Second
			lim := limiter.Limit{Rate: 0.01, Burst: 1e7}
			var fleet []*limiter.Limiter
			for range 3 {
				fleet = append(fleet, start(t, options(proxy.addr), limiter.Config{Limit: lim, SyncInterval: time.Second}))
			}
			for _, l := range fleet {
				eventually(t, "synced", synced(l))
			}
			fleet[0].Charge("k", 1e6)
			exchanged(t, fleet[0])
			begin, debt := time.Now(), toGo(t, admin, "k")

			proxy.cutting(true)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			want, failed := 0, 0
			for range 150 {
				l := fleet[rng.IntN(len(fleet))]
				for range 50 {
					if n := rng.IntN(9); l.AllowN("k", n) {
						want += n
					}
				}
				if syncOnce(l) != nil {
					failed++
				}
			}
			proxy.cutting(false)
			for _, l := range fleet {
				eventually(t, "all is exchanged", func() bool { return syncOnce(l) == nil })
			}
			charged := toGo(t, admin, "k") - debt + time.Since(begin)
			var duplicates, errors uint64
			for _, l := range fleet {
				duplicates += l.Stats().DuplicateRounds
				errors += l.Stats().RoundErrors
			}
			t.Logf("%d tokens admitted, %.3f charged; %d connections cut, %d rounds failed, %d reports came twice", want, charged.Seconds()/token.Seconds(), proxy.cuts(), errors, duplicates)
			if got := int(charged.Round(token) / token); got != want {
				t.Errorf("charged %d tokens (%v), want %d", got, charged, want)
			}
			if proxy.cuts() == 0 || failed == 0 || duplicates == 0 {
				t.Error("nothing was cut")
			}
		})
	}
}

// cutter is a proxy that cuts its connections now and then, in mid-request, in
// mid-reply, or between the two.
type cutter struct {
	addr  string
	mu    sync.Mutex
	on    bool
	count int
	rng   *rand.Rand
}

func newCutter(t testing.TB, server string) *cutter {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	c := &cutter{addr: ln.Addr().String(), rng: rand.New(rand.NewPCG(1, 1))}
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			go c.serve(client, server)
		}
	}()
	return c
}

func (c *cutter) serve(client net.Conn, server string) {
	defer client.Close()
	upstream, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer upstream.Close()
	done := make(chan struct{}, 2)
	go func() { c.copy(upstream, client); done <- struct{}{} }()
	go func() { c.copy(client, upstream); done <- struct{}{} }()
	<-done
}

func (c *cutter) copy(dst, src net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		if c.cut() {
			_, _ = dst.Write(buf[:n/2])
			return
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (c *cutter) cut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	cut := c.on && c.rng.IntN(12) == 0
	if cut {
		c.count++
	}
	return cut
}

func (c *cutter) cutting(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = on
}

func (c *cutter) cuts() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}
