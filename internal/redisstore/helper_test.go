package redisstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// quiet is go-redis's logger in tests: servers fail here on purpose.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(quiet{}) }

const second = 1_000_000 // microseconds

// Constants of the scripts and of the wire.
const (
	newsPage     = 16 // pieces of news on a page
	keepSequence = 24 * time.Hour
	maxFieldLen  = math.MaxUint16
)

// epoch is when settable clocks begin, in microseconds.
const epoch = 1_800_000_000_000_000

// twin is a Memory with a settable clock.
type twin struct {
	*exchange.Memory
	time int64
}

func newTwin() *twin {
	tw := &twin{time: epoch}
	tw.Memory = exchange.NewMemory(partitions, func() time.Time { return time.UnixMicro(tw.time) })
	return tw
}

// world is an Exchanger whose time can be set.
type world struct {
	exchange.Exchanger
	set  func(micros int64)
	wipe func()
}

// worlds runs a test against Memory, and against the scripts on a real Redis, with
// and without the struct library.
func worlds(t *testing.T, test func(t *testing.T, w world)) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		tw := newTwin()
		test(t, world{tw, func(us int64) { tw.time = us }, tw.Wipe})
	})
	for name, head := range map[string]string{"redis": "", "plain Lua": withoutStruct} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, client := newTold(t, head)
			test(t, world{client, server.set, func() { server.wipe(t, client) }})
		})
	}
}

// newReal returns a Client of a server of its own, tuned.
func newReal(t testing.TB, opts redisserver.Options) (*redisserver.Server, *Client) {
	server := servertest.Server(t, opts)
	return server, New(tuned(t, &redis.UniversalOptions{Addrs: []string{server.Addr()}, Password: opts.Password}), "limiter")
}

func tuned(t testing.TB, o *redis.UniversalOptions) redis.UniversalClient {
	rdb := redis.NewUniversalClient(Tune(o))
	closeLater(t, rdb)
	return rdb
}

func closeLater(t testing.TB, c io.Closer) { t.Cleanup(func() { c.Close() }) }

// id is the ID of a lane.
func id(process, lane byte) exchange.ID { return exchange.ID{0: process, 8: lane} }

// charge is a chunk of one charge on partition 0.
func charge(id exchange.ID, seq int64, delta int64) *exchange.Chunk {
	return chunk(id, seq, exchange.Record{Field: "kx", Delta: delta})
}

func chunk(id exchange.ID, seq int64, records ...exchange.Record) *exchange.Chunk {
	return &exchange.Chunk{ID: id, Seq: seq, Tau: 500 * time.Millisecond, Records: records}
}

// one exchanges one chunk, which must succeed, and returns its reply.
func one(t testing.TB, e exchange.Exchanger, c *exchange.Chunk) exchange.Reply {
	t.Helper()
	e.Exchange(t.Context(), nil, []*exchange.Chunk{c})
	require.NoError(t, c.Err)
	r := c.Reply
	r.Expires, r.Wait = 0, 0 // expiry and sweeps have separate tests
	return r
}

// callFleet makes a fleet call, which must succeed.
func callFleet(t testing.TB, e exchange.Exchanger, f exchange.FleetCall) exchange.FleetReply {
	t.Helper()
	e.Exchange(t.Context(), &f, nil)
	require.NoError(t, f.Err)
	return f.Reply
}

// freshPrefix keeps tests on one server apart.
func freshPrefix() string { return fmt.Sprintf("test%x", rand.Uint64()) }

// packed returns numbers as the scripts store them.
func packed(ns ...int64) (b []byte) {
	for _, n := range ns {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	return b
}

func lim(full, burst int64) exchange.Limit { return exchange.Limit{Full: full, Burst: burst} }

func keyState(toGo, demand int64) exchange.KeyState {
	return exchange.KeyState{ToGo: toGo, Demand: demand}
}
