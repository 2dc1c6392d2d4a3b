package redisstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/longtest"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// everything is one chunk for each partition, its next of this ID.
func everything(c *Client, seq int64) []*exchange.Chunk {
	chunks := make([]*exchange.Chunk, c.Partitions())
	for p := range chunks {
		chunks[p] = charge(id(1, 0), seq, 5)
		chunks[p].Partition = p
	}
	return chunks
}

func member() *exchange.FleetCall {
	return &exchange.FleetCall{Process: [8]byte{1}, Silent: time.Second, Forget: time.Minute}
}

// within is a context that ends soon enough.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// try exchanges everything and returns all errors.
func try(ctx context.Context, c *Client, seq int64) error {
	f, chunks := member(), everything(c, seq)
	c.Exchange(ctx, f, chunks)
	errs := []error{f.Err}
	for _, chunk := range chunks {
		errs = append(errs, chunk.Err)
	}
	return errors.Join(errs...)
}

// allFail exchanges everything, finds the same error everywhere and returns it.
func allFail(t *testing.T, c *Client, seq int64) error {
	t.Helper()
	f, chunks := member(), everything(c, seq)
	c.Exchange(within(t, 2*time.Second), f, chunks)
	require.Error(t, f.Err)
	for _, chunk := range chunks {
		require.Error(t, chunk.Err)
	}
	return chunks[0].Err
}

func TestScriptsLostMidway(t *testing.T) {
	t.Parallel()
	server, client := newReal(t, redisserver.Options{})
	rdb := server.Client()
	closeLater(t, rdb)
	for seq := range int64(3) {
		require.NoError(t, try(t.Context(), client, seq+1))
		require.NoError(t, rdb.ScriptFlush(t.Context()).Err())
	}
	r := one(t, client, chunk(id(1, 0), 4, exchange.Record{Field: "kx"}))
	require.EqualValues(t, 3, r.Prev, "each was applied once")
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	server, _ := newReal(t, redisserver.Options{Password: "right"})
	for _, password := range []string{"", "wrong"} {
		rdb := tuned(t, &redis.UniversalOptions{Addrs: []string{server.Addr()}, Password: password})
		err := allFail(t, New(rdb, "limiter"), 1)
		require.True(t, redis.IsAuthError(err), "%v", err)
		require.ErrorContains(t, err, "check user, password")
	}
	rdb := tuned(t, &redis.UniversalOptions{Addrs: []string{server.Addr()}, Password: "right", DB: 99})
	require.ErrorContains(t, allFail(t, New(rdb, "limiter"), 1), "DB index")
}

func TestFullServerAppliesNothing(t *testing.T) {
	t.Parallel()
	server, client := newReal(t, redisserver.Options{})
	rdb := server.Client()
	closeLater(t, rdb)
	require.NoError(t, try(t.Context(), client, 1))
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", "1mb").Err())
	err := allFail(t, client, 2)
	require.True(t, redis.IsOOMError(err), "%v", err)
	require.ErrorContains(t, err, "raise maxmemory")
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", "0").Err())
	r := one(t, client, charge(id(1, 0), 2, 0))
	require.Equal(t, exchange.Reply{Status: exchange.Applied, Now: r.Now, Prev: 1, Keys: r.Keys}, r)
	require.LessOrEqual(t, r.Keys[0].ToGo, int64(5))
}

func TestReadOnlyReplica(t *testing.T) {
	t.Parallel()
	server, client := newReal(t, redisserver.Options{})
	rdb := server.Client()
	closeLater(t, rdb)
	require.NoError(t, try(t.Context(), client, 1))
	require.NoError(t, rdb.Do(t.Context(), "replicaof", "127.0.0.1", "1").Err())
	require.NoError(t, rdb.ConfigSet(t.Context(), "replica-serve-stale-data", "yes").Err())
	require.ErrorContains(t, allFail(t, client, 2), "connect to the primary")
}

func TestTooManyClients(t *testing.T) {
	t.Parallel()
	server, client := newReal(t, redisserver.Options{Args: []string{"--maxclients", "1"}})
	rdb := server.Client()
	closeLater(t, rdb)
	require.NoError(t, rdb.Ping(t.Context()).Err())
	require.Error(t, allFail(t, client, 1))
}

