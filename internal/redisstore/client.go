// Package redisstore keeps the shared state of internal/exchange in Redis: one
// hash for each partition and one for the fleet, changed by two scripts.
package redisstore

import (
	"context"
	"fmt"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

// The sizes of a pipeline, in keys. Redis serves no other client before it has run
// all that it read from a connection, and every pipeline costs it a read and a
// write. A Cluster's pipeline is split among its masters, and a hung master costs
// each pipeline a timeout.
const (
	callKeys       = 8 // cost of a call without records, in keys
	perExec        = 4 * (exchange.MaxRecords + callKeys)
	perExecCluster = 16 * (exchange.MaxRecords + callKeys)
)

// wrappers is the largest number of structures around a client that are searched.
const wrappers = 8

// reloadEvery is the least time between two reloads of a Cluster's topology.
const reloadEvery = 500 * time.Millisecond

// Client is an Exchanger that keeps the shared state in Redis. It is safe for
// concurrent use. The context and the options of its go-redis client bound the
// time of a call.
type Client struct {
	rdb     redis.UniversalClient
	names   []string // of the partitions' hashes
	fleet   string   // name of the fleet's hash
	perExec int      // keys of a pipeline
	single  bool     // true if one server is behind it: a failed connection fails all calls

	cluster    reloader
	lastReload atomic.Int64 // Unix nanoseconds
}

// reloader is a Cluster client. Because it does not reload its topology after an
// unanswered pipeline, it alone would take up to 60 s to notice a failover.
type reloader interface{ ReloadState(ctx context.Context) }

var _ exchange.Exchanger = (*Client)(nil)

// Open returns rdb itself if it is an [exchange.Store], otherwise a [Client].
func Open(rdb redis.UniversalClient, prefix string) exchange.Store {
	if s, ok := rdb.(exchange.Store); ok {
		return s
	}
	return New(rdb, prefix)
}

// New returns a Client whose keys in Redis begin with the prefix and a colon. It
// does not dial.
func New(rdb redis.UniversalClient, prefix string) *Client {
	c := &Client{rdb: rdb, fleet: fleetName(prefix), names: partitionNames(prefix), perExec: perExec}
	c.cluster, _ = unwrapped[reloader](rdb, wrappers)
	_, c.single = unwrapped[*redis.Client](rdb, wrappers)
	if c.cluster != nil {
		c.perExec = perExecCluster
	}
	return c
}

// unwrapped returns client as a T, or the first T in the exported or embedded
// fields of structures around it, at most depth structures deep.
func unwrapped[T any](client any, depth int) (found T, ok bool) {
	if found, ok = client.(T); ok || depth == 0 {
		return found, ok
	}
	v := reflect.ValueOf(client)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct || v.Type().PkgPath() == reflect.TypeFor[redis.Client]().PkgPath() {
		return found, false
	}
	for _, f := range v.Fields() {
		if f.CanInterface() && f.Type().Implements(reflect.TypeFor[redis.UniversalClient]()) {
			if found, ok = unwrapped[T](f.Interface(), depth-1); ok {
				return found, true
			}
		}
	}
	return found, false
}

// Partitions returns the number of partitions.
func (c *Client) Partitions() int { return len(c.names) }

// Exchange implements [Exchanger]. The chunks travel a few to a pipeline, one
// pipeline after the other.
func (c *Client) Exchange(ctx context.Context, fleet *exchange.FleetCall, chunks []*exchange.Chunk) {
	calls := c.calls(fleet, chunks)
	for len(calls) > 0 {
		n := c.fitting(calls)
		err := ctx.Err()
		if err == nil {
			err = c.exec(ctx, calls[:n])
			calls = calls[n:]
		}
		if err != nil && (c.single || ctx.Err() != nil) {
			failAll(calls, err) // a hung server costs one timeout, not many
			return
		}
	}
}

// fitting returns the number of calls in the next pipeline.
func (c *Client) fitting(calls []*call) (n int) {
	for keys := 0; n < len(calls); n++ {
		if keys += calls[n].keys + callKeys; keys > c.perExec && n > 0 {
			break
		}
	}
	return n
}

// calls returns the calls of a batch, without those that a check refuses.
func (c *Client) calls(fleet *exchange.FleetCall, chunks []*exchange.Chunk) []*call {
	calls := make([]*call, 0, len(chunks)+1)
	if fleet != nil {
		if fleet.Err = fleet.Check(); fleet.Err == nil {
			calls = append(calls, newFleetCall(c.fleet, fleet))
		}
	}
	for _, chunk := range chunks {
		if chunk.Err = chunk.Check(len(c.names)); chunk.Err == nil {
			calls = append(calls, newChunkCall(c.names[chunk.Partition], chunk))
		}
	}
	return calls
}

// exec executes one pipeline. It returns the last error of the connection or the
// server, rather than of one call.
func (c *Client) exec(ctx context.Context, calls []*call) (broken error) {
	send(ctx, c.rdb.Pipeline(), calls, (*call).byHash)
	if unknown := unknownScript(calls); len(unknown) > 0 {
		send(ctx, c.rdb.Pipeline(), unknown, (*call).bySource)
	}
	for _, k := range calls {
		if ofTopology(k.err) {
			c.reload(ctx)
		}
		if ofServer(k.err) {
			broken = k.err
		}
		k.finish()
	}
	return broken
}

// reload has a Cluster client reload its topology, at most every reloadEvery.
func (c *Client) reload(ctx context.Context) {
	if c.cluster == nil {
		return
	}
	now, last := time.Now().UnixNano(), c.lastReload.Load()
	if now-last >= int64(reloadEvery) && c.lastReload.CompareAndSwap(last, now) {
		c.cluster.ReloadState(ctx)
	}
}

// call is one script call of a pipeline.
type call struct {
	script script
	args   []any // key, ID, request
	keys   int   // records of the request
	cmd    once
	err    error
	accept func(reply string) error
	fail   func(error)
}

func newChunkCall(name string, c *exchange.Chunk) *call {
	return &call{
		script: exchangeScript,
		args:   []any{name, c.ID[:], c.Encode()},
		keys:   len(c.Records),
		accept: func(s string) error { return c.Reply.Decode(s, len(c.Records)) },
		fail:   func(err error) { c.Err = err },
	}
}

func newFleetCall(name string, f *exchange.FleetCall) *call {
	return &call{
		script: fleetScript,
		args:   []any{name, f.Process[:], f.Encode()},
		accept: f.Reply.Decode,
		fail:   func(err error) { f.Err = err },
	}
}

func (k *call) byHash() []any   { return append([]any{"evalsha", k.script.hash, 1}, k.args...) }
func (k *call) bySource() []any { return append([]any{"eval", k.script.source, 1}, k.args...) }

// send executes the calls in one pipeline and sets the error of each.
func send(ctx context.Context, pipe redis.Pipeliner, calls []*call, args func(*call) []any) {
	for _, k := range calls {
		k.cmd = once{redis.NewCmd(ctx, args(k)...)}
		k.cmd.SetFirstKeyPos(3)
		_ = pipe.Process(ctx, k.cmd) // only queues
	}
	err := execute(ctx, pipe)
	for _, k := range calls {
		k.err = outcome(k.cmd, err)
	}
}

// execute executes a pipeline. It returns a panic as an error, because go-redis
// panics if a reply claims a length that no slice can have.
func execute(ctx context.Context, pipe redis.Pipeliner) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the redis client panics: %v", p)
		}
	}()
	_, err = pipe.Exec(ctx)
	return err
}

