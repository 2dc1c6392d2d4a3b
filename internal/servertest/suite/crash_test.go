package suite_test

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
)

// claims are replies of absurd lengths, or without an end.
var claims = map[string]string{
	"a string that no memory holds": "$9999999999999\r\n",
	"a string beyond any slice":     "$9223372036854775800\r\n",
	"an array that no memory holds": "*9999999999\r\n",
	"a map that no memory holds":    "%9999999999\r\n",
	"a push that no memory holds":   ">9999999999\r\n",
	"an error that no memory holds": "!9999999999999\r\n",
	"arrays without an end":         strings.Repeat("*2\r\n", 1<<20),
	"attributes without an end":     strings.Repeat("|0\r\n", 1<<20),
	"a line without an end":         "+" + strings.Repeat("x", 1<<22),
}

// claimer listens and answers each command: on each connection first with a
// number of innocent lines, then with nothing but the claim. The connections
// take the numbers in turn.
func claimer(t testing.TB, claim string, innocent ...int) (addr string) {
	return claimerAt(t, "tcp", "127.0.0.1:0", claim, innocent...)
}

func claimerAt(t testing.TB, network, at, claim string, innocent ...int) (addr string) {
	ln, err := net.Listen(network, at)
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for i := 0; ; i++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go answer(c, innocent[i%len(innocent)], claim)
		}
	}()
	return ln.Addr().String()
}

func answer(c net.Conn, innocent int, claim string) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if line[0] != '*' {
			continue
		}
		says := claim
		if innocent > 0 {
			innocent, says = innocent-1, "-ERR unknown command\r\n"
		}
		if _, err := c.Write([]byte(says)); err != nil {
			return
		}
	}
}

// TestHostileServerCrashesNothing: a server that claims absurd lengths, in the handshake
// or later, is an outage with a clear Status.Err; decisions go on.
func TestHostileServerCrashesNothing(t *testing.T) {
	t.Parallel()
	for name, claim := range claims {
		for innocent := range 3 {
			t.Run(fmt.Sprintf("%s, after %d replies", name, innocent), func(t *testing.T) {
				t.Parallel()
				// A round may have many commands, and its error is that of the
				// first. With one innocent line, for the handshake, the claim
				// is the reply to the first.
				addr := claimer(t, claim, innocent, 1)
				l := start(t, tuned(addr), limiter.Config{Limit: slow, Processes: 2})
				fails(t, name, "the server is no Redis", func() error { return l.Status().Err })
				require.Equal(t, limiter.Connecting, l.Status().State)
				require.True(t, l.Allow("k"))
			})
		}
	}
}

// A client without the guard survives panics: only exhausted memory ends the process.
func TestPanicOfTheClientIsAnError(t *testing.T) {
	t.Parallel()
	for _, innocent := range []int{1, 2, 3} {
		l := start(t, untuned(claimer(t, "$9223372036854775800\r\n", innocent)), limiter.Config{Limit: slow, Processes: 2})
		fails(t, fmt.Sprintf("after %d replies", innocent), "panics", func() error { return l.Status().Err })
		require.True(t, l.Allow("k"))
	}
}

// Each kind of client, and each kind of its connections, is guarded by Tune's dialer.
func TestTuneGuardsEveryConnection(t *testing.T) {
	t.Parallel()
	claim := claims["an array that no memory holds"]
	addr := claimer(t, claim, 0)
	path := claimerAt(t, "unix", filepath.Join(t.TempDir(), "s"), claim, 0)
	client := func(addr string, change func(*redis.UniversalOptions)) redis.UniversalClient {
		o := tuned(addr)
		change(o)
		return redis.NewUniversalClient(o)
	}
	clients := map[string]redis.UniversalClient{
		"one server":  redis.NewUniversalClient(tuned(addr)),
		"unix socket": redis.NewUniversalClient(tuned(path)),
		"RESP2":       client(addr, func(o *redis.UniversalOptions) { o.Protocol = 2 }),
		"login":       client(addr, func(o *redis.UniversalOptions) { o.Username, o.Password = "u", "p" }),
		"sentinels":   client(addr, func(o *redis.UniversalOptions) { o.MasterName = "m" }),
		"replicas":    client(addr, func(o *redis.UniversalOptions) { o.MasterName, o.ReadOnly, o.RouteRandomly = "m", true, true }),
		"cluster":     client(addr, func(o *redis.UniversalOptions) { o.IsClusterMode = true }),
		"ring": redis.NewRing(&redis.RingOptions{
			Addrs: map[string]string{"one": addr}, Dialer: tuned().Dialer, MaxRetries: -1,
			HeartbeatFrequency: time.Hour,
		}),
	}
	for _, name := range slices.Sorted(maps.Keys(clients)) {
		fails(t, name, "no Redis, or a hostile one", func() error { return clients[name].Get(t.Context(), "k").Err() })
		_ = clients[name].Close()
	}
}
