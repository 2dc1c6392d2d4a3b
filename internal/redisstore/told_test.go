package redisstore

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// told is a real Redis whose scripts are told the time: leaps, days,
// and a clock that goes back. Its client, a [Client] like any other, puts
// told_test.lua in front of each script, and the time in front of its ID.
type told struct {
	rdb    *redis.Client
	head   string // what is put in front
	micros atomic.Int64
}

//go:embed told_test.lua
var toldLua string

// withoutStruct makes the scripts run as on a server without the struct library.
const withoutStruct = "local function rawget() end\n"

// toldServer is one server for all of them, and what ends it.
var toldServer struct {
	once  sync.Once
	lent  *redisserver.Server
	err   error
	close func() error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if toldServer.lent != nil {
		if err := toldServer.lent.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// newTold returns one at epoch, and its Client.
func newTold(t testing.TB, head string) (*told, *Client) {
	t.Helper()
	servertest.Need(t)
	toldServer.once.Do(func() { toldServer.lent, toldServer.err = redisserver.Start(redisserver.Options{}) })
	require.NoError(t, toldServer.err)
	s := &told{
		rdb: redis.NewClient(&redis.Options{Addr: toldServer.lent.Addr(), PipelinePoolSize: -1}),

		head: head + toldLua,
	}
	closeLater(t, s.rdb)
	s.set(epoch)
	s.rdb.AddHook(s)
	client := s.client(freshPrefix())
	return s, client
}

// client returns a Client of another prefix by the same clock.
func (s *told) client(prefix string) *Client { return New(s.rdb, prefix) }

func (s *told) set(micros int64) { s.micros.Store(micros) }

// expiries is the hash that has when others expire, in milliseconds of the clock.
const expiries = "expiries"

// ttl returns for how long a hash goes on, by the clock; 0 if it is not there.
func (s *told) ttl(t testing.TB, name string) time.Duration {
	t.Helper()
	exists, err := s.rdb.Exists(t.Context(), name).Result()
	require.NoError(t, err)
	if exists == 0 {
		return 0
	}
	at, err := s.rdb.HGet(t.Context(), expiries, name).Int64()
	require.NoError(t, err)
	return max(0, time.UnixMilli(at).Sub(time.UnixMicro(s.micros.Load())))
}

// wipe loses all that a Client has.
func (s *told) wipe(t testing.TB, c *Client) {
	t.Helper()
	names := append([]string{c.fleet}, c.names...)
	require.NoError(t, s.rdb.Del(t.Context(), names...).Err())
	require.NoError(t, s.rdb.HDel(t.Context(), expiries, names...).Err())
}

// DialHook implements redis.Hook.
func (*told) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (*told) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements redis.Hook.
func (s *told) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		micros := s.micros.Load()
		for _, cmd := range cmds {
			s.rewrite(cmd.Args(), micros)
		}
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			if clock, ok := cmd.(*redis.TimeCmd); ok {
				clock.SetVal(time.UnixMicro(micros))
			}
		}
		return err
	}
}

// rewrite makes the arguments of a script's call those of a script that is told
// the time.
func (s *told) rewrite(args []any, micros int64) {
	switch args[0] {
	case "evalsha":
		args[1] = s.hash(args[1].(string))
	case "eval":
		args[1] = s.head + args[1].(string)
	default:
		return
	}
	args[4] = strconv.FormatInt(micros, 10) + ";" + string(args[4].([]byte))
}

// hash returns the name of a script that is told the time, by that of the script.
func (s *told) hash(of string) string {
	for _, script := range []script{exchangeScript, fleetScript} {
		if script.hash == of {
			sum := sha1.Sum([]byte(s.head + script.source)) // as in newScript
			return hex.EncodeToString(sum[:])
		}
	}
	return of
}
