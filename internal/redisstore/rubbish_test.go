package redisstore

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/longtest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// rubbish returns bytes as another program may have written: of any length, and of the
// lengths and sizes of valid numbers.
func rubbish(rng *rand.Rand) string {
	if rng.IntN(4) == 0 {
		b := make([]byte, rng.IntN(100))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return string(b)
	}
	var b []byte
	for range []int{1, 2, 3, 6, 9}[rng.IntN(5)] {
		b = binary.LittleEndian.AppendUint64(b, plausible(rng))
	}
	return string(b)
}

// plausible is a number near those that are checked, or any.
func plausible(rng *rand.Rand) uint64 {
	us := time.Now().UnixMicro()
	near := []int64{0, -1, 1, us, 2 * us, exchange.MaxTime, exchange.MaxTime - us, exchange.MaxSeq, exchange.MaxSeq + 1, 1 << 62, -1 << 63, exchange.LongAgo, -exchange.MaxTime}
	n := near[rng.IntN(len(near))] + rng.Int64N(5) - 2
	if rng.IntN(4) == 0 {
		return rng.Uint64()
	}
	return uint64(n)
}

// otherTypes put something else in the place of a hash.
var otherTypes = []func(ctx context.Context, rdb redis.UniversalClient, name, r string) error{
	func(ctx context.Context, rdb redis.UniversalClient, name, r string) error {
		return rdb.Set(ctx, name, r, 0).Err()
	},
	func(ctx context.Context, rdb redis.UniversalClient, name, r string) error {
		return rdb.RPush(ctx, name, r).Err()
	},
	func(ctx context.Context, rdb redis.UniversalClient, name, r string) error {
		return rdb.SAdd(ctx, name, r).Err()
	},
	func(ctx context.Context, rdb redis.UniversalClient, name, r string) error {
		return rdb.ZAdd(ctx, name, redis.Z{Member: r}).Err()
	},
	func(ctx context.Context, rdb redis.UniversalClient, name, r string) error {
		return rdb.XAdd(ctx, &redis.XAddArgs{Stream: name, Values: []string{"f", r}}).Err()
	},
}

// With random bytes in the fields of the hashes, no number of a reply is out of bounds.
// A refused chunk succeeds once its number is above the stored one.
func TestRandomRubbishInTheHash(t *testing.T) {
	t.Parallel()
	server, _ := newReal(t, redisserver.Options{})
	client := New(tuned(t, &redis.UniversalOptions{Addrs: []string{server.Addr()}, ReadTimeout: 10 * time.Second}), "limiter")
	ctx, name, seed := t.Context(), client.names[0], rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range longtest.Choose(200, 600, 2000) {
		a, p := id(byte(i), byte(i>>8)), member()
		fields := []any{"kx", rubbish(rng), "\x00n" + string(a[:]), rubbish(rng), "\x00n" + rubbish(rng), rubbish(rng), rubbish(rng), rubbish(rng)}
		if rng.IntN(8) == 0 {
			fields = append(fields, "\x00m", rubbish(rng))
		}
		require.NoError(t, client.rdb.HSet(ctx, name, fields...).Err())
		require.NoError(t, client.rdb.HSet(ctx, client.fleet, "\x00g", rubbish(rng), "\x00m", rubbish(rng),
			"\x00p", rubbish(rng), "\x00p"+string(p.Process[:]), rubbish(rng), "\x00t"+string([]byte{byte(i), 0}), rubbish(rng), rubbish(rng), rubbish(rng)).Err())

		c := charge(a, 1, second)
		client.Exchange(ctx, p, []*exchange.Chunk{c})
		require.NoError(t, c.Err, "round %d", i)
		if p.Err != nil {
			require.ErrorIs(t, p.Err, exchange.ErrReply, "round %d", i)
		}
		if c.Reply.Status == exchange.Duplicate && c.Reply.Prev < exchange.MaxSeq {
			c.Seq, c.Floors = c.Reply.Prev+1, true
			require.NotEqual(t, exchange.Lost, one(t, client, c).Status, "round %d", i)
		}
	}
	require.NoError(t, client.rdb.Del(ctx, client.fleet).Err())
	require.Equal(t, 1, callFleet(t, client, *member()).Members, "rubbish is gone with the key")
}

// What has the wrong type is reported, for each type there is, and works again
// once it is gone.
func TestEveryWrongTypeIsReported(t *testing.T) {
	t.Parallel()
	_, client := newReal(t, redisserver.Options{})
	for i, put := range otherTypes {
		for _, name := range []string{client.names[3], client.fleet} {
			require.NoError(t, client.rdb.Del(t.Context(), name).Err())
			require.NoError(t, put(t.Context(), client.rdb, name, "rubbish"))
			require.ErrorContains(t, try(t.Context(), client, int64(2*i+1)), "choose another prefix")
			require.NoError(t, client.rdb.Del(t.Context(), name).Err())
			chunks, f := everything(client, int64(2*i+2)), member()
			for _, c := range chunks {
				c.Floors = true
			}
			client.Exchange(t.Context(), f, chunks)
			require.NoError(t, f.Err)
			for _, c := range chunks {
				require.NoError(t, c.Err)
			}
		}
	}
}
