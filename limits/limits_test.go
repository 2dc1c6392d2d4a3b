package limits

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

func file(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "limits.json")
	write(t, path, text)
	return path
}

const good = `{
  "*": "100/1m",
  "user:*": "10/s burst 50",
  "user:vip:*": "50/s burst 50 shadow",
  "user:42": "1000/1m shadow",
  "admin:*": "unlimited",
  "": "1/1h"
}`

// TestMostSpecificRuleFits: the whole key, then the longest beginning, then the
// default; and shadow is of the rule.
func TestMostSpecificRuleFits(t *testing.T) {
	ls, err := Open(t.Context(), File(file(t, good)), Options{})
	require.NoError(t, err)
	defer ls.Close()
	l, err := limiter.New(limiter.Config{Limit: ls.Default(), LimitFor: ls.LimitFor, Shadow: ls.Shadow})
	require.NoError(t, err)
	for _, tc := range []struct {
		key, limit string
		shadow     bool
	}{
		{"user:1", "10/s burst 50", false},
		{"user:", "10/s burst 50", false},
		{"user:42", "1000/1m", true},
		{"user:421", "10/s burst 50", false},
		{"user:vip:1", "50/s burst 50", true},
		{"admin:root", "unlimited", false},
		{"user", "100/1m", false},
		{"other", "100/1m", false},
		{"*", "100/1m", false},
		{"", "1/1h", false},
	} {
		want, err := limiter.ParseLimit(tc.limit)
		require.NoError(t, err)
		if _, ok := ls.LimitFor(tc.key); ok != (want != ls.Default()) {
			t.Errorf("%q: LimitFor is ok: %v", tc.key, ok)
		}
		if got := l.Take(tc.key).Limit; got != want || ls.Shadow(tc.key) != tc.shadow {
			t.Errorf("%q: %v, shadow %v; want %v, %v", tc.key, got, ls.Shadow(tc.key), want, tc.shadow)
		}
	}
}