// A frozen server costs one timeout for any batch, even with go-redis's own retries,
// and no report counts twice.
func TestFrozenServer(t *testing.T) {
	t.Parallel()
	server, client := newReal(t, redisserver.Options{})
	retrying := redis.NewClient(&redis.Options{Addr: server.Addr(), ReadTimeout: 300 * time.Millisecond})
	closeLater(t, retrying)
	for i, client := range []*Client{client, New(retrying, "retrying")} {
		require.NoError(t, try(t.Context(), client, 1))
		require.NoError(t, server.Freeze())
		began := time.Now()
		err := allFail(t, client, 2)
		var timeout net.Error
		require.ErrorAs(t, err, &timeout)
		require.Less(t, time.Since(began), 600*time.Millisecond, "client %d", i)
		require.NoError(t, server.Thaw())
		require.Eventually(t, func() bool { return try(t.Context(), client, 2) == nil }, 5*time.Second, 10*time.Millisecond)
		r := one(t, client, charge(id(1, 0), 3, 0))
		require.EqualValues(t, 2, r.Prev)
	}
}

func TestServerKilledAndBack(t *testing.T) {
	t.Parallel()
	server, client := newReal(t, redisserver.Options{AppendOnly: true})
	require.NoError(t, try(t.Context(), client, 1))
	require.NoError(t, server.Kill())
	began := time.Now()
	require.Error(t, allFail(t, client, 2))
	require.Less(t, time.Since(began), 300*time.Millisecond)
	require.NoError(t, server.Restart(true))
	require.EqualValues(t, 1, one(t, client, charge(id(1, 0), 2, 5)).Prev)
	require.NoError(t, server.Restart(false))
	require.Equal(t, exchange.Lost, one(t, client, charge(id(1, 0), 3, 5)).Status)
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	_, client := newReal(t, redisserver.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, try(ctx, client, 1), context.Canceled)
	tw := newTwin()
	c := charge(id(1, 0), 1, 5)
	tw.Exchange(ctx, nil, []*exchange.Chunk{c})
	require.ErrorIs(t, c.Err, context.Canceled)
}

func TestWrongTypeConcernsOnePartition(t *testing.T) {
	t.Parallel()
	_, client := newReal(t, redisserver.Options{})
	require.NoError(t, client.rdb.Set(t.Context(), client.names[3], "a string", 0).Err())
	chunks := everything(client, 1)
	client.Exchange(t.Context(), nil, chunks)
	for p, c := range chunks {
		if p == 3 {
			require.ErrorContains(t, c.Err, "WRONGTYPE")
			require.ErrorContains(t, c.Err, "choose another prefix")
		} else {
			require.NoError(t, c.Err)
		}
	}
}

func TestUnknownVersion(t *testing.T) {
	t.Parallel()
	_, client := newReal(t, redisserver.Options{})
	for _, s := range []script{exchangeScript, fleetScript} {
		for _, request := range []string{"\x09", "\x09and more", ""} {
			err := client.rdb.Eval(t.Context(), s.source, []string{"limiter:x"}, "id", request).Err()
			require.ErrorContains(t, err, "unknown request version")
		}
		err := client.rdb.Eval(t.Context(), s.source, []string{"limiter:x"}, "id", "\x01cut short").Err()
		require.Error(t, err)
	}
	require.Zero(t, client.rdb.Exists(t.Context(), "limiter:x").Val())
}

