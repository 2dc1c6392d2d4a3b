package httplimit

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// parts returns Options.Parts of fixed parts.
func parts(ps ...limiter.Part) func(*http.Request) []limiter.Part {
	return func(*http.Request) []limiter.Part { return ps }
}

// violations returns the policies that the problem document of a denial names.
func violations(t *testing.T, resp *http.Response) []string {
	t.Helper()
	var doc struct {
		Violated []string `json:"violated-policies"`
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&doc))
	return doc.Violated
}

// TestPartsAreOneDecision: a request takes of all limits or of none; the headers have a
// policy for each, and the tightest.
func TestPartsAreOneDecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		users, service := newLimiter(t, limiter.Per(2, time.Minute)), newLimiter(t, limiter.Per(3, time.Hour))
		h := limited(nil, Options{Parts: func(r *http.Request) []limiter.Part {
			return []limiter.Part{users.Part(r.URL.Path, 1).Named("user"), service.Part("", 1).Named("service")}
		}})
		get := func(user string) *http.Response {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, user, http.NoBody))
			return w.Result()
		}
		for i, tc := range []struct {
			user                string
			status              int
			rateLimit, retry    string
			violated            []string
			usersLeft, allsLeft int
		}{
			{"/a", 200, `"user";r=1;t=30`, "", nil, 1, 2},
			{"/a", 200, `"user";r=0;t=30`, "", nil, 0, 1},
			{"/a", 429, `"user";r=0;t=30`, "30", []string{"user"}, 0, 1},
			{"/b", 200, `"service";r=0;t=1200`, "", nil, 1, 0},
			{"/b", 429, `"service";r=0;t=1200`, "1200", []string{"service"}, 1, 0},
			{"/a", 429, `"service";r=0;t=1200`, "1200", []string{"user", "service"}, 0, 0}, // the longest wait
		} {
			resp := get(tc.user)
			require.Equal(t, tc.status, resp.StatusCode, i)
			require.Equal(t, []string{`"user";q=2;w=60, "service";q=3;w=3600`}, resp.Header.Values("RateLimit-Policy"))
			require.Equal(t, []string{tc.rateLimit}, resp.Header.Values("RateLimit"), i)
			require.Equal(t, tc.retry, resp.Header.Get("Retry-After"), i)
			if tc.status != http.StatusOK {
				require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
				require.Equal(t, tc.violated, violations(t, resp), i)
			}
			require.Equal(t, tc.usersLeft, users.Peek(tc.user).Remaining, i)
			require.Equal(t, tc.allsLeft, service.Peek("").Remaining, i)
		}
		time.Sleep(1200 * time.Second) // as Retry-After said
		require.Equal(t, http.StatusOK, get("/a").StatusCode)
	})
}

// TestPartsHaveNames: of their own, quoted for headers, or else those of PolicyName.
func TestPartsHaveNames(t *testing.T) {
	l := newLimiter(t, limiter.Per(5, time.Minute))
	for _, tc := range []struct {
		policy string
		parts  []limiter.Part
		want   string
	}{
		{"", []limiter.Part{l.Part("secret", 1)}, `"default"`},
		{"api", []limiter.Part{l.Part("secret", 1), l.Part("other", 1), l.Part("third", 1).Named("t")}, `"api", "api-2", "t"`},
		{`"`, []limiter.Part{l.Part("secret", 1), l.Part("other", 1)}, `"\"", "\"-2"`},
		{"", []limiter.Part{l.Part("secret", 1).Named(`x";q=1,"y`)}, `"x\";q=1,\"y"`},
		{"", []limiter.Part{l.Part("secret", 1).Named("ü\r\nSet-Cookie: \\")}, `"%C3%BC%0D%0ASet-Cookie: \\"`},
	} {
		require.NoError(t, l.Reset(t.Context(), "secret"))
		require.NoError(t, l.Reset(t.Context(), "other"))
		resp := get(limited(l, Options{PolicyName: tc.policy, Parts: parts(tc.parts...)}))
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, tc.want, strings.ReplaceAll(resp.Header.Get("RateLimit-Policy"), ";q=5;w=60", ""))
		first, _, _ := strings.Cut(tc.want, ", ")
		require.Equal(t, first+";r=4;t=12", resp.Header.Get("RateLimit"))
		for name, values := range resp.Header {
			require.NotContains(t, fmt.Sprint(name, values), "secret")
		}
	}
	resp := get(limited(l, Options{Parts: parts(l.Part("k", 5)), PolicyName: "é"}))
	require.Equal(t, 200, resp.StatusCode)
	resp = get(limited(l, Options{Parts: parts(l.Part("k", 1), l.Part("k2", 9).Named("ü")), PolicyName: "é"}))
	require.Equal(t, []string{"%C3%A9", "%C3%BC"}, violations(t, resp))
}