// TestFaultsSayWhereAndWhy: every fault of a file, with its line, its pattern
// and a reason.
func TestFaultsSayWhereAndWhy(t *testing.T) {
	for _, tc := range []struct {
		text string
		want []string
	}{
		{"", []string{"limits.json:1", "ends too early"}},
		{"{\n\"*\": \"1/s\",\n", []string{"limits.json:2", "ends too early"}},
		{"[]", []string{"limits.json:1", "want one JSON object"}},
		{"{\n\"*\": \"1/s\"\n}\n{}", []string{"limits.json:4", "something follows the object"}},
		{"{\n\"*\": 5\n}", []string{"limits.json:2", `"*"`, "want a limit in quotes"}},
		{"{\n\"*\": {\"limit\": \"1/s\"}\n}", []string{"limits.json:2", `"*"`, "want a limit in quotes"}},
		{"{\n\"*\": nope\n}", []string{"limits.json:2", "invalid character"}},
		{"{\n\"a\": \"1/s\"\n}", []string{`limits.json:2: no limit for "*"`}},
		{"{\n}", []string{`limits.json:2: no limit for "*"`}},
		{"{\n\"*\": \"1/s\",\n\"a*b\": \"1/s\",\n\"c\": \"often\"\n}", []string{
			`limits.json:3: "a*b": a * may stand only at the end`, `limits.json:4: "c": limiter: limit "often": no time given`,
		}},
		{"{\n\"*\": \"1/s\",\n\"*\": \"2/s\"\n}", []string{`limits.json:3: "*": stands there twice`}},
		{"{\n\"*\": \"1/s\",\n\"caf\xe9\": \"1/s\"\n}", []string{"limits.json:3", "not UTF-8"}},
		{"{\"*\": \"shadow\"}", []string{`limiter: limit "shadow"`}},
		{"{\"*\": \"1/s shadow shadow\"}", []string{`limiter: limit "1/s shadow"`}},
	} {
		_, err := Open(t.Context(), File(file(t, tc.text)), Options{})
		if err == nil {
			t.Errorf("%q is good", tc.text)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v; want %q in it", tc.text, err, want)
			}
		}
	}
	none := func(context.Context) ([]Rule, error) { return nil, nil }
	if _, err := Open(t.Context(), none, Options{}); err == nil || !strings.Contains(err.Error(), "no other rule") {
		t.Errorf("no rules: %v", err)
	}
	if _, err := Open(t.Context(), File("nowhere.json"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Open(t.Context(), File(file(t, good)), Options{Interval: -1}); err == nil {
		t.Error("a negative interval is good")
	}
}

// TestFileAsEditorsWriteIt: a byte order mark and the line ends of Windows are no fault, and
// lines are counted as without. A mark elsewhere, and UTF-16, are one.
func TestFileAsEditorsWriteIt(t *testing.T) {
	const mark = "\xef\xbb\xbf"
	ls, err := Open(t.Context(), File(file(t, mark+"{\r\n\"*\": \"100/day\",\r\n\"a\": \"10/min\"\r\n}\r\n")), Options{})
	require.NoError(t, err)
	defer ls.Close()
	require.Equal(t, limiter.Per(100, 24*time.Hour), ls.Default())
	a, ok := ls.LimitFor("a")
	require.True(t, ok)
	require.Equal(t, limiter.Per(10, time.Minute), a)
	for text, want := range map[string]string{
		mark + "{\n\"*\": \"often\"\n}":       "limits.json:2: \"*\": ",
		mark:                                  "limits.json:1: ends too early",
		mark + mark + "{\"*\": \"1/s\"}":      "limits.json:1: invalid character",
		"{\"*\": " + mark + "\"1/s\"}":        "limits.json:1: invalid character",
		"\xff\xfe{\x00\"\x00*\x00\"\x00}\x00": "limits.json:1: not UTF-8",
	} {
		_, err := Open(t.Context(), File(file(t, text)), Options{})
		require.ErrorContains(t, err, want, "%q", text)
	}
}

// fake is a source whose rules a test sets.
type fake struct {
	mu    sync.Mutex
	rules []Rule
	err   error
	looks int
}

func (f *fake) read(context.Context) ([]Rule, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	return f.rules, f.err
}

func (f *fake) set(err error, rules ...Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules, f.err = rules, err
}

// TestChangesAreFollowed: within an interval, for keys in memory too. An error changes
// nothing, and is logged once until it changes; Close ends the watch.
func TestChangesAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		src := &fake{}
		src.set(nil, Rule{"*", "5/1h", "here"}, Rule{"a", "3/1h", "here"})
		ls, err := Open(t.Context(), src.read, Options{Interval: time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, err)
		var limiters []*limiter.Limiter
		for range 2 {
			l, err := limiter.New(limiter.Config{Limit: ls.Default(), LimitFor: ls.LimitFor, Shadow: ls.Shadow})
			require.NoError(t, err)
			ls.Watch(l)
			l.Allow("a")
			l.Allow("b")
			limiters = append(limiters, l)
		}
		for _, step := range []struct {
			err      error
			rules    []Rule
			a, b     int // bursts
			fault    string
			logLines int // more of them
		}{
			{nil, []Rule{{"*", "5/1h", "here"}, {"a", "3/1h", "here"}}, 3, 5, "", 0},
			{nil, []Rule{{"*", "6/1h", "here"}, {"a", "4/1h", "here"}}, 4, 6, "", 1},
			{errors.New("gone"), nil, 4, 6, "gone", 1},
			{nil, nil, 4, 6, `no limit for "*"`, 1},
			{nil, []Rule{{"*", "9/1h", "here"}, {"a", "never", "here"}}, 4, 6, `here: "a"`, 1},
			{nil, []Rule{{"*", "6/1h", "here"}, {"a", "4/1h", "here"}}, 4, 6, "", 0},
			{errors.New("gone"), nil, 4, 6, "gone", 1},
			{nil, []Rule{{"*", "7/1h", "here"}}, 7, 7, "", 1},
			{nil, []Rule{{"*", "7/1h shadow", "here"}}, 7, 7, "", 1},
		} {
			before := strings.Count(log.String(), "\n")
			src.set(step.err, step.rules...)
			time.Sleep(3 * time.Second)
			synctest.Wait()
			for i, l := range limiters {
				if a, b := l.Peek("a").Limit.Burst, l.Peek("b").Limit.Burst; a != step.a || b != step.b {
					t.Errorf("%+v: limiter %d has bursts %d and %d", step, i, a, b)
				}
			}
			if err := ls.Err(); (err == nil) != (step.fault == "") || err != nil && !strings.Contains(err.Error(), step.fault) {
				t.Errorf("%+v: Err = %v", step, err)
			}
			if got := strings.Count(log.String(), "\n") - before; got != step.logLines {
				t.Errorf("%+v: %d lines logged:\n%s", step, got, log.String())
			}
		}
		if !limiters[0].AllowN("b", 8) || limiters[0].Stats().Shadowed != 1 {
			t.Error("the last change did not put the default on trial")
		}
		ls.Close()
		ls.Close()
		looks := src.looks
		time.Sleep(time.Minute)
		if src.looks != looks {
			t.Error("looks go on after Close")
		}
	})
}