// With any foreign data in the hash the reply is sound, and invalid data counts as
// absent.
func TestRubbishInTheHash(t *testing.T) {
	t.Parallel()
	_, client := newReal(t, redisserver.Options{})
	a, name := id(1, 0), client.names[0]
	rubbish := []string{"", "x", "\xff", string(make([]byte, 23)), string(make([]byte, 25))}
	for _, size := range []int{8, 16, 24, 48, 72} {
		for _, fill := range []byte{0x00, 0x7f, 0x80, 0xff} {
			rubbish = append(rubbish, string(slices.Repeat([]byte{fill}, size)))
		}
	}
	for _, r := range rubbish {
		require.NoError(t, client.rdb.HSet(t.Context(), name, "kx", r, "ky", r, "d", r, "\x00m", r,
			"\x00n"+string(a[:]), r, "\x00n", r, "", r).Err())
		reply := one(t, client, charge(a, 1, second))
		require.Equal(t, exchange.Applied, reply.Status, "%q", r)
		require.GreaterOrEqual(t, reply.Keys[0].ToGo, int64(second), "%q", r)
		require.EqualValues(t, 1, one(t, client, charge(a, 2, second)).Prev)

		p := member()
		require.NoError(t, client.rdb.HSet(t.Context(), client.fleet, "\x00g", r, "\x00m", r,
			"\x00p", r, "\x00p12345678", r, "\x00p"+string(p.Process[:]), r, "k", r).Err())
		require.Equal(t, 1, callFleet(t, client, *p).Members, "%q", r)
		require.NoError(t, client.rdb.FlushDB(t.Context()).Err())
	}
}

// An answer of another shape is an error for every call, and nothing worse.
func TestForeignServer(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"+OK\r\n", ":1\r\n", "$3\r\nabc\r\n", "$-1\r\n", "*1\r\n:1\r\n", "%1\r\n:1\r\n:2\r\n"} {
		require.Error(t, allFail(t, foreign(t, answer), 1), "%q", answer)
	}
	loading := foreign(t, "-LOADING Redis is loading the dataset in memory\r\n")
	require.True(t, redis.IsLoadingError(allFail(t, loading, 1)))
}

// foreign returns a Client of a server that answers everything with the same.
func foreign(t *testing.T, answer string) *Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closeLater(t, l)
	go serve(l, answer)
	return New(tuned(t, &redis.UniversalOptions{Addrs: []string{l.Addr().String()}, Protocol: 2}), "limiter")
}

// serve answers every read with the same.
func serve(l net.Listener, answer string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			for buf := make([]byte, 1<<16); ; {
				if _, err := conn.Read(buf); err != nil {
					return
				}
				for range 64 { // more than a pipeline has calls
					_, _ = conn.Write([]byte(answer))
				}
			}
		}()
	}
}

// TestPipelinesAreBoundedByKeys: Redis runs a pipeline at a stretch, so no more
// keys travel in one than four full calls have; of calls with few, more do.
func TestPipelinesAreBoundedByKeys(t *testing.T) {
	client := New(tuned(t, &redis.UniversalOptions{Addrs: []string{"127.0.0.1:1"}}), "limiter")
	for keys, want := range map[int]int{0: 40, 1: 40, 26: 16, 127: 4, exchange.MaxRecords: 4} {
		calls := make([]*call, 40)
		for i := range calls {
			calls[i] = &call{keys: keys}
		}
		if got := client.fitting(calls); got != want {
			t.Errorf("%d calls of %d keys travel together, want %d", got, keys, want)
		}
	}
}

// A flood of fresh fields leaves little behind. The time for which state is kept
// travels in the request: here it is a few milliseconds.
func TestFloodLeavesLittleBehind(t *testing.T) {
	t.Parallel()
	_, client := newReal(t, redisserver.Options{})
	var largest int64
	began := time.Now()
	for seq := int64(1); time.Since(began) < time.Second; seq++ {
		c := chunk(id(1, 0), seq)
		for i := range exchange.MaxRecords {
			c.Records = append(c.Records, exchange.Record{Field: fmt.Sprintf("k%d.%d", seq, i), Delta: 1, Attempts: 1000})
		}
		request := c.Encode()
		binary.LittleEndian.PutUint64(request[18:], 20)
		require.NoError(t, client.rdb.Eval(t.Context(), exchangeScript.source, []string{client.names[0]}, c.ID[:], request).Err())
		if seq%16 == 0 && time.Since(began) > 200*time.Millisecond {
			largest = max(largest, client.rdb.HLen(t.Context(), client.names[0]).Val())
			live := int64(float64(seq*exchange.MaxRecords) * 0.02 / time.Since(began).Seconds())
			require.Less(t, largest, 6*live+2000)
		}
	}
	require.Positive(t, largest)
}

