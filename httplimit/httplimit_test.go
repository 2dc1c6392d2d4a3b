package httplimit

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
)

// newLimiter returns a local limiter: an exact token bucket for each key.
func newLimiter(t testing.TB, lim limiter.Limit) *limiter.Limiter {
	t.Helper()
	l, err := limiter.New(limiter.Config{Limit: lim})
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// hello is a handler that answers 200.
func hello(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }

// get sends a request of 192.0.2.1 through a handler.
func get(h http.Handler) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
	return w.Result()
}

func limited(l *limiter.Limiter, opts Options) http.Handler {
	return New(l, opts)(http.HandlerFunc(hello))
}

func TestZeroOptionsLimitByClient(t *testing.T) {
	h := limited(newLimiter(t, limiter.Per(2, time.Hour)), Options{})
	from := func(remote string) int {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.RemoteAddr = remote
		h.ServeHTTP(w, r)
		return w.Code
	}
	for _, tc := range []struct {
		remote string
		want   int
	}{
		{"192.0.2.1:1000", 200},
		{"192.0.2.1:1001", 200},
		{"192.0.2.1:1002", 429},
		{"[::ffff:192.0.2.1]:1003", 429},
		{"192.0.2.2:1000", 200},
	} {
		if got := from(tc.remote); got != tc.want {
			t.Errorf("a request from %s got %d, want %d", tc.remote, got, tc.want)
		}
	}
}

func TestDenialIsAProblemDocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := limited(newLimiter(t, limiter.Per(1, time.Hour)), Options{PolicyName: `per "key" ü`})
		get(h)
		resp := get(h)
		require.Equal(t, http.StatusTooManyRequests, resp.StatusCode)
		require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
		require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
		require.Equal(t, "3600", resp.Header.Get("Retry-After"))
		var got map[string]any
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&got))
		require.Equal(t, map[string]any{
			"type":              "https://iana.org/assignments/http-problem-types#quota-exceeded",
			"title":             "Quota Exceeded",
			"status":            429.0,
			"detail":            "Too many requests: retry after the time that Retry-After gives.",
			"violated-policies": []any{`per "key" %C3%BC`},
		}, got)
	})
}

func TestRetryAfterIsLongEnoughAndNoLonger(t *testing.T) {
	for _, lim := range []limiter.Limit{limiter.Per(3, time.Minute), {Rate: 0.3, Burst: 2}, limiter.Per(1000, time.Second)} {
		synctest.Test(t, func(t *testing.T) {
			h := limited(newLimiter(t, lim), Options{})
			for range lim.Burst {
				require.Equal(t, 200, get(h).StatusCode)
			}
			denied := get(h)
			require.Equal(t, 429, denied.StatusCode)
			seconds, err := strconv.Atoi(denied.Header.Get("Retry-After"))
			require.NoError(t, err)
			require.GreaterOrEqual(t, seconds, 1)
			if lim.Rate < 1 {
				time.Sleep(time.Duration(seconds-1) * time.Second)
				require.Equal(t, 429, get(h).StatusCode, "a second early")
			}
			time.Sleep(time.Second)
			require.Equal(t, 200, get(h).StatusCode)
		})
	}
}

func TestCostAboveBurstIsNeverAdmitted(t *testing.T) {
	l := newLimiter(t, limiter.Per(10, time.Hour))
	resp := get(limited(l, Options{Cost: func(*http.Request) int { return 11 }}))
	require.Equal(t, 429, resp.StatusCode)
	require.NotContains(t, resp.Header, "Retry-After")
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), "retrying will not help")
	require.Equal(t, `"default";r=10;t=0`, resp.Header.Get("RateLimit"), "it took nothing")
}

func TestCostOfNothingPassesUnlessInDebt(t *testing.T) {
	l := newLimiter(t, limiter.Per(1, time.Hour))
	for _, cost := range []int{0, -1} {
		h := limited(l, Options{
			Key:        func(*http.Request) string { return "k" },
			Cost:       func(*http.Request) int { return cost },
			SkipFailed: true, SkipSuccessful: true, // must not add tokens either
		})
		for range 3 {
			require.Equal(t, 200, get(h).StatusCode)
		}
		require.Equal(t, 1, l.Peek("k").Remaining)
	}
	l.Charge("k", 3)
	h := limited(l, Options{Key: func(*http.Request) string { return "k" }, Cost: func(*http.Request) int { return 0 }})
	require.Equal(t, 429, get(h).StatusCode)
}

func TestEachFunctionIsAskedOnce(t *testing.T) {
	var asked []string
	h := limited(newLimiter(t, limiter.Per(9, time.Hour)), Options{
		Skip:       func(*http.Request) bool { asked = append(asked, "skip"); return false },
		Key:        func(*http.Request) string { asked = append(asked, "key"); return "k" },
		Cost:       func(*http.Request) int { asked = append(asked, "cost"); return 1 },
		SkipFailed: true,
	})
	get(h)
	require.Equal(t, []string{"skip", "key", "cost"}, asked)
}