// TestPartsThatNeverFit: a part that can never admit leaves no time to retry after, however
// long the others would have to wait.
func TestPartsThatNeverFit(t *testing.T) {
	l := newLimiter(t, limiter.Per(2, time.Hour))
	h := limited(l, Options{Parts: parts(l.Part("a", 2).Named("a"), l.Part("b", 3).Named("b")), LegacyHeaders: true})
	require.True(t, l.Allow("a"))
	resp := get(h)
	require.Equal(t, 429, resp.StatusCode)
	require.Empty(t, resp.Header.Values("Retry-After"))
	require.Equal(t, `"b";r=2;t=0`, resp.Header.Get("RateLimit"))
	require.Equal(t, []string{"a", "b"}, violations(t, resp))
	require.Equal(t, 1, l.Peek("a").Remaining)
}

// TestPartsWithoutLimitHaveNoPolicy, and a request of such parts alone has no headers; nor
// has one without parts.
func TestPartsWithoutLimitHaveNoPolicy(t *testing.T) {
	l, none := newLimiter(t, limiter.Per(5, time.Minute)), newLimiter(t, limiter.Limit{Rate: rate.Inf})
	resp := get(limited(nil, Options{Parts: parts(none.Part("a", 1), l.Part("a", 2).Named("a")), LegacyHeaders: true}))
	require.Equal(t, []string{`"a";q=5;w=60`}, resp.Header.Values("RateLimit-Policy"))
	require.Equal(t, []string{`"a";r=3;t=24`}, resp.Header.Values("RateLimit"))
	require.Equal(t, "5", resp.Header.Get("X-RateLimit-Limit"))
	require.Equal(t, "3", resp.Header.Get("X-RateLimit-Remaining"))
	for _, ps := range [][]limiter.Part{nil, {}, {none.Part("a", 1), none.Part("b", 1)}} {
		resp := get(limited(nil, Options{Parts: parts(ps...), LegacyHeaders: true, SkipFailed: true}))
		require.Equal(t, 200, resp.StatusCode)
		require.Len(t, resp.Header, 1, "Content-Type alone: %v", resp.Header)
	}
	quiet := limited(nil, Options{Parts: parts(l.Part("b", 4)), NoHeaders: true})
	require.Len(t, get(quiet).Header, 1)
	denied := get(quiet)
	require.Equal(t, 429, denied.StatusCode)
	require.NotEmpty(t, denied.Header.Get("Retry-After"))
	require.Empty(t, denied.Header.Values("RateLimit-Policy"))
	require.Empty(t, denied.Header.Values("RateLimit"))
}