// Sequence fields of processes that are gone do not stay either, as long as somebody
// calls when the replies ask for it.
func TestOldSequenceNumbersAreSwept(t *testing.T) {
	t.Parallel()
	server, client := newTold(t, "")
	one(t, client, charge(id(99, 1), 1, 2*keepSequence.Microseconds()))
	for p := range byte(10) {
		one(t, client, chunk(id(p, 0), 1))
	}
	now := epoch + (keepSequence + time.Second).Microseconds()
	for seq := int64(1); now < epoch+(keepSequence+10*time.Minute).Microseconds(); seq++ {
		server.set(now)
		c := chunk(id(99, 0), seq)
		one(t, client, c)
		now += c.Reply.Wait.Microseconds()
	}
	names, err := client.rdb.HKeys(t.Context(), client.names[0]).Result()
	require.NoError(t, err)
	require.Len(t, names, 3, "the meta field, the newcomer, and the state")
}

// TestStatesAreSweptWithinTenMinutes: after a flood, for any traffic, if a process calls
// again after Reply.Wait.
func TestStatesAreSweptWithinTenMinutes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		keys  int
		calls func(wait time.Duration) time.Duration // until the next one
	}{
		"few keys, when asked for":    {5, func(wait time.Duration) time.Duration { return wait }},
		"some keys, when asked for":   {300, func(wait time.Duration) time.Duration { return wait }},
		"many keys, when asked for":   {longtest.Choose(1000, 4000, 20_000), func(wait time.Duration) time.Duration { return wait }},
		"many keys, and busy":         {longtest.Choose(300, 1000, 20_000), func(time.Duration) time.Duration { return 300 * time.Millisecond }},
		"a few keys, and little else": {50, func(time.Duration) time.Duration { return 25 * time.Second }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, client := newTold(t, "")
			now := time.UnixMicro(epoch)
			seq := int64(0)
			call := func(records ...exchange.Record) *exchange.Chunk {
				seq++
				c := chunk(id(1, 0), seq, records...)
				one(t, client, c)
				return c
			}
			c := call(exchange.Record{Field: "klong", Delta: 7200 * second}) // for which the hash lives
			for i := 0; i < tc.keys; i += exchange.MaxRecords {
				var records []exchange.Record
				for j := i; j < min(i+exchange.MaxRecords, tc.keys); j++ {
					records = append(records, exchange.Record{Field: "k" + strconv.Itoa(j), Delta: second})
				}
				c = call(records...)
			}
			wait, left := c.Reply.Wait, func() int {
				n, err := client.rdb.HLen(t.Context(), client.names[0]).Result()
				require.NoError(t, err)
				return int(n)
			}
			require.Equal(t, tc.keys+3, left())
			for now.Before(time.UnixMicro(epoch).Add(10 * time.Minute)) {
				now = now.Add(tc.calls(wait))
				server.set(now.UnixMicro())
				wait = call().Reply.Wait
			}
			require.Equal(t, 3, left(), "the meta field, the lane's own, and the one that is not full")
		})
	}
}