// TestChangedRulesKeepTokens: a key that is spent has its next token at the rate of the
// new rule, the default or another, and not before.
func TestChangedRulesKeepTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &fake{}
		src.set(nil, Rule{"*", "10/1h", "here"}, Rule{"a", "10/1h", "here"})
		ls, err := Open(t.Context(), src.read, Options{Interval: time.Second, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		defer ls.Close()
		l, err := limiter.New(limiter.Config{Limit: ls.Default(), LimitFor: ls.LimitFor})
		require.NoError(t, err)
		ls.Watch(l)
		keys := []string{"a", "b"}
		for _, key := range keys {
			require.True(t, l.AllowN(key, 10))
		}
		src.set(nil, Rule{"*", "10/10m", "here"}, Rule{"a", "10/10m", "here"})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for _, key := range keys {
			if r := l.Take(key); r.Allowed || r.RetryAfter < 57*time.Second || r.RetryAfter > time.Minute {
				t.Errorf("%q: %+v, want a token in a minute", key, r)
			}
		}
	})
}

// TestHungSourceIsAskedOnce: while a read is out that heeds no ctx, no other is
// begun; Err and one line say so, and it ends with the read.
func TestHungSourceIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		src, hang := &fake{}, make(chan struct{})
		src.set(nil, Rule{"*", "5/1h", "here"})
		read := func(ctx context.Context) ([]Rule, error) {
			rules, err := src.read(ctx)
			if src.looks > 1 {
				<-hang
			}
			return rules, err
		}
		ls, err := Open(t.Context(), read, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, err)
		defer ls.Close()
		l, err := limiter.New(limiter.Config{Limit: ls.Default()})
		require.NoError(t, err)
		ls.Watch(l)
		time.Sleep(time.Hour)
		synctest.Wait()
		if err := ls.Err(); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "still being read") {
			t.Errorf("Err = %v", err)
		}
		if n := strings.Count(log.String(), "\n"); src.looks != 2 || n != 1 {
			t.Errorf("%d looks, %d lines logged; want 2 and 1:\n%s", src.looks, n, log.String())
		}
		close(hang)
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := ls.Err(); err != nil {
			t.Errorf("the read is back, Err = %v", err)
		}
	})
}

// TestSlowSourceSaysWhy: a source that returns when ctx is done has its own error.
func TestSlowSourceSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("too slow")
		_, err := Open(t.Context(), func(ctx context.Context) ([]Rule, error) {
			<-ctx.Done()
			return nil, why
		}, Options{})
		if !errors.Is(err, why) {
			t.Errorf("Open: %v, want %v", err, why)
		}
	})
}