// once is a command that go-redis must not repeat by itself: after a timeout it may
// have been applied, and a repetition would prolong the wait.
type once struct{ *redis.Cmd }

// NoRetry implements redis.Cmder.
func (once) NoRetry() bool { return true }

// outcome returns the error of a command of a pipeline that ended with execErr. If
// a connection fails in its handshake (wrong password, no such database), go-redis
// leaves its commands with neither a value nor an error.
func outcome(cmd once, execErr error) error {
	switch {
	case cmd.Err() != nil:
		return cmd.Err()
	case cmd.Val() != nil:
		return nil
	case execErr != nil:
		return execErr
	}
	return errNoReply
}

func unknownScript(calls []*call) (unknown []*call) {
	for _, k := range calls {
		if noScript(k.err) {
			unknown = append(unknown, k)
		}
	}
	return unknown
}

// finish passes the outcome of a call to its caller.
func (k *call) finish() {
	if k.err == nil {
		k.err = k.read()
	}
	if k.err != nil {
		k.fail(explain(k.err))
	}
}

func (k *call) read() error {
	s, ok := k.cmd.Val().(string)
	if !ok {
		return fmt.Errorf("%w: a %T", exchange.ErrReply, k.cmd.Val())
	}
	return k.accept(s)
}

// failAll fails calls that were not sent.
func failAll(calls []*call, err error) {
	for _, k := range calls {
		k.fail(explain(err))
	}
}