// TestSweepLooksAtFewFields: a call sweeps the fields due since the last one, of a pass
// in 400 s, and at most 600, with empty buckets.
func TestSweepLooksAtFewFields(t *testing.T) {
	t.Parallel()
	_, client := newReal(t, redisserver.Options{})
	ctx, name := t.Context(), client.names[0]
	const keys = 50_000
	for since, want := range map[time.Duration]float64{time.Second: 190, 2 * time.Second: 380, time.Hour: 460} {
		require.NoError(t, client.rdb.Del(ctx, name).Err())
		now := time.Now().UnixMicro()
		over := string(packed(now-300*second, 0, now-300*second, 0, 0))
		for i := 0; i < keys; i += 1000 {
			var fields []any
			for j := range 1000 {
				fields = append(fields, "k"+strconv.Itoa(i+j), over)
			}
			require.NoError(t, client.rdb.HSet(ctx, name, fields...).Err())
		}
		now = time.Now().UnixMicro() // the fields may have taken a while
		meta := packed(0, now/1000+60_000, now, 0, now-since.Microseconds(), 0, keys)
		require.NoError(t, client.rdb.HSet(ctx, name, "\x00m", append(meta, make([]byte, 16)...)).Err())
		c := charge(id(1, 0), 1, second)
		c.Records[0].Field = "k1"
		one(t, client, c)
		c = charge(id(1, 0), 2, second) // nothing is added
		one(t, client, c)
		left := client.rdb.HLen(ctx, name).Val()
		require.InDelta(t, keys-want, float64(left), 300+want/2, since) // a call sees whole buckets of the table
		require.InDelta(t, float64(400*second)*150/keys, float64(c.Reply.Wait.Microseconds()), 200_000)
	}
}

// TestSweepEndsInTime: on a real table, of which a part is empty, a pass with calls after
// each Reply.Wait ends in time. Time passes by changes of the last sweep's instant in the
// state.
func TestSweepEndsInTime(t *testing.T) {
	t.Parallel()
	_, client := newReal(t, redisserver.Options{})
	ctx, name := t.Context(), client.names[0]
	for _, keys := range []int{20, 3000, longtest.Choose(5000, 17_000, 70_000)} { // just above sizes at which the table doubles
		require.NoError(t, client.rdb.Del(ctx, name).Err())
		now := time.Now().UnixMicro()
		over := string(packed(now-300*second, 0, now-300*second, 0, 0))
		one(t, client, charge(id(1, 0), 1, 3600*second))
		for i := 0; i < keys; i += 1000 {
			var fields []any
			for j := range min(1000, keys-i) {
				fields = append(fields, "k"+strconv.Itoa(i+j), over)
			}
			require.NoError(t, client.rdb.HSet(ctx, name, fields...).Err())
		}
		rewind := func(by time.Duration, kept int) {
			meta, err := client.rdb.HGet(ctx, name, "\x00m").Bytes()
			require.NoError(t, err)
			swept := int64(binary.LittleEndian.Uint64(meta[32:])) - by.Microseconds()
			binary.LittleEndian.PutUint64(meta[32:], uint64(swept))
			if kept > 0 {
				binary.LittleEndian.PutUint64(meta[48:], uint64(kept))
			}
			require.NoError(t, client.rdb.HSet(ctx, name, "\x00m", meta).Err())
		}
		rewind(0, keys+2)
		passed, seq := time.Duration(0), int64(1)
		for passed < 7*time.Minute {
			seq++
			c := chunk(id(1, 0), seq)
			one(t, client, c)
			rewind(c.Reply.Wait, 0)
			passed += c.Reply.Wait
		}
		require.EqualValues(t, 3, client.rdb.HLen(ctx, name).Val(), "of %d keys", keys)
	}
}

// TestExpiry: the hashes of a fleet that has left are gone a minute after the last key
// is full. While it lives, its own hash is renewed before it can expire.
func TestExpiry(t *testing.T) {
	t.Parallel()
	server, client := newTold(t, "")
	now := time.UnixMicro(epoch)
	a := id(1, 0)

	_, real := newReal(t, redisserver.Options{}) // whose clock is its own
	one(t, real, charge(a, 1, second))
	callFleet(t, real, *member())
	require.InDelta(t, 71, real.rdb.PTTL(t.Context(), real.names[0]).Val().Seconds(), 11)
	require.InDelta(t, 130, real.rdb.PTTL(t.Context(), real.fleet).Val().Seconds(), 11)

	for seq := int64(1); seq < 60; seq++ {
		one(t, client, charge(a, seq, second))
		require.InDelta(t, (71 * time.Second).Seconds(), server.ttl(t, client.names[0]).Seconds(), 11)
		callFleet(t, client, *member())
		require.InDelta(t, 130, server.ttl(t, client.fleet).Seconds(), 11, "a minute longer than members are known")
		now = now.Add(17 * time.Second)
		server.set(now.UnixMicro())
	}
	month := 30 * 24 * time.Hour
	one(t, client, charge(a, 60, month.Microseconds()))
	require.InDelta(t, (month + 70*time.Second).Seconds(), server.ttl(t, client.names[0]).Seconds(), 12)
	told := *member()
	told.Announce = []exchange.News{{Field: "kx", ToGo: month.Microseconds()}}
	callFleet(t, client, told)
	require.InDelta(t, (month + 70*time.Second).Seconds(), server.ttl(t, client.fleet).Seconds(), 12)
	now = now.Add(month - time.Second)
	server.set(now.UnixMicro())
	left := *member()
	left.Leave = true
	callFleet(t, client, left)
	require.InDelta(t, 70, server.ttl(t, client.fleet).Seconds(), 12)
	server.set(now.Add(82 * time.Second).UnixMicro())
	require.Zero(t, server.ttl(t, client.names[0]))
	require.Zero(t, server.ttl(t, client.fleet))
}

