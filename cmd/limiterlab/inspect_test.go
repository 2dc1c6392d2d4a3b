package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/redisstore"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// look runs the subcommand and returns what it prints.
func look(t *testing.T, want int, args ...string) string {
	t.Helper()
	var stdout, stderr strings.Builder
	code := run(t.Context(), append([]string{inspectCommand}, args...), &stdout, &stderr)
	require.Equal(t, want, code, stdout.String()+stderr.String())
	if code == exitOK {
		require.Empty(t, stderr.String())
		return stdout.String()
	}
	require.Empty(t, stdout.String())
	return stderr.String()
}

// fleetOf is a process of a fleet that shares 60 tokens an hour; it has taken
// some of three keys, the last of them long.
func fleetOf(t *testing.T, client redis.UniversalClient, prefix string) (longKey string) {
	t.Cleanup(func() { client.Close() })
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(60, time.Hour), Redis: client, Prefix: prefix, Processes: 1, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	longKey = strings.Repeat("long ", 20)
	l.AllowN("user:42", 20)
	l.Charge("deep", 90)
	l.AllowN(longKey, 10)
	require.NoError(t, l.Sync(t.Context()))
	return longKey
}

func TestInspect(t *testing.T) {
	server := miniredis.RunT(t)
	url := "redis://" + server.Addr()
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{server.Addr()}}))
	longKey := fleetOf(t, client, "fleet")
	of := func(key string) string {
		return look(t, exitOK, "-redis", url, "-prefix", "fleet", key)
	}
	require.Regexp(t, `^"user:42" under the prefix "fleet", at 30/h\n\nlevel          30\.0 of 30 tokens\n`,
		look(t, exitOK, "-redis", url, "-prefix", "fleet", "-limit", "30/h", "user:42"), "what is left stays left, at most the burst")
	for key, patterns := range map[string][]string{
		"user:42": {
			`^"user:42" under the prefix "fleet", at 60/h, the limit of the last report\n\nlevel          40\.\d of 60 tokens\n`,
			`\nfull           in (20m0s|19m5\S+)\n`,
			`\ndemand         \S+ tokens per second requested from the whole fleet, \S+ × the limit\n`,
			`\nlast report    \S+ ago\n`,
			`\nwhere          field "kuser:42" of fleet:2:16:\{\d+-\d+\}\n`,
			`\nfleet          processes: 1, silent: 0\n {15}[0-9a-f]{16}  seen \S+ ago\n$`,
		},
		"deep":  {`\nlevel          -(30\.0|29\.9) of 60 tokens\ndebt           (30\.0|29\.9) tokens\nnext token     in 3\dm\S+, by one bucket`},
		longKey: {`\nlevel          50\.\d of 60 tokens\n`, `\nwhere          field "d`},
		"fresh": {`\nlevel          full\n`, `Redis knows nothing of this key`},
	} {
		got := of(key)
		for _, p := range patterns {
			if !regexp.MustCompile(p).MatchString(got) {
				t.Errorf("%q: %s is not in\n%s", key, p, got)
			}
		}
	}
}

