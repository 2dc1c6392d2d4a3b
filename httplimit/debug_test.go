package httplimit

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
)

// look asks a Debug handler.
func look(l *limiter.Limiter, method, query string, accept ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/debug?"+query, http.NoBody)
	r.Header["Accept"] = accept
	w := httptest.NewRecorder()
	Debug(l).ServeHTTP(w, r)
	return w
}

// lookJSON asks a Debug handler for JSON.
func lookJSON(t *testing.T, l *limiter.Limiter, query string) (d debugReport) {
	t.Helper()
	w := look(l, http.MethodGet, "format=json&"+query)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &d))
	return d
}

func TestDebugReportsInJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		l := newLimiter(t, limiter.Per(2, time.Hour))
		for range 5 {
			l.Allow("user:42")
		}
		l.Allow("user:7")
		l.Allow("user:7")
		l.Allow("user:7")
		time.Sleep(time.Minute)
		var got map[string]any
		w := look(l, http.MethodGet, "format=json&key=user:42")
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
		at := func(d time.Duration) string { return begin.Add(d).Format(time.RFC3339Nano) }
		stats, _ := got["stats"].(map[string]any)
		require.Len(t, stats, 15)
		require.Equal(t, []any{4.0, 4.0, 2.0}, []any{stats["allowed"], stats["denied"], stats["keys"]})
		delete(got, "stats")
		require.Equal(t, map[string]any{
			"time":   at(time.Minute),
			"status": map[string]any{"state": "local", "since": at(0), "processes": 1.0, "pending": 0.0},
			"top_denied": []any{
				map[string]any{"key": "user:42", "denied": 3.0, "since": at(0)},
				map[string]any{"key": "user:7", "denied": 1.0, "since": at(0)},
			},
			"key": map[string]any{
				"key": "user:42", "allowed": false, "limit": limiter.Per(2, time.Hour).String(), "remaining": 0.0,
				"retry_after_seconds": 1740.000000001, "reset_after_seconds": 3540.0, "age_seconds": 0.0,
			},
		}, got)
		require.Len(t, lookJSON(t, l, "top=1").TopDenied, 1)
		require.Equal(t, []debugDenied{}, lookJSON(t, l, "top=0").TopDenied, "an empty list is no null")
		require.Nil(t, lookJSON(t, l, "").Key)
	})
}

// TestDebugTakesNothing: looking changes neither a level nor a count, and brings
// no key into memory.
func TestDebugTakesNothing(t *testing.T) {
	l := newLimiter(t, limiter.Per(1, 1000*time.Hour))
	before := l.Stats()
	for range 100 {
		d := lookJSON(t, l, "key=k")
		require.True(t, d.Key.Allowed)
		require.Equal(t, 1, *d.Key.Remaining)
		look(l, http.MethodGet, "key=k")
	}
	require.Equal(t, before, l.Stats())
	require.Empty(t, l.TopDenied(1))
}

// TestDebugKeysAreUnderstoodByMachines: what has no number is null, and no byte of a
// key is lost.
func TestDebugKeysAreUnderstoodByMachines(t *testing.T) {
	d := debugKeyOf("k\xff", limiter.Result{Remaining: math.MaxInt, RetryAfter: rate.InfDuration, Age: -1, Limit: limiter.Limit{Rate: rate.Inf}})
	b, err := json.Marshal(d)
	require.NoError(t, err)
	require.JSONEq(t, `{"key": "k�", "key_base64": "a/8=", "allowed": false, "limit": "unlimited", "remaining": null,
		"retry_after_seconds": null, "reset_after_seconds": 0, "age_seconds": null}`, string(b))
	l := newLimiter(t, limiter.Per(1, time.Hour))
	for _, key := range hostile {
		l.Allow(key)
		for range 10 {
			l.Allow(key)
		}
	}
	listed := map[string]bool{}
	for _, k := range lookJSON(t, l, "top=100").TopDenied {
		key := k.Text
		if k.Bytes != nil {
			key = string(k.Bytes)
		}
		require.False(t, k.Digest)
		listed[key] = true
		require.Equal(t, uint64(10), k.Denied)
		require.False(t, lookJSON(t, l, "key="+url.QueryEscape(key)).Key.Allowed)
	}
	for _, key := range hostile {
		require.True(t, listed[key], "%q", key)
	}
}