func TestCluster(t *testing.T) {
	t.Parallel()
	cluster := servertest.Cluster(t)
	client := New(tuned(t, &redis.UniversalOptions{Addrs: cluster.Addrs()}), "limiter")
	require.NoError(t, try(t.Context(), client, 1))
	used := 0
	for _, n := range cluster.Nodes[:3] {
		rdb := n.Client()
		closeLater(t, rdb)
		if rdb.DBSize(t.Context()).Val() >= partitions/3 {
			used++
		}
	}
	require.Equal(t, 3, used, "every master has its part")

	require.NoError(t, cluster.Nodes[0].Kill())
	served, seq := 0, int64(2)
	require.Eventually(t, func() bool {
		chunks := everything(client, seq)
		for _, c := range chunks {
			c.Floors = true // a promoted replica may not have the last round
		}
		client.Exchange(within(t, time.Second), nil, chunks)
		seq++
		served = 0
		for _, c := range chunks {
			if c.Err == nil {
				served++
			}
		}
		return served == len(chunks)
	}, 30*time.Second, 100*time.Millisecond, "%d served", served)
}

// While a master hangs, the rest of a Cluster is served.
func TestClusterWithAHungMaster(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs without -short, where only TestCluster starts a Cluster")
	}
	servertest.Need(t)
	cluster, err := redisserver.StartCluster(redisserver.Options{Args: []string{"--cluster-node-timeout", "60000"}})
	require.NoError(t, err)
	closeLater(t, cluster)
	client := New(tuned(t, &redis.UniversalOptions{Addrs: cluster.Addrs(), ReadTimeout: 50 * time.Millisecond}), "limiter")
	require.NoError(t, try(t.Context(), client, 1))
	require.NoError(t, cluster.Nodes[0].Freeze())
	for seq := int64(2); seq < 4; seq++ {
		began, chunks, failed := time.Now(), everything(client, seq), 0
		client.Exchange(within(t, 10*time.Second), nil, chunks)
		for _, c := range chunks {
			if c.Err != nil {
				failed++
			}
		}
		t.Logf("%d of %d failed in %v", failed, len(chunks), time.Since(began))
		require.InDelta(t, partitions/3, failed, 1)
	}
	require.NoError(t, cluster.Nodes[0].Thaw())
	require.Eventually(t, func() bool {
		chunks := everything(client, 4)
		client.Exchange(within(t, time.Second), nil, chunks)
		return !slices.ContainsFunc(chunks, func(c *exchange.Chunk) bool { return c.Err != nil })
	}, 5*time.Second, 50*time.Millisecond)
}

func TestSentinel(t *testing.T) {
	t.Parallel()
	s := servertest.Sentinel(t)
	client := New(tuned(t, &redis.UniversalOptions{Addrs: s.Addrs(), MasterName: redisserver.MasterName}), "limiter")
	require.NoError(t, try(t.Context(), client, 1))
	require.NoError(t, s.Primary.Kill())
	require.Eventually(t, func() bool { return try(within(t, time.Second), client, 2) == nil },
		30*time.Second, 100*time.Millisecond)
}