func TestSkippedRequestsTakeNothingAndSayNothing(t *testing.T) {
	l := newLimiter(t, limiter.Per(1, time.Hour))
	h := limited(l, Options{Skip: func(*http.Request) bool { return true }, LegacyHeaders: true})
	for range 3 {
		resp := get(h)
		require.Equal(t, 200, resp.StatusCode)
		require.Len(t, resp.Header, 1, "Content-Type alone: %v", resp.Header)
	}
	require.Zero(t, l.Stats().Allowed)
}

func TestDeniedHandlerFindsTheHeadersSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := limited(newLimiter(t, limiter.Per(1, time.Hour)), Options{
			Denied: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "later: "+w.Header().Get("Retry-After"), http.StatusServiceUnavailable)
			}),
		})
		get(h)
		resp := get(h)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, 503, resp.StatusCode)
		require.Equal(t, "later: 3600", strings.TrimSpace(string(body)))
		require.Equal(t, `"default";r=0;t=3600`, resp.Header.Get("RateLimit"))
	})
}

// TestRefundFollowsTheStatus: 10 tokens, one request at a cost of 4.
func TestRefundFollowsTheStatus(t *testing.T) {
	status := func(codes ...int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for _, code := range codes {
				w.WriteHeader(code)
			}
		}
	}
	nothing := func(http.ResponseWriter, *http.Request) {}
	panics := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(200)
		panic(http.ErrAbortHandler)
	}
	emptyCopy := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, io.LimitReader(strings.NewReader("x"), 0)) // a reader that can only be read
		w.WriteHeader(502)
	}
	fullCopy := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, io.LimitReader(strings.NewReader("x"), 1))
		w.WriteHeader(502) // too late
	}
	flushed := func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		w.WriteHeader(502) // too late
	}
	for _, tc := range []struct {
		name                           string
		handler                        http.HandlerFunc
		onlyFailed, onlyGood, wantBoth int
	}{
		{"200 by writing", hello, 6, 10, 10},
		{"200 by doing nothing", nothing, 6, 10, 10},
		{"304", status(304), 6, 10, 10},
		{"399", status(399), 6, 10, 10},
		{"400", status(400), 10, 6, 10},
		{"500", status(500), 10, 6, 10},
		{"103 and 404", status(103, 404), 10, 6, 10},
		{"103 and 200", status(103, 200), 6, 10, 10},
		{"101", status(101, 500), 6, 10, 10},
		{"the first status counts", status(200, 500), 6, 10, 10},
		{"a panic after 200", panics, 10, 6, 10},
		{"a copy of nothing, then 502", emptyCopy, 10, 6, 10},
		{"a copy, then 502", fullCopy, 6, 10, 10},
		{"a flush, then 502", flushed, 6, 10, 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			remaining := func(opts Options) int {
				l := newLimiter(t, limiter.Per(10, 1000*time.Hour))
				opts.Cost = func(*http.Request) int { return 4 }
				opts.Key = func(*http.Request) string { return "k" }
				func() {
					defer func() { _ = recover() }()
					get(New(l, opts)(tc.handler))
				}()
				return l.Peek("k").Remaining
			}
			if got := remaining(Options{}); got != 6 {
				t.Errorf("neither: %d remain, want 6", got)
			}
			if got := remaining(Options{SkipFailed: true}); got != tc.onlyFailed {
				t.Errorf("SkipFailed: %d remain, want %d", got, tc.onlyFailed)
			}
			if got := remaining(Options{SkipSuccessful: true}); got != tc.onlyGood {
				t.Errorf("SkipSuccessful: %d remain, want %d", got, tc.onlyGood)
			}
			if got := remaining(Options{SkipFailed: true, SkipSuccessful: true}); got != tc.wantBoth {
				t.Errorf("both: %d remain, want %d", got, tc.wantBoth)
			}
		})
	}
}

func TestPanicsPassThrough(t *testing.T) {
	l := newLimiter(t, limiter.Per(10, time.Hour))
	h := New(l, Options{SkipFailed: true})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("mine") }))
	require.PanicsWithValue(t, "mine", func() { get(h) })
}

func TestDeniedRequestsAreNotRefunded(t *testing.T) {
	l := newLimiter(t, limiter.Per(1, 1000*time.Hour))
	h := limited(l, Options{SkipFailed: true})
	for _, want := range []int{200, 429, 429} {
		require.Equal(t, want, get(h).StatusCode)
	}
}

func TestWriterIsWrappedOnlyToSeeTheStatus(t *testing.T) {
	l := newLimiter(t, limiter.Per(10, time.Hour))
	for _, opts := range []Options{{}, {SkipFailed: true}, {SkipSuccessful: true}} {
		wrapped := false
		h := New(l, opts)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, wrapped = w.(*recorder) }))
		get(h)
		require.Equal(t, opts.SkipFailed || opts.SkipSuccessful, wrapped)
	}
}

func TestNilLimiterIsRefusedAtOnce(t *testing.T) {
	require.PanicsWithValue(t, "httplimit: New: the limiter is nil", func() { New(nil, Options{}) })
	require.PanicsWithValue(t, "httplimit: Health: the limiter is nil", func() { Health(nil) })
}

