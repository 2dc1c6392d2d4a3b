package store

import (
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter/internal/exchange/exchangetest"
	"github.com/seed-e56e777b/limiter/internal/redisstore"
)

// TestMiniredisIsAsMemory: the scripts give the same answers on the Redis inside this
// program as the store in memory.
func TestMiniredisIsAsMemory(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), PipelinePoolSize: -1})
	t.Cleanup(func() { rdb.Close() })
	prefixes := 0
	exchangetest.Compare(t, exchangetest.Server{
		Client: func() exchangetest.Client {
			prefixes++
			return redisstore.New(rdb, "test"+strconv.Itoa(prefixes))
		},
		Set:  func(micros int64) { server.SetTime(time.UnixMicro(micros)) },
		Back: func(back bool) { server.ClockTTL(!back) }, // by a clock that goes back it would let everything expire
	})
}
