package benchmarks_test

import (
	"context"
	"testing"
	"time"

	"github.com/go-redis/redis_rate/v10"
	redigo "github.com/gomodule/redigo/redis"
	"github.com/redis/go-redis/v9"
	"github.com/sethvargo/go-limiter"
	"github.com/sethvargo/go-redisstore"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/goredisstore.v9"
	ulule "github.com/ulule/limiter/v3"
	ululeredis "github.com/ulule/limiter/v3/drivers/store/redis"
	"github.com/zeromicro/go-zero/core/limit"
	"github.com/zeromicro/go-zero/core/logx"
	zeroredis "github.com/zeromicro/go-zero/core/stores/redis"

	"github.com/seed-e56e777b/limiter/benchmarks/internal/keys"
	"github.com/seed-e56e777b/limiter/benchmarks/internal/rediscpu"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// What the limiters that ask Redis are to keep: a million a second.
const (
	redisRate  = 1_000_000
	redisKeys  = 10_000
	connection = 64 // as many as there may be callers at once, on few cores
)

// redisSubject is a limiter that asks Redis at every decision.
type redisSubject struct {
	name string
	open func(b *testing.B, server *redisserver.Server) decide
}

func redisSubjects() []redisSubject {
	return []redisSubject{
		{"redis_rate", openRedisRate},
		{"throttled", openThrottledRedis},
		{"ulule", openUluleRedis},
		{"go-limiter", openGoLimiterRedis},
		{"go-zero-token", openZeroToken},
		{"go-zero-period", openZeroPeriod},
	}
}

// BenchmarkRedis measures a decision in Redis: its time, and the server's CPU.
func BenchmarkRedis(b *testing.B) {
	for _, s := range redisSubjects() {
		b.Run("keys=1e4/dist=zipf/by="+s.name, func(b *testing.B) {
			server := servertest.Server(b, redisserver.Options{})
			d := s.open(b, server)
			asked := keys.NewSequence(1<<17, keys.Zipf(redisKeys, 1))
			b.Run("callers=1", func(b *testing.B) { inRedis(b, server, d, asked, 0) })
			b.Run("callers=16-a-core", func(b *testing.B) { inRedis(b, server, d, asked, 16) })
		})
	}
}

// inRedis asks from so many goroutines a core; from one alone when 0.
func inRedis(b *testing.B, server *redisserver.Server, d decide, s keys.Sequence, perCore int) {
	b.ReportAllocs()
	used := -redisCPU(b, server)
	b.ResetTimer()
	if perCore == 0 {
		var t tally
		for i := s.Start(); b.Loop(); i++ {
			t.add(d(s.At(i)))
		}
		t.report(b, true)
	} else {
		b.SetParallelism(perCore)
		inParallel(b, d, s, true)
	}
	b.StopTimer()
	used += redisCPU(b, server)
	b.ReportMetric(float64(used.Microseconds())/float64(b.N), "redis-us/op")
}

func redisCPU(b *testing.B, server *redisserver.Server) time.Duration {
	client := server.Client()
	defer client.Close()
	return must(rediscpu.Used(b.Context(), client))(b)
}

func client(b *testing.B, server *redisserver.Server) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: server.Addr(), PoolSize: connection})
	b.Cleanup(func() { c.Close() })
	return c
}

func openRedisRate(b *testing.B, server *redisserver.Server) decide {
	l := redis_rate.NewLimiter(client(b, server))
	lim := redis_rate.PerSecond(redisRate)
	return func(key string) (bool, error) {
		r, err := l.Allow(context.Background(), key, lim)
		return err == nil && r.Allowed > 0, err
	}
}

func openThrottledRedis(b *testing.B, server *redisserver.Server) decide {
	store := must(goredisstore.NewCtx(client(b, server), "throttled:"))(b)
	quota := throttled.RateQuota{MaxRate: throttled.PerSec(redisRate), MaxBurst: redisRate - 1}
	l := must(throttled.NewGCRARateLimiterCtx(store, quota))(b)
	return func(key string) (bool, error) {
		limited, _, err := l.RateLimitCtx(context.Background(), key, 1)
		return !limited, err
	}
}

func openUluleRedis(b *testing.B, server *redisserver.Server) decide {
	store := must(ululeredis.NewStore(client(b, server)))(b)
	l := ulule.New(store, ulule.Rate{Period: time.Second, Limit: redisRate})
	return func(key string) (bool, error) {
		c, err := l.Get(context.Background(), key)
		return !c.Reached, err
	}
}

// openGoLimiterRedis gives it connections that stay: its own pool dials for every decision.
func openGoLimiterRedis(b *testing.B, server *redisserver.Server) decide {
	pool := &redigo.Pool{
		MaxIdle: connection,
		Dial:    func() (redigo.Conn, error) { return redigo.Dial("tcp", server.Addr()) },
	}
	b.Cleanup(func() { pool.Close() })
	var store limiter.Store = must(redisstore.NewWithPool(&redisstore.Config{Tokens: redisRate, Interval: time.Second}, pool))(b)
	return func(key string) (bool, error) {
		_, _, _, ok, err := store.Take(context.Background(), key)
		return ok, err
	}
}

func openZeroRedis(b *testing.B, server *redisserver.Server) *zeroredis.Redis {
	logx.Disable()
	return must(zeroredis.NewRedis(zeroredis.RedisConf{Host: server.Addr(), Type: zeroredis.NodeType}))(b)
}

// openZeroToken has a limiter for each key, as it wants.
func openZeroToken(b *testing.B, server *redisserver.Server) decide {
	store := openZeroRedis(b, server)
	limiters := map[string]*limit.TokenLimiter{}
	for i := range redisKeys {
		limiters[keys.Name(i)] = limit.NewTokenLimiter(redisRate, redisRate, store, keys.Name(i))
	}
	return func(key string) (bool, error) { return limiters[key].AllowCtx(context.Background()), nil }
}

func openZeroPeriod(b *testing.B, server *redisserver.Server) decide {
	const seconds = 1
	l := limit.NewPeriodLimit(seconds, redisRate, openZeroRedis(b, server), "period:")
	return func(key string) (bool, error) {
		state, err := l.TakeCtx(context.Background(), key)
		return state == limit.Allowed || state == limit.HitQuota, err
	}
}