func TestHandlerMayOverrideHeaders(t *testing.T) {
	h := New(newLimiter(t, limiter.Per(1, time.Hour)), Options{})(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Del("RateLimit-Policy")
		w.Header().Set("RateLimit", `"mine";r=1`)
	}))
	resp := get(h)
	require.Empty(t, resp.Header.Values("RateLimit-Policy"))
	require.Equal(t, []string{`"mine";r=1`}, resp.Header.Values("RateLimit"))
}

func TestNestedLimitsMakeLists(t *testing.T) {
	day := New(newLimiter(t, limiter.Per(1000, 24*time.Hour)), Options{PolicyName: "day", LegacyHeaders: true})
	minute := New(newLimiter(t, limiter.Per(50, time.Minute)), Options{PolicyName: "minute", LegacyHeaders: true})
	resp := get(day(minute(http.HandlerFunc(hello))))
	require.Equal(t, []string{`"day";q=1000;w=86400`, `"minute";q=50;w=60`}, resp.Header.Values("RateLimit-Policy"))
	require.Equal(t, []string{`"day";r=999;t=87`, `"minute";r=49;t=2`}, resp.Header.Values("RateLimit"))
	require.Equal(t, []string{"50"}, resp.Header.Values("X-RateLimit-Limit"), "the inner one's")
}

func TestUnlimitedKeysHaveNoHeaders(t *testing.T) {
	resp := get(limited(newLimiter(t, limiter.Limit{Rate: rate.Inf}), Options{LegacyHeaders: true}))
	require.Equal(t, 200, resp.StatusCode)
	require.Len(t, resp.Header, 1, "Content-Type alone: %v", resp.Header)
}

func TestForbiddenKeysAreToldNeverToRetry(t *testing.T) {
	l := newLimiter(t, limiter.Per(1, time.Hour))
	require.NoError(t, l.SetLimit(limiter.Limit{}))
	resp := get(limited(l, Options{LegacyHeaders: true}))
	require.Equal(t, 429, resp.StatusCode)
	require.Equal(t, `"default";q=0`, resp.Header.Get("RateLimit-Policy"))
	require.Equal(t, `"default";r=0`, resp.Header.Get("RateLimit"))
	for _, absent := range []string{"Retry-After", "X-RateLimit-Reset"} {
		require.Empty(t, resp.Header.Values(absent), absent)
	}
}

func TestNoHeadersLeavesWhatIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, legacy := range []bool{false, true} {
			h := limited(newLimiter(t, limiter.Per(1, time.Hour)), Options{NoHeaders: true, LegacyHeaders: legacy})
			get(h)
			resp := get(h)
			require.Equal(t, "3600", resp.Header.Get("Retry-After"))
			require.Empty(t, resp.Header.Values("RateLimit"))
			require.Empty(t, resp.Header.Values("RateLimit-Policy"))
			require.Equal(t, legacy, resp.Header.Get("X-RateLimit-Limit") == "1")
		}
	})
}

// TestAllocationsStayWithinBudget: what the package comment promises.
func TestAllocationsStayWithinBudget(t *testing.T) {
	h := New(newLimiter(t, limiter.Per(1<<30, time.Hour)), Options{})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	allocs := testing.AllocsPerRun(1000, func() {
		clear(w.Header())
		h.ServeHTTP(w, r)
	})
	if allocs > 7 {
		t.Errorf("%v allocations, want at most 7", allocs)
	}
}

// TestUnlimitedRequestsGiveNothingBack: they took nothing, though there is a limit by
// the time when they end.
func TestUnlimitedRequestsGiveNothingBack(t *testing.T) {
	lim := limiter.Limit{Rate: rate.Inf}
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(1, time.Hour), LimitFor: func(string) (limiter.Limit, bool) { return lim, true }})
	require.NoError(t, err)
	get(New(l, counting)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		lim = limiter.Per(10, 1000*time.Hour)
		l.Reload()
		if !l.AllowN("k", 10) {
			t.Error("the limit's burst was denied")
		}
		w.WriteHeader(http.StatusInternalServerError)
	})))
	require.Zero(t, l.Peek("k").Remaining)
}

// TestShadowedRequestsGiveNothingBack: a request that only a limit on trial let
// through has taken nothing that could be given back.
func TestShadowedRequestsGiveNothingBack(t *testing.T) {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(2, 1000*time.Hour), Shadow: func(string) bool { return true }})
	require.NoError(t, err)
	defer l.Close()
	status := http.StatusOK
	h := New(l, Options{SkipFailed: true})(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
	}))
	for i, want := range []int{200, 200, 200, 500, 500} {
		status = want
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
		if w.Code != want {
			t.Errorf("request %d: %d, want %d", i, w.Code, want)
		}
	}
	if s := l.Stats(); s.Allowed != 5 || s.Shadowed != 3 {
		t.Errorf("%d allowed, %d shadowed; want 5, 3", s.Allowed, s.Shadowed)
	}
}