// hostile are keys that clients may choose.
var hostile = []string{
	"", " ", "<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "' onmouseover='alert(1)", "</title></style>", "&lt;b&gt;&amp;",
	"\x00\x01\x1b[31m\r\n", "\xff\xfe", "\u202emoc.elgoog\u2066", "a b&key=c#d%41+", "{{.}}", "%s%!d(MISSING)", "javascript:alert(1)", "\u2028", `"quoted"`, `\x00`,
}

// TestDebugPageEscapesKeys: no key is anything but text on the page, no two look
// alike, and each is found again by its link.
func TestDebugPageEscapesKeys(t *testing.T) {
	l := newLimiter(t, limiter.Per(1, time.Hour))
	for _, key := range hostile {
		for range 3 {
			l.Allow(key)
		}
	}
	page := look(l, http.MethodGet, "").Body.String()
	tags := map[string]bool{}
	_, body, ok := strings.Cut(page, "</style>")
	require.True(t, ok)
	for _, m := range regexp.MustCompile(`<[/!]?(\w+)`).FindAllStringSubmatch(body, -1) {
		tags[m[1]] = true
	}
	for tag := range tags {
		require.Contains(t, strings.Fields("main h1 h2 span p div table tr th td a form input button html"), tag)
	}
	require.NotContains(t, page, "onerror=alert(1)>")
	for _, r := range page {
		require.True(t, r == '\n' || strconv.IsPrint(r), "%q is on the page", r)
	}
	links := regexp.MustCompile(`<a href="\?top=20&amp;key=([^"]*)">([^<]*)</a>`).FindAllStringSubmatch(page, -1)
	require.Len(t, links, len(hostile))
	shownTexts := map[string]bool{}
	for _, link := range links {
		key, err := url.QueryUnescape(link[1])
		require.NoError(t, err)
		require.Contains(t, hostile, key)
		require.False(t, shownTexts[link[2]], "two keys look like %q", link[2])
		shownTexts[link[2]] = true
		one := look(l, http.MethodGet, "key="+link[1]).Body.String()
		require.Contains(t, one, "<tr><th>key</th><td>"+link[2]+"</td></tr>")
		require.Contains(t, one, "denied, again in ")
		for _, r := range one {
			require.True(t, r == '\n' || strconv.IsPrint(r), "%q is on the page", r)
		}
	}
	require.Contains(t, page, "&lt;script&gt;alert(1)&lt;/script&gt;</a>")
	require.Contains(t, page, "&#34;&#34;</a>", "the empty key is visible")
}

func TestDebugPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, limiter.Per(2, time.Hour))
		require.Contains(t, look(l, http.MethodGet, "").Body.String(), "No key was denied within the last minutes.")
		for range 1237 {
			l.Allow("user:42")
		}
		time.Sleep(time.Minute)
		w := look(l, http.MethodGet, "key=fresh&top=7")
		page := w.Body.String()
		require.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
		for _, want := range []string{
			`<span class="state local">local</span>`, "Since 00:00:00 UTC (1m0s ago). Processes: 1, silent: 0. Keys to report: 0.",
			`<a href="?top=7&amp;key=user%3A42">user:42</a></td><td>1,235</td><td>20.6</td><td>00:00:00 UTC (1m0s ago)</td>`,
			"<tr><th>next request</th><td>admitted</td></tr>", "<tr><th>remaining</th><td>2 tokens, in this process</td></tr>",
			"<tr><th>denied</th><td>1,235</td></tr>", `name="key" value="fresh"`, "prefers-color-scheme: dark", "width=device-width",
		} {
			require.Contains(t, page, want)
		}
		for _, outside := range []string{"http:", "https:", "//", "src=", "<script", "@import"} {
			require.NotContains(t, page, outside)
		}
		d := debugReport{Status: limiter.Status{State: limiter.Degraded, Err: errors.New("dial <b>\n")}, TopDenied: []debugDenied{{key: "c0ffee", Digest: true, Denied: 5, Missed: 1000}}}
		page = string(d.page(20))
		require.Contains(t, page, `<p class="error">&#34;dial &lt;b&gt;\n&#34;</p>`)
		require.Contains(t, page, `<span title="the digest of a key">digest c0ffee</span></td><td>5 to 1,005</td>`)
	})
}