// TestSameFaultFromAnotherPortIsLoggedOnce: connections to a server that does not
// answer come from a port of their own each.
func TestSameFaultFromAnotherPortIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	src := &fake{}
	src.set(nil, Rule{"*", "5/1h", "here"})
	ls, err := Open(t.Context(), src.read, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	defer ls.Close()
	timeout := func(from, to int) error {
		return fmt.Errorf("limits: %w", &net.OpError{
			Op: "read", Net: "tcp", Source: &net.TCPAddr{Port: from}, Addr: &net.TCPAddr{Port: to}, Err: os.ErrDeadlineExceeded,
		})
	}
	for _, step := range []struct{ from, to, logLines int }{
		{54321, 6379, 1}, {54322, 6379, 1}, {5, 6379, 1}, {54323, 6380, 2},
	} {
		src.set(timeout(step.from, step.to))
		ls.look()
		ls.log.Wait(time.Minute)
		if got := strings.Count(log.String(), "\n"); got != step.logLines {
			t.Errorf("%+v: %d lines logged:\n%s", step, got, log.String())
		}
	}
}

// stuck is a log whose writes block until it is opened.
type stuck struct {
	open chan struct{}
	bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.open
	return s.Buffer.Write(p)
}

// TestBlockedUserCodeStopsNothing: a Logger that blocks, or a limiter's LimitFor, stops
// neither the watch of other limiters nor Close.
func TestBlockedUserCodeStopsNothing(t *testing.T) {
	for name, blockedLimitFor := range map[string]bool{"Logger": false, "LimitFor": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src, log := &fake{}, &stuck{open: make(chan struct{})}
				src.set(nil, Rule{"*", "5/1h", "here"})
				ls, err := Open(t.Context(), src.read, Options{Interval: time.Second, Logger: slog.New(slog.NewTextHandler(log, nil))})
				require.NoError(t, err)
				var blocked atomic.Bool
				l, err := limiter.New(limiter.Config{Limit: ls.Default(), LimitFor: func(key string) (limiter.Limit, bool) {
					if blocked.Load() {
						<-log.open
					}
					return ls.LimitFor(key)
				}})
				require.NoError(t, err)
				l.Allow("k")
				ls.Watch(l)
				blocked.Store(blockedLimitFor)
				for _, limit := range []string{"6/1h", "never", "7/1h"} {
					src.set(nil, Rule{"*", limit, "here"})
					time.Sleep(2 * time.Second)
				}
				if !blockedLimitFor && l.Peek("k").Limit.Burst != 7 {
					t.Errorf("%+v, want a burst of 7", l.Peek("k"))
				}
				begin := time.Now()
				ls.Close()
				if took := time.Since(begin); took > 2*time.Second {
					t.Errorf("Close took %v", took)
				}
				close(log.open)
			})
		})
	}
}

// TestWatchAndCloseAtOnce: Close waits for a watch that begins meanwhile, or none
// begins.
func TestWatchAndCloseAtOnce(t *testing.T) {
	src := &fake{}
	src.set(nil, Rule{"*", "5/1h", "here"})
	l, err := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 1, Burst: 1}})
	require.NoError(t, err)
	for range 1000 {
		ls, err := Open(t.Context(), src.read, Options{})
		require.NoError(t, err)
		var both sync.WaitGroup
		both.Go(func() { ls.Watch(l) })
		both.Go(ls.Close)
		both.Wait()
	}
}

// TestLateWatcherIsUpToDate: a limiter that was made before a change and is
// watched after it has the new limits at once.
func TestLateWatcherIsUpToDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &fake{}
		src.set(nil, Rule{"*", "5/1h", "here"})
		ls, err := Open(t.Context(), src.read, Options{Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		defer ls.Close()
		first, err := limiter.New(limiter.Config{Limit: ls.Default(), LimitFor: ls.LimitFor})
		require.NoError(t, err)
		late, err := limiter.New(limiter.Config{Limit: ls.Default(), LimitFor: ls.LimitFor})
		require.NoError(t, err)
		ls.Watch(first)
		src.set(nil, Rule{"*", "6/1h", "here"})
		time.Sleep(defaultInterval)
		synctest.Wait()
		ls.Watch(late)
		if got := late.Peek("k").Limit.Burst; got != 6 {
			t.Errorf("burst %d, want 6", got)
		}
	})
}