func TestRing(t *testing.T) {
	t.Parallel()
	one, _ := newReal(t, redisserver.Options{})
	two, _ := newReal(t, redisserver.Options{})
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"one": one.Addr(), "two": two.Addr()}})
	closeLater(t, ring)
	client := New(ring, "limiter")
	require.NoError(t, try(t.Context(), client, 1))
}

// countReloads is a client that counts reloads, as a Cluster's.
type countReloads struct {
	redis.UniversalClient
	n atomic.Int64
}

func (c *countReloads) ReloadState(context.Context) { c.n.Add(1) }

func TestTopologyIsReloadedNowAndThen(t *testing.T) {
	t.Parallel()
	rdb := &countReloads{UniversalClient: tuned(t, &redis.UniversalOptions{Addrs: []string{"127.0.0.1:1"}})}
	client := New(rdb, "limiter")
	began := time.Now()
	for time.Since(began) < reloadEvery+100*time.Millisecond {
		require.Error(t, try(t.Context(), client, 1))
	}
	require.EqualValues(t, 2, rdb.n.Load())
}

func TestTuneFillsOnlyWhatIsEmpty(t *testing.T) {
	t.Parallel()
	o := &redis.UniversalOptions{PoolSize: 77, ReadTimeout: time.Minute, MaxRetries: 5}
	require.Same(t, o, Tune(o))
	require.Equal(t, []any{77, time.Minute, 5}, []any{o.PoolSize, o.ReadTimeout, o.MaxRetries})
	require.Equal(t, []any{300 * time.Millisecond, 1, true}, []any{o.WriteTimeout, o.DialerRetries, o.ContextTimeoutEnabled})
	require.Equal(t, -1, Tune(&redis.UniversalOptions{}).MaxRetries)
}

// Many goroutines share a Client and a Memory.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	_, client := newReal(t, redisserver.Options{})
	for _, e := range []exchange.Exchanger{client, newTwin()} {
		errs := make(chan error)
		for g := range byte(8) {
			go func() {
				var all []error
				for seq := range int64(50) {
					c, f := charge(id(g, 0), seq+1, 5), member()
					e.Exchange(t.Context(), f, []*exchange.Chunk{c})
					all = append(all, c.Err, f.Err)
				}
				errs <- errors.Join(all...)
			}()
		}
		for range 8 {
			require.NoError(t, <-errs)
		}
	}
}

// TestWrappedClientIsKnown: a wrapper of a client, as for tracing, hides neither a
// Cluster, nor that there is one server, and its hashes are the same.
func TestWrappedClientIsKnown(t *testing.T) {
	t.Parallel()
	alone := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"one": "127.0.0.1:1"}})
	for _, c := range []interface{ Close() error }{alone, cluster, ring} {
		closeLater(t, c)
	}
	type wrapper struct{ redis.UniversalClient }
	type named struct {
		name   string
		Client redis.UniversalClient
		redis.UniversalClient
	}
	type secret struct {
		redis.UniversalClient
		hidden redis.UniversalClient
	}
	var circle wrapper
	circle.UniversalClient = &circle
	for name, tc := range map[string]struct {
		client          redis.UniversalClient
		single, reloads bool
	}{
		"a client":             {alone, true, false},
		"a Cluster":            {cluster, false, true},
		"a Ring":               {ring, false, false},
		"a client, wrapped":    {wrapper{alone}, true, false},
		"a Cluster, wrapped":   {wrapper{cluster}, false, true},
		"a Cluster, twice":     {&named{"x", wrapper{cluster}, nil}, false, true},
		"a Ring, wrapped":      {&wrapper{ring}, false, false},
		"nobody can tell":      {secret{nil, alone}, false, false},
		"itself":               {&circle, false, false},
		"nobody is in there":   {wrapper{}, false, false},
		"nor behind a pointer": {(*wrapper)(nil), false, false},
	} {
		c := New(tc.client, "limiter")
		require.Equal(t, tc.single, c.single, name)
		require.Equal(t, tc.reloads, c.cluster != nil, name)
		require.Equal(t, New(alone, "limiter").names, c.names, name)
	}
}