// TestPartsAreRefunded: all of them, by the status, except those that took nothing and those
// that the handler has settled.
func TestPartsAreRefunded(t *testing.T) {
	slow := limiter.Per(10, 1000*time.Hour)
	for _, tc := range []struct {
		opts          Options
		status        int
		users, tokens int // left of 10
	}{
		{Options{}, 500, 9, 6},
		{Options{SkipFailed: true}, 200, 9, 6},
		{Options{SkipFailed: true}, 500, 10, 10},
		{Options{SkipSuccessful: true}, 200, 10, 10},
		{Options{SkipSuccessful: true}, 404, 9, 6},
		{Options{SkipFailed: true}, 0, 10, 10}, // a panic
	} {
		users, tokens := newLimiter(t, slow), newLimiter(t, slow)
		trial, err := limiter.New(limiter.Config{Limit: limiter.Per(1, 1000*time.Hour), Shadow: func(string) bool { return true }})
		require.NoError(t, err)
		tc.opts.Parts = parts(users.Part("u", 1), tokens.Part("u", 4), trial.Part("u", 1))
		require.True(t, trial.Allow("u"))
		h := New(nil, tc.opts)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if tc.status == 0 {
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(tc.status)
		}))
		func() {
			defer func() { _ = recover() }()
			get(h)
		}()
		require.Equal(t, tc.users, users.Peek("u").Remaining, "%+v", tc)
		require.Equal(t, tc.tokens, tokens.Peek("u").Remaining, "%+v", tc)
		require.Zero(t, trial.Peek("u").Remaining, "nothing was taken in shadow mode")
	}
	l := newLimiter(t, slow)
	h := New(nil, Options{SkipFailed: true, Parts: parts(l.Part("requests", 1), l.Part("tokens", 4))})(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			PartsFromContext(r.Context())[1].Settle(7)
			w.WriteHeader(http.StatusBadGateway)
		}))
	get(h)
	require.Equal(t, 10, l.Peek("requests").Remaining)
	require.Equal(t, 3, l.Peek("tokens").Remaining)
}

// TestHandlersGetTheDecision: by the request's context, behind any number of contexts, and
// so does Denied.
func TestHandlersGetTheDecision(t *testing.T) {
	type inner struct{}
	l := newLimiter(t, limiter.Per(2, time.Hour))
	var seen []limiter.Result
	see := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(context.WithValue(r.Context(), inner{}, 1))
		defer cancel()
		if res, ok := FromContext(ctx); ok && PartsFromContext(ctx) == nil {
			seen = append(seen, res)
		}
	})
	h := New(l, Options{Key: func(*http.Request) string { return "k" }, Denied: see, SkipFailed: true})(see)
	for range 3 {
		get(h)
	}
	require.Len(t, seen, 3)
	for i, want := range []struct {
		allowed bool
		left    int
	}{{true, 1}, {true, 0}, {false, 0}} {
		require.Equal(t, limiter.Per(2, time.Hour), seen[i].Limit)
		require.Equal(t, want.allowed, seen[i].Allowed)
		require.Equal(t, want.left, seen[i].Remaining)
		require.Equal(t, want.allowed, seen[i].RetryAfter == 0)
	}

	for _, ctx := range []context.Context{t.Context(), context.WithValue(t.Context(), inner{}, 1)} {
		_, ok := FromContext(ctx)
		require.False(t, ok)
		require.Nil(t, PartsFromContext(ctx))
	}
	get(New(l, Options{Skip: func(*http.Request) bool { return true }})(see))
	require.Len(t, seen, 3, "a skipped request has no decision")
}

// TestDeniedGetsTheParts: which of them deny, by their names; and of nested middleware the
// decision of the inner one.
func TestDeniedGetsTheParts(t *testing.T) {
	l := newLimiter(t, limiter.Per(1, time.Hour))
	var (
		denying []string
		got     limiter.Result
	)
	inner := New(nil, Options{
		Parts: parts(l.Part("a", 1).Named("a"), l.Part("b", 0).Named("b"), l.Part("c", 1).Named("c")),
		Denied: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got, _ = FromContext(r.Context())
			for _, p := range PartsFromContext(r.Context()) {
				if !p.Result().Allowed {
					denying = append(denying, p.Name())
				}
				p.Settle(100) // nothing was taken
			}
			w.WriteHeader(http.StatusServiceUnavailable)
		}),
	})(http.HandlerFunc(hello))
	outer := New(newLimiter(t, limiter.Per(9, time.Hour)), Options{})(inner)
	require.Equal(t, 200, get(outer).StatusCode)
	require.NoError(t, l.Reset(t.Context(), "c"))
	require.Equal(t, 503, get(outer).StatusCode)
	require.Equal(t, []string{"a"}, denying)
	require.Equal(t, limiter.Per(1, time.Hour), got.Limit, "the inner one's")
	require.Equal(t, 1, l.Peek("c").Remaining)
	require.Equal(t, 1, l.Peek("b").Remaining)
}