// eventually asks again and again for at most half a minute.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// TestFileIsFollowed: a real file, changed, broken, gone and back, while keys
// are decided.
func TestFileIsFollowed(t *testing.T) {
	path := file(t, `{"*": "5/1h"}`)
	ls, err := Open(t.Context(), File(path), Options{Interval: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer ls.Close()
	l, err := limiter.New(limiter.Config{Limit: ls.Default(), LimitFor: ls.LimitFor, Shadow: ls.Shadow})
	require.NoError(t, err)
	ls.Watch(l)
	ctx, cancel := context.WithCancel(t.Context())
	var deciders sync.WaitGroup
	defer deciders.Wait()
	defer cancel()
	for range 2 {
		deciders.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				l.Allow(fmt.Sprint(i % 1000))
			}
		})
	}
	burst := func(n int) func() bool { return func() bool { return l.Peek("7").Limit.Burst == n } }
	write(t, path, `{"*": "6/1h"}`)
	eventually(t, "the change is taken over", burst(6))
	write(t, path, `{"*": "6/1h"`)
	eventually(t, "the fault is seen", func() bool { return ls.Err() != nil })
	require.NoError(t, os.Remove(path))
	eventually(t, "the loss is seen", func() bool { return errors.Is(ls.Err(), os.ErrNotExist) })
	require.True(t, burst(6)())
	write(t, path, `{"*": "6/1h", "7": "8/1h"}`)
	eventually(t, "the file is back", burst(8))
}

// TestHashIsFollowed: a hash in Redis, changed, wiped and out of reach.
func TestHashIsFollowed(t *testing.T) {
	server := servertest.Server(t, redisserver.Options{})
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	defer client.Close()
	set := func(key, limit string) { require.NoError(t, client.HSet(t.Context(), "limits", key, limit).Err()) }
	set("*", "5/1h")
	set("a", "3/1h")
	ls, err := Open(t.Context(), Hash(client, "limits"), Options{Interval: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer ls.Close()
	l, err := limiter.New(limiter.Config{Limit: ls.Default(), LimitFor: ls.LimitFor})
	require.NoError(t, err)
	ls.Watch(l)
	burst := func(n int) func() bool { return func() bool { return l.Peek("a").Limit.Burst == n } }
	require.True(t, burst(3)())
	set("a", "4/1h")
	eventually(t, "the change is taken over", burst(4))
	set("b", "no")
	eventually(t, "the fault is seen", func() bool {
		return ls.Err() != nil && strings.Contains(ls.Err().Error(), `hash "limits": "b": limiter: limit "no"`)
	})
	require.NoError(t, client.FlushAll(t.Context()).Err())
	eventually(t, "the loss is seen", func() bool {
		return ls.Err() != nil && strings.Contains(ls.Err().Error(), `hash "limits": there is none`)
	})
	require.NoError(t, server.Kill())
	eventually(t, "the outage is seen", func() bool { return ls.Err() != nil && strings.Contains(ls.Err().Error(), "refused") })
	require.True(t, burst(4)())
	if _, err := Open(t.Context(), Hash(client, "limits"), Options{}); err == nil {
		t.Error("Open without Redis succeeds")
	}
}

// hashRights are the rights for Hash that SECURITY.md names.
const hashRights = "%R~limits +hgetall"

// TestHashNeedsTheDocumentedRights: a user with them reads limits, one that lacks any of
// them does not, and they allow nothing else.
func TestHashNeedsTheDocumentedRights(t *testing.T) {
	page, err := os.ReadFile("../SECURITY.md")
	require.NoError(t, err)
	require.Contains(t, string(page), "`"+hashRights+"`")
	server := servertest.Server(t, redisserver.Options{})
	admin := server.Client()
	defer admin.Close()
	require.NoError(t, admin.HSet(t.Context(), "limits", "*", "5/h").Err())
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{server.Addr()}, Username: "reader", Password: "pw"}))
	defer client.Close()
	grant := func(rights string) {
		t.Helper()
		args := []any{"acl", "setuser", "reader", "reset", "on", ">pw"}
		for right := range strings.FieldsSeq(rights) {
			args = append(args, right)
		}
		require.NoError(t, admin.Do(t.Context(), args...).Err())
	}
	grant(hashRights)
	ls, err := Open(t.Context(), Hash(client, "limits"), Options{})
	require.NoError(t, err)
	ls.Close()
	require.Equal(t, limiter.Per(5, time.Hour), ls.Default())
	refused, err := admin.Do(t.Context(), "acl", "log").Slice()
	require.NoError(t, err)
	require.Empty(t, refused)
	require.ErrorContains(t, client.HSet(t.Context(), "limits", "a", "1/s").Err(), "NOPERM")
	require.ErrorContains(t, client.HGetAll(t.Context(), "other").Err(), "NOPERM")

	rights := strings.Fields(hashRights)
	for i := range rights {
		grant(strings.Join(slices.Delete(slices.Clone(rights), i, i+1), " "))
		_, err := Open(t.Context(), Hash(client, "limits"), Options{})
		require.ErrorContains(t, err, "NOPERM", "without "+rights[i])
	}
}