func TestDebugVerdicts(t *testing.T) {
	require.Equal(t, "admitted", verdict(limiter.Result{Allowed: true}))
	require.Equal(t, "denied, again in 1.5s", verdict(limiter.Result{RetryAfter: 1500 * time.Millisecond}))
	require.Equal(t, "denied, at any time", verdict(limiter.Result{RetryAfter: rate.InfDuration}))
	require.Equal(t, "over the limit, admitted in shadow mode", verdict(limiter.Result{Allowed: true, Shadow: true}))
}

func TestDebugAnswersAsAsked(t *testing.T) {
	l := newLimiter(t, limiter.Per(1, time.Hour))
	for _, c := range []struct {
		query  string
		accept []string
		json   bool
	}{
		{"", nil, false},
		{"", []string{"*/*"}, false},
		{"", []string{"application/json"}, true},
		{"", []string{"application/json;q=0.9, text/plain"}, true},
		{"", []string{"text/html,application/xhtml+xml", "application/json;q=0.5"}, false},
		{"", []string{";;;,application/json"}, true},
		{"format=json", []string{"text/html"}, true},
		{"format=html", []string{"application/json"}, false},
	} {
		w := look(l, http.MethodGet, c.query, c.accept...)
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, c.json, json.Valid(w.Body.Bytes()), "%+v", c)
		require.Equal(t, "Accept", w.Header().Get("Vary"))
	}
	for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "DELETE": 405, "OPTIONS": 405} {
		w := look(l, method, "")
		require.Equal(t, want, w.Code, method)
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		if want == http.StatusMethodNotAllowed {
			require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
		}
	}
	for query, want := range map[string]string{
		"top=":         `httplimit: top="": invalid syntax; want a number from 0 to 1000`,
		"top=-1":       `httplimit: top="-1": out of range; want a number from 0 to 1000`,
		"top=1001":     `httplimit: top="1001": out of range; want a number from 0 to 1000`,
		"top=%3Cb%3E":  `httplimit: top="<b>": invalid syntax; want a number from 0 to 1000`,
		"format=xml":   `httplimit: format="xml": want json or html`,
		"key=%zz":      `httplimit: query: invalid URL escape "%zz"`,
		"key=a;format": `httplimit: query: invalid semicolon separator in query`,
	} {
		w := look(l, http.MethodGet, query)
		require.Equal(t, http.StatusBadRequest, w.Code, query)
		require.Equal(t, want+"\n", w.Body.String())
		require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
	}
	require.Panics(t, func() { Debug(nil) })
}

func TestNumbersAndTimesAreShort(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", math.MaxUint64: "18,446,744,073,709,551,615"} {
		require.Equal(t, want, grouped(n))
	}
	require.Equal(t, "-1,000", grouped(-1000))
	require.Equal(t, "-100", grouped(-100))
	for d, want := range map[time.Duration]string{
		0: "0s", 1234567: "1ms", 1234 * time.Millisecond: "1.23s", 12345 * time.Millisecond: "12.3s", 123456 * time.Millisecond: "2m3s", 100 * time.Hour: "100h0m0s",
	} {
		require.Equal(t, want, short(d))
	}
	require.Equal(t, errors.ErrUnsupported, unwrapNumber(errors.ErrUnsupported))
}