// TestInspectInWords has the example of docs/lab.md, and states that it lacks.
func TestInspectInWords(t *testing.T) {
	o := inspectOptions{prefix: "limiter", interval: 100 * time.Millisecond, key: "user:42"}
	perMinute := exchange.Limit{Full: 60e6, Burst: 100}
	guide, err := os.ReadFile("../../docs/lab.md")
	require.NoError(t, err)
	require.Contains(t, string(guide), "```\n"+o.describe(redisstore.Inspection{
		Hash: "limiter:2:16:{3-11205}", Exists: true,
		Key: &redisstore.KeyInspection{ToGo: 62400 * time.Millisecond, Demand: 3.21, Written: 87 * time.Millisecond, Limit: perMinute},
		Fleet: []redisstore.MemberInspection{
			{Process: [8]byte{0x5c, 0x1d, 0x6f, 0x0e, 0x9a, 0x7b, 0x23, 0x84}, Seen: 12 * time.Millisecond},
			{Process: [8]byte{0xe0, 0x7b, 0x1c, 0x52, 0xaa, 0x90, 0x4d, 0x1f}, Seen: 64 * time.Millisecond},
			{Process: [8]byte{0x13, 0xf8, 0xd2, 0xb9, 0x4c, 0x6e, 0x7a, 0x05}, Seen: 21340 * time.Millisecond},
		},
	})+"```\n")
	for togo, want := range map[time.Duration]string{
		-time.Hour:               "level          100.0 of 100 tokens\nfull           now\n",
		30 * time.Second:         "level          50.0 of 100 tokens\nfull           in 30s\n",
		time.Minute:              "level          0.0 of 100 tokens\nnext token     in 600ms, by one bucket for the whole fleet\nfull           in 1m0s\n",
		60600 * time.Millisecond: "level          -1.0 of 100 tokens\ndebt           1.0 tokens\nnext token     in 1.2s,",
	} {
		got := o.describe(redisstore.Inspection{Key: &redisstore.KeyInspection{ToGo: togo, Limit: perMinute}})
		if !strings.Contains(got, want) {
			t.Errorf("%v to go: %q is not in\n%s", togo, want, got)
		}
	}
	require.Contains(t, o.describe(redisstore.Inspection{}), "fleet          no process: all have left\n")
}

func TestInspectSaysWhatIsWrong(t *testing.T) {
	server := miniredis.RunT(t)
	url := "redis://" + server.Addr()
	require.Contains(t, look(t, exitFailed, "-redis", url, "-limit", "60/h", "x"), `there is nothing under the prefix "limiter"`)
	require.NoError(t, server.Set("limiter:2:fleet:{f}", "theirs"))
	require.Contains(t, look(t, exitFailed, "-redis", url, "-limit", "60/h", "x"), "the limiter's key holds something else")
	server.Close()
	require.Contains(t, look(t, exitFailed, "-redis", url, "-limit", "60/h", "x"), "connection refused")
}

func TestInspectOptions(t *testing.T) {
	for args, want := range map[string]string{
		"-limit 1/s":                             "want one key after the flags, but 0 were given",
		"-limit 1/s x y":                         "but 2 were given",
		"-limit unlimited x":                     "has no state",
		"-limit x x":                             "no time given",
		"-limit 1/s -interval 0s x":              "-interval must be above 0",
		"-limit 1/s -redis nonsense x":           "-redis: ",
		"-limit 1/s -cluster -sentinel primus x": "exclude each other",
		"-redis redis://u:1/secret@here x":       "-redis: limiter: URL of Redis: path or query: has an @",
		"-cluster -redis sentinel://here/name x": "-cluster is not for the URL of Sentinels",
		"-cluster -redis /run/redis.sock x":      "-cluster is not for a socket",
		"-nonsense":                              "not defined: -nonsense",
	} {
		got := look(t, exitUsage, strings.Fields(args)...)
		if strings.Contains(got, "secret") || !strings.Contains(got, want) || !strings.Contains(got, "limiterlab inspect -h") {
			t.Errorf("%s: %q is not in %q", args, want, got)
		}
	}
	require.Contains(t, look(t, exitOK, "-h"), "Usage: limiterlab inspect [flags] KEY")
}

// TestInspectTakesEveryURL: of one server: by TCP without a scheme, and by a socket, with a
// password.
func TestInspectTakesEveryURL(t *testing.T) {
	socket := t.TempDir() + "/redis.sock"
	server := servertest.Server(t, redisserver.Options{Password: "pw", Args: []string{"--unixsocket", socket}})
	client, err := limiter.ClientFromURL("unix://:pw@" + socket)
	require.NoError(t, err)
	fleetOf(t, client, "api")
	for _, url := range []string{"redis://:pw@" + server.Addr() + "/0?read_timeout=2s", "unix://:pw@" + socket} {
		got := look(t, exitOK, "-redis", url, "-prefix", "api", "-limit", "60/h", "user:42")
		require.Regexp(t, `level          40\.\d of 60 tokens\n`, got)
	}
	require.Contains(t, look(t, exitFailed, "-redis", server.Addr(), "-limit", "60/h", "x"), "NOAUTH")

	t.Setenv("REDIS_URL", "redis://:pw@"+server.Addr())
	require.Regexp(t, `level          40\.\d of 60 tokens\n`, look(t, exitOK, "-prefix", "api", "-limit", "60/h", "user:42"))
	t.Setenv("REDIS_URL", "redis://u:1/secret@here")
	got := look(t, exitUsage, "x")
	require.Contains(t, got, "REDIS_URL: limiter: URL of Redis: path or query: has an @")
	require.NotContains(t, got, "secret")
}

func TestInspectCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("runs without -short: a Cluster takes seconds to start")
	}
	cluster := servertest.Cluster(t)
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: cluster.Addrs()}))
	fleetOf(t, client, "fleet")
	args := []string{"-redis", "redis://" + cluster.Addrs()[0], "-prefix", "fleet", "-limit", "60/h", "user:42"}
	require.Regexp(t, `level          40\.\d of 60 tokens\n`, look(t, exitOK, append([]string{"-cluster"}, args...)...))
	require.Contains(t, look(t, exitFailed, args...), "this is a node of a Redis Cluster: use -cluster")
	for _, url := range []string{"redis://" + strings.Join(cluster.Addrs(), ","), cluster.Addrs()[0] + "," + cluster.Addrs()[1], "redis://" + cluster.Addrs()[0] + "?cluster=true"} {
		require.Regexp(t, `level          40\.\d of 60 tokens\n`, look(t, exitOK, "-redis", url, "-prefix", "fleet", "-limit", "60/h", "user:42"), url)
	}
	alone := servertest.Server(t, redisserver.Options{})
	require.Contains(t, look(t, exitFailed, "-cluster", "-redis", "redis://"+alone.Addr(), "-limit", "60/h", "x"), "leave -cluster out")
}

func TestInspectSentinel(t *testing.T) {
	if testing.Short() {
		t.Skip("runs without -short: Sentinels take seconds to start")
	}
	s := servertest.Sentinel(t)
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: s.Addrs(), MasterName: redisserver.MasterName}))
	fleetOf(t, client, "fleet")
	for _, args := range [][]string{
		{"-sentinel", redisserver.MasterName, "-redis", "redis://" + s.Addrs()[0]},
		{"-sentinel", redisserver.MasterName, "-redis", strings.Join(s.Addrs(), ",")},
		{"-redis", "sentinel://" + strings.Join(s.Addrs(), ",") + "/" + redisserver.MasterName},
	} {
		got := look(t, exitOK, append(args, "-prefix", "fleet", "-limit", "60/h", "user:42")...)
		require.Regexp(t, `level          40\.\d of 60 tokens\n`, got, args)
	}
}