// TestDecisionsEndWithTheirRequest: a context that comes of the middleware's ends when the
// request does.
func TestDecisionsEndWithTheirRequest(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var before, after error
	h := New(newLimiter(t, limiter.Per(9, time.Hour)), Options{})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		child, done := context.WithTimeout(r.Context(), time.Hour)
		defer done()
		before = child.Err()
		cancel()
		<-child.Done()
		after = child.Err()
	}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", http.NoBody).WithContext(ctx))
	require.NoError(t, before)
	require.ErrorIs(t, after, context.Canceled)
}

func TestPartsAreInPlaceOfKeyAndCost(t *testing.T) {
	l := newLimiter(t, limiter.Per(1, time.Hour))
	for _, opts := range []Options{
		{Parts: parts(), Key: func(*http.Request) string { return "" }},
		{Parts: parts(), Cost: func(*http.Request) int { return 1 }},
	} {
		require.PanicsWithValue(t, "httplimit: New: Options.Parts is in place of Key and Cost: leave these out", func() { New(l, opts) })
	}
	require.Equal(t, 200, get(limited(l, Options{Parts: parts(l.Part("k", 1))})).StatusCode)
}

// TestPartsOfAFleet: two processes share a user's and the service's limit through a real
// Redis, and a user who is denied takes nothing of the service's.
func TestPartsOfAFleet(t *testing.T) {
	server := servertest.Server(t, redisserver.Options{})
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{server.Addr()}}))
	defer client.Close()
	type process struct {
		http.Handler
		users, service *limiter.Limiter
	}
	var served atomic.Int64
	var processes []process
	for range 2 {
		open := func(prefix string, burst int) *limiter.Limiter {
			l, err := limiter.New(limiter.Config{
				Limit: limiter.Per(burst, 1000*time.Hour), Redis: client, Prefix: prefix, Processes: 2, SyncInterval: 10 * time.Millisecond,
			})
			require.NoError(t, err)
			t.Cleanup(func() { l.Close() })
			return l
		}
		p := process{users: open("user", 10), service: open("service", 100)}
		p.Handler = New(nil, Options{SkipFailed: true, Parts: func(r *http.Request) []limiter.Part {
			return []limiter.Part{p.users.Part(r.URL.Path, 1), p.service.Part("", 1)}
		}})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery == "fail" {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			served.Add(1)
		}))
		processes = append(processes, p)
	}
	sync := func() {
		for range 2 { // the second round hears of the first
			for _, p := range processes {
				require.NoError(t, p.users.Sync(t.Context()))
				require.NoError(t, p.service.Sync(t.Context()))
			}
		}
	}
	sync()
	for i := range 200 {
		query := ""
		if i%2 == 0 {
			query = "?fail"
		}
		r := httptest.NewRequest(http.MethodGet, "/ada"+query, http.NoBody)
		processes[i/2%2].ServeHTTP(httptest.NewRecorder(), r)
		if i%10 == 9 {
			sync()
		}
	}
	sync()
	n := int(served.Load())
	require.True(t, n >= 9 && n <= 11, "%d requests of ada were served, want 10", n)
	for _, p := range processes {
		require.InDelta(t, 100-n, p.service.Peek("").Remaining, 1, "others have the rest of the service")
		require.LessOrEqual(t, p.users.Peek("/ada").Remaining, 1)
	}
}