// TestHashOnAClusterNeedsTheDocumentedRights: with those of a Cluster.
func TestHashOnAClusterNeedsTheDocumentedRights(t *testing.T) {
	if testing.Short() {
		t.Skip("runs without -short: a Cluster takes seconds to start")
	}
	cluster := servertest.Cluster(t)
	for _, s := range cluster.Nodes {
		admin := s.Client()
		t.Cleanup(func() { admin.Close() })
		require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "reader", "reset", "on", ">pw", "%R~limits", "+hgetall", "+cluster|slots", "+asking").Err())
	}
	all := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: cluster.Addrs()})
	defer all.Close()
	require.NoError(t, all.HSet(t.Context(), "limits", "*", "5/h").Err())
	client, err := limiter.ClientFromURL("redis://reader:pw@" + strings.Join(cluster.Addrs(), ","))
	require.NoError(t, err)
	defer client.Close()
	ls, err := Open(t.Context(), Hash(client, "limits"), Options{})
	require.NoError(t, err)
	ls.Close()
	require.Equal(t, limiter.Per(5, time.Hour), ls.Default())
	for _, s := range cluster.Nodes {
		admin := s.Client()
		t.Cleanup(func() { admin.Close() })
		refused, err := admin.Do(t.Context(), "acl", "log").Slice()
		require.NoError(t, err)
		require.Empty(t, refused)
	}
}

// TestLookUpsAllocateNothing: be the key a whole one, a beginning's or neither.
func TestLookUpsAllocateNothing(t *testing.T) {
	ls, err := Open(t.Context(), File(file(t, good)), Options{})
	require.NoError(t, err)
	defer ls.Close()
	if n := testing.AllocsPerRun(100, func() {
		for _, key := range []string{"user:42", "user:1", "other"} {
			ls.LimitFor(key)
			ls.Shadow(key)
		}
	}); n != 0 {
		t.Errorf("look-ups allocate %v times", n)
	}
}

func BenchmarkLimitFor(b *testing.B) {
	t, err := newTable([]Rule{{"*", "1/s", ""}, {"user:*", "2/s", ""}, {"user:vip:*", "3/s", ""}, {"user:42", "4/s", ""}})
	require.NoError(b, err)
	ls := &Limits{}
	ls.table.Store(t)
	for _, key := range []string{"user:42", "user:vip:7", "user:7", "other"} {
		b.Run(key, func(b *testing.B) {
			for b.Loop() {
				ls.LimitFor(key)
			}
		})
	}
}