// TestInspectTop lists the keys of a fleet that denies one of them.
func TestInspectTop(t *testing.T) {
	server := miniredis.RunT(t)
	url := "redis://" + server.Addr()
	top := func(want int, args ...string) string {
		return look(t, want, append([]string{"-redis", url, "-prefix", "fleet", "-interval", "1m"}, args...)...)
	}
	require.Contains(t, top(exitFailed, "-top", "3"), `there is nothing under the prefix "fleet"`)
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{server.Addr()}}))
	t.Cleanup(func() { client.Close() })
	l, err := limiter.New(limiter.Config{
		Limit: limiter.Per(60, time.Hour), Redis: client, Prefix: "fleet", Processes: 1, SyncInterval: time.Minute, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	require.NoError(t, l.Sync(t.Context()))
	require.Equal(t, "keys under the prefix \"fleet\": 0, processes: 1\n", top(exitOK, "-top", "3"))
	long, hostile := strings.Repeat("long ", 20), "\x1b[31m\xff\u202e\n"
	for key, n := range map[string]int{"often": 600, hostile: 300, long: 40, "once": 1} {
		for range n {
			l.Allow(key)
		}
	}
	require.NoError(t, l.Sync(t.Context()))

	got := top(exitOK, "-top", "3")
	require.Regexp(t, `^keys under the prefix "fleet": 4, processes: 1\n\n`+
		`denied/s   requested/s   × limit   level   limit +last report   key\n`+
		`1.9\d +(2|1.99|1.98) +1\d\d\.\d\d +0\.\d +60/\S+\s+\S+ ago\s+"often"\n`+
		`0.9\d\d?\s+(1|0.99\d?)\s+\S+\s+0\.\d\s+60/\S+\s+\S+ ago\s+"\\x1b\[31m\\xff\\u202e\\n"\n`+
		`0\s+0.13\d?\s+\S+\s+20\.\d\s+60/\S+\s+\S+ ago\s+digest [0-9a-f]{32}\n$`, got)
	require.Equal(t, 1, strings.Count(top(exitOK, "-top", "1"), " ago "))

	var list struct {
		Prefix    string
		Keys      int
		Processes int
		Top       []map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(top(exitOK, "-top", "9", "-json")), &list))
	require.Equal(t, []any{"fleet", 4, 1, 4}, []any{list.Prefix, list.Keys, list.Processes, len(list.Top)})
	require.Equal(t, "often", list.Top[0]["key"])
	require.InDelta(t, 600./300, list.Top[0]["requested_per_second"], 0.1)
	require.InDelta(t, 600./300-1./60, list.Top[0]["denied_per_second"], 0.1)
	require.InDelta(t, 120, list.Top[0]["times_limit"], 5)
	require.InDelta(t, 0, list.Top[0]["level"], 1)
	require.Equal(t, limiter.Per(60, time.Hour).String(), list.Top[0]["limit"])
	require.Equal(t, base64.StdEncoding.EncodeToString([]byte(hostile)), list.Top[1]["key_base64"])
	require.NotContains(t, list.Top[1], "key")
	sum := sha256.Sum256([]byte(long))
	require.Equal(t, hex.EncodeToString(sum[:16]), list.Top[2]["digest"])
	require.Equal(t, "once", list.Top[3]["key"])
}

// TestInspectTopInWords has the example of docs/lab.md.
func TestInspectTopInWords(t *testing.T) {
	o := inspectOptions{prefix: "limiter", interval: 100 * time.Millisecond, top: 3}
	key := func(field string, toGo time.Duration, demand float64, written time.Duration) redisstore.Rank {
		return redisstore.Rank{Field: field, KeyInspection: redisstore.KeyInspection{
			ToGo: toGo, Demand: demand, Written: written, Limit: exchange.Limit{Full: 60e6, Burst: 100},
		}}
	}
	guide, err := os.ReadFile("../../docs/lab.md")
	require.NoError(t, err)
	require.Contains(t, string(guide), "```\n"+o.describeTop(redisstore.TopInspection{
		Keys: 4107, Fleet: make([]redisstore.MemberInspection, 3), Top: []redisstore.Rank{
			key("k203.0.113.7", 60300*time.Millisecond, 48.2, 41*time.Millisecond),
			key("kuser:42", 62400*time.Millisecond, 3.21, 87*time.Millisecond),
			key("d\x5c\x1d\x6f\x0e\x9a\x7b\x23\x84\xe0\x7b\x1c\x52\xaa\x90\x4d\x1f", 31*time.Second, 2.05, 12*time.Millisecond),
		},
	})+"```\n")
}

func TestInspectTopOptions(t *testing.T) {
	for args, want := range map[string]string{
		"-top 0":              "want a number from 1 to 10000",
		"-top x":              "want a number from 1 to 10000",
		"-top 10001":          "want a number from 1 to 10000",
		"-top 5 x":            "leave the key out",
		"-top 5 -limit 1/s":   "-limit is for one key",
		"-json x":             "-json is for -top",
		"-top 5 -interval 0s": "-interval must be above 0",
	} {
		require.Contains(t, look(t, exitUsage, strings.Fields(args)...), want, args)
	}
	require.Contains(t, look(t, exitOK, "-h"), "limiterlab inspect [flags] -top N")
}
