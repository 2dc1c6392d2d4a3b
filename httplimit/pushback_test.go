package httplimit

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// serverTime is the Date of responses, and pushbackNow the time here: a minute ahead.
var (
	serverTime  = time.Date(2026, 5, 23, 10, 0, 0, 0, time.UTC) // 1779530400
	pushbackNow = serverTime.Add(time.Minute)
)

// headerOf parses lines of the form "Name: value".
func headerOf(lines ...string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return h
}

func TestPushback(t *testing.T) {
	const date = "Date: Sat, 23 May 2026 10:00:00 GMT"
	for _, tc := range []struct {
		name   string
		status int
		lines  []string
		want   time.Duration
	}{
		{"nothing", 200, nil, 0},
		{"429 with nothing", 429, nil, 0},

		{"Retry-After", 429, []string{"Retry-After: 5"}, 5 * time.Second},
		{"Retry-After on 503", 503, []string{"Retry-After: 5"}, 5 * time.Second},
		{"Retry-After of none", 429, []string{"Retry-After: 0"}, 0},
		{"Retry-After with a fraction", 429, []string{"Retry-After: 0.25"}, 250 * time.Millisecond},
		{"Retry-After, rounded up", 429, []string{"Retry-After: 0.0000000001"}, 1},
		{"Retry-After of a year", 429, []string{"Retry-After: 31536000"}, 8760 * time.Hour},
		{"Retry-After beyond int64", 429, []string{"Retry-After: 99999999999999999999999999"}, math.MaxInt64},
		{"Retry-After beyond float64", 429, []string{"Retry-After: " + strings.Repeat("9", 400)}, math.MaxInt64},
		{"Retry-After of 2001 in seconds", 429, []string{"Retry-After: 1000000000"}, 1e9 * time.Second},
		{"the longest Retry-After", 429, []string{"Retry-After: 5", "Retry-After: 7", "Retry-After: x"}, 7 * time.Second},
		{"Retry-After, negative", 429, []string{"Retry-After: -5"}, 0},
		{"Retry-After, NaN", 429, []string{"Retry-After: NaN"}, 0},
		{"Retry-After, Inf", 429, []string{"Retry-After: Inf"}, 0},
		{"Retry-After, exponent", 429, []string{"Retry-After: 1e3"}, 0},
		{"Retry-After, hexadecimal", 429, []string{"Retry-After: 0x10"}, 0},
		{"Retry-After, plus", 429, []string{"Retry-After: +5"}, 0},
		{"Retry-After, two points", 429, []string{"Retry-After: 1.2.3"}, 0},
		{"Retry-After, point", 429, []string{"Retry-After: ."}, 0},
		{"Retry-After, nonsense", 429, []string{"Retry-After: soon"}, 0},
		{"Retry-After, empty", 429, []string{"Retry-After: "}, 0},
		{"Retry-After on 200", 200, []string{"Retry-After: 5"}, 0},
		{"Retry-After on a redirection", 301, []string{"Retry-After: 5"}, 0},
		{"Retry-After on 403", 403, []string{"Retry-After: 5"}, 0},
		{"Retry-After on 403 of GitHub", 403, []string{"Retry-After: 5", "X-RateLimit-Remaining: 4999"}, 5 * time.Second},

		{"date, by the server's clock", 429, []string{date, "Retry-After: Sat, 23 May 2026 10:00:30 GMT"}, 30 * time.Second},
		{"date, by the own clock", 429, []string{"Retry-After: Sat, 23 May 2026 10:01:30 GMT"}, 30 * time.Second},
		{"date, Date malformed", 429, []string{"Date: now", "Retry-After: Sat, 23 May 2026 10:01:30 GMT"}, 30 * time.Second},
		{"date of RFC 850", 429, []string{date, "Retry-After: Saturday, 23-May-26 10:00:30 GMT"}, 30 * time.Second},
		{"date of asctime", 429, []string{date, "Retry-After: Sat May 23 10:00:30 2026"}, 30 * time.Second},
		{"date, past", 429, []string{date, "Retry-After: Sat, 23 May 2026 09:59:59 GMT"}, 0},
		{"date, now", 429, []string{date, "Retry-After: Sat, 23 May 2026 10:00:00 GMT"}, 0},
		{"date, malformed", 429, []string{date, "Retry-After: Sat, 32 May 2026 10:00:30 GMT"}, 0},
		{"date, far", 429, []string{date, "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT"}, math.MaxInt64},

		{"RateLimit, none left", 200, []string{`RateLimit: "default";r=0;t=30`}, 30 * time.Second},
		{"RateLimit, some left", 200, []string{`RateLimit: "default";r=1;t=30`}, 0},
		{"RateLimit on 429", 429, []string{`RateLimit: "default";r=0;t=30`}, 30 * time.Second},
		{"RateLimit, several", 200, []string{`RateLimit: "second";r=0;t=1, "day";r=9;t=3600 ,"hour";t=60;r=0`}, time.Minute},
		{"RateLimit, several lines", 200, []string{`RateLimit: "second";r=0;t=1`, `RateLimit: "hour";r=0;t=60`}, time.Minute},
		{"RateLimit with other parameters", 200, []string{`RateLimit: "a\"b\\,;";pk=:cHsdsRa894==:;acme-x=1.5;y;z=?0;d=@1;s=%"x";r=0; t=30`}, 30 * time.Second},
		{"RateLimit, the last of two parameters", 200, []string{`RateLimit: "default";r=5;t=1;r=0;t=30`}, 30 * time.Second},
		{"RateLimit, a Token as in revision 8", 200, []string{`RateLimit: default;r=0;t=30`}, 30 * time.Second},
		{"RateLimit, no t", 200, []string{`RateLimit: "default";r=0`}, 0},
		{"RateLimit, no t, but a window", 200, []string{`RateLimit: "b";r=0`, `RateLimit-Policy: "a";q=1;w=9, "b";q=100;w=60`}, time.Minute},
		{"RateLimit, t before the window", 200, []string{`RateLimit: "b";r=0;t=5`, `RateLimit-Policy: "b";q=100;w=60`}, 5 * time.Second},
		{"RateLimit, another policy's window", 200, []string{`RateLimit: "c";r=0`, `RateLimit-Policy: "b";q=100;w=60`}, 0},
		{"RateLimit, no t, a malformed policy", 200, []string{`RateLimit: "b";r=0`, `RateLimit-Policy: "b";q=100;w=60,`}, 0},
		{"RateLimit of bytes", 200, []string{`RateLimit: "b";r=0;t=5`, `RateLimit-Policy: "b";q=100;w=60;qu="content-bytes"`}, 5 * time.Second},
		{"RateLimit of concurrent requests", 200, []string{`RateLimit: "b";r=0;t=5`, `RateLimit-Policy: "b";q=100;qu="concurrent-requests"`}, 0},
		{"RateLimit of one policy given twice", 200, []string{`RateLimit: "b";r=0`, `RateLimit-Policy: "b";w=60, "b";w=9`}, time.Minute},
		{"RateLimit, t=0", 200, []string{`RateLimit: "default";r=0;t=0`}, 0},
		{"RateLimit, the largest t", 200, []string{`RateLimit: "default";r=0;t=999999999999999`}, math.MaxInt64},
		{"RateLimit, t too long", 200, []string{`RateLimit: "default";r=0;t=9999999999999999`}, 0},
		{"RateLimit, negative t", 200, []string{`RateLimit: "default";r=0;t=-5`}, 0},
		{"RateLimit, negative r", 200, []string{`RateLimit: "default";r=-1;t=5`}, 0},
		{"RateLimit, decimal r", 200, []string{`RateLimit: "default";r=0.0;t=5`}, 0},
		{"RateLimit, no r", 200, []string{`RateLimit: "default";t=5`}, 0},
		{"RateLimit, a number for a name", 200, []string{`RateLimit: 1;r=0;t=5`}, 0},
		{"RateLimit, malformed later on", 200, []string{`RateLimit: "default";r=0;t=30, "x`}, 0},
		{"RateLimit, comma at the end", 200, []string{`RateLimit: "default";r=0;t=30,`}, 0},
		{"RateLimit, text after a member", 200, []string{`RateLimit: "default";r=0;t=30 x`}, 0},
		{"RateLimit, an inner list", 200, []string{`RateLimit: ("default");r=0;t=30`}, 0},
		{"RateLimit, upper case", 200, []string{`RateLimit: "default";R=0;T=30`}, 0},
		{"RateLimit, not ASCII", 200, []string{`RateLimit: "täglich";r=0;t=30`}, 0},
		{"RateLimit, empty", 200, []string{`RateLimit: `}, 0},

		{"revision 7", 200, []string{`RateLimit: limit=100, remaining=0, reset=5`}, 5 * time.Second},
		{"revision 7, some left", 200, []string{`RateLimit: limit=100, remaining=1, reset=5`}, 0},
		{"revision 7, negative", 200, []string{`RateLimit: limit=100, remaining=0, reset=-5`}, 0},
		{"revision 7, no remaining", 200, []string{`RateLimit: limit=100, reset=5`}, 0},
		{"revision 6", 200, []string{"RateLimit-Limit: 100", "RateLimit-Remaining: 0", "RateLimit-Reset: 5"}, 5 * time.Second},
		{"revision 6, some left", 200, []string{"RateLimit-Limit: 100", "RateLimit-Remaining: 1", "RateLimit-Reset: 5"}, 0},

		{"X-RateLimit", 200, []string{"X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 30"}, 30 * time.Second},
		{"X-RateLimit, some left", 200, []string{"X-RateLimit-Remaining: 1", "X-RateLimit-Reset: 30"}, 0},
		{"X-RateLimit on 429 with some left", 429, []string{"X-RateLimit-Remaining: 1", "X-RateLimit-Reset: 30"}, 0},
		{"X-RateLimit, less than one left", 200, []string{"X-RateLimit-Remaining: 0.5", "X-RateLimit-Reset: 30"}, 30 * time.Second},
		{"X-RateLimit, no Remaining", 200, []string{"X-RateLimit-Reset: 30"}, 0},
		{"X-RateLimit, no Remaining on 429", 429, []string{"X-RateLimit-Reset: 30"}, 30 * time.Second},
		{"X-RateLimit, no Reset", 429, []string{"X-RateLimit-Remaining: 0"}, 0},
		{"X-RateLimit, negative Remaining", 200, []string{"X-RateLimit-Remaining: -1", "X-RateLimit-Reset: 30"}, 0},
		{"X-RateLimit, negative Reset", 200, []string{"X-RateLimit-Remaining: 0", "X-RateLimit-Reset: -30"}, 0},
		{"X-RateLimit, NaN", 200, []string{"X-RateLimit-Remaining: 0", "X-RateLimit-Reset: NaN"}, 0},
		{"X-RateLimit, nonsense left", 200, []string{"X-RateLimit-Remaining: none", "X-RateLimit-Reset: 30"}, 0},
		{"X-RateLimit, Remaining with a parameter", 200, []string{"X-RateLimit-Remaining: 0;w=60", "X-RateLimit-Reset: 30"}, 30 * time.Second},
		{"GitHub: Unix time by the server's clock", 403, []string{date, "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1779530700"}, 5 * time.Minute},
		{"GitHub: Unix time by the own clock", 403, []string{"X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1779530700"}, 4 * time.Minute},
		{"Unix time, past", 200, []string{date, "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1779530399"}, 0},
		{"Unix time with a fraction", 200, []string{date, "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1779530401.5"}, 1500 * time.Millisecond},
		{"Unix time in milliseconds", 200, []string{date, "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1779530430000"}, 30 * time.Second},
		{"Unix time in milliseconds, past", 200, []string{date, "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1779530370000"}, 0},
		{"Unix time, far", 200, []string{date, "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 99999999999999999999999"}, math.MaxInt64},
		{"a year to go", 200, []string{date, "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 31536000"}, 8760 * time.Hour},
		{"RFC 3339", 200, []string{date, "Anthropic-Ratelimit-Requests-Remaining: 0", "Anthropic-Ratelimit-Requests-Reset: 2026-05-23T10:00:30Z"}, 30 * time.Second},
		{"a date for a reset", 200, []string{date, "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: Sat, 23 May 2026 10:00:30 GMT"}, 30 * time.Second},
		{"OpenAI: a duration", 200, []string{"X-RateLimit-Remaining-Requests: 9", "X-RateLimit-Reset-Requests: 1s", "X-RateLimit-Remaining-Tokens: 0", "X-RateLimit-Reset-Tokens: 6m0.5s"}, 6*time.Minute + 500*time.Millisecond},
		{"a negative duration", 200, []string{"X-RateLimit-Remaining: 0", "X-RateLimit-Reset: -6m"}, 0},
		{"Discord: seconds beside Unix time", 200, []string{date, "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1779530401.5", "X-RateLimit-Reset-After: 1.75"}, 1750 * time.Millisecond},
		{"Twitter", 429, []string{date, "X-Rate-Limit-Remaining: 0", "X-Rate-Limit-Reset: 1779531000"}, 10 * time.Minute},
		{"two limits in one header", 200, []string{"X-RateLimit-Remaining: 0, 5", "X-RateLimit-Reset: 1, 3600"}, time.Second},
		{"two limits in two lines", 200, []string{"X-RateLimit-Remaining: 5", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1", "X-RateLimit-Reset: 3600"}, time.Hour},
		{"two limits and one reset", 200, []string{"X-RateLimit-Remaining: 0, 5", "X-RateLimit-Reset: 3600"}, 0},
		{"another header that resets", 429, []string{"X-Password-Reset: 30"}, 0},

		{"Retry-After before the others", 429, []string{"Retry-After: 5", `RateLimit: "default";r=0;t=30`, "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 60"}, 5 * time.Second},
		{"Retry-After of none before the others", 429, []string{"Retry-After: 0", `RateLimit: "default";r=0;t=30`, "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 3600"}, 0},
		{"past Retry-After before the others", 503, []string{date, "Retry-After: Sat, 23 May 2026 09:59:59 GMT", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 3600"}, 0},
		{"Retry-After of none beside a malformed one", 429, []string{"Retry-After: x", "Retry-After: 0", "X-RateLimit-Reset: 3600"}, 0},
		{"Retry-After of none where it does not count", 200, []string{"Retry-After: 0", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 60"}, time.Minute},
		{"negative Retry-After beside the others", 429, []string{"Retry-After: -1", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 60"}, time.Minute},
		{"malformed Retry-After beside the others", 429, []string{"Retry-After: x", `RateLimit: "default";r=0;t=30`}, 30 * time.Second},
		{"the longest of all", 200, []string{`RateLimit: "default";r=0;t=30`, "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 60"}, time.Minute},
		{"from a cache", 200, []string{"Age: 10", `RateLimit: "default";r=0;t=30`, "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 60"}, 0},
		{"through a cache", 200, []string{"Age: 0", `RateLimit: "default";r=0;t=30`}, 30 * time.Second},
		{"Retry-After through a cache", 503, []string{"Age: 10", "Retry-After: 5"}, 5 * time.Second},
	} {
		if got := (received{tc.status, headerOf(tc.lines...), pushbackNow}).pushback(); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// TestPushbackIgnoresCostlyHeaders: those at the bounds count, and those above them are
// neither obeyed nor copied.
func TestPushbackIgnoresCostlyHeaders(t *testing.T) {
	repeat := func(s string, n int) string { return strings.TrimSuffix(strings.Repeat(s+",", n), ",") }
	names := func(n int) http.Header {
		h := headerOf("X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 60")
		for i := len(h); i < n; i++ {
			h.Set("X-"+strconv.Itoa(i), "x")
		}
		return h
	}
	many := func(name, value string, n int) http.Header {
		h := http.Header{}
		for range n {
			h.Add(name, value)
		}
		return h
	}
	pad := func(n int) http.Header {
		return http.Header{"Ratelimit": {`"a";r=0;t=60`}, "X-Ratelimit-Limit": {strings.Repeat("x", n-len(`Ratelimit"a";r=0;t=60X-Ratelimit-Limit`))}}
	}
	const huge = 1 << 20
	for name, tc := range map[string]struct {
		header http.Header
		want   time.Duration
	}{
		"members at the bound":    {http.Header{"Ratelimit": {repeat(`"a";r=0;t=60`, 32)}, "Ratelimit-Policy": {repeat(`"b"`, 32)}}, time.Minute},
		"members":                 {http.Header{"Ratelimit": {repeat(`"a";r=0;t=60`, 32)}, "Ratelimit-Policy": {repeat(`"b"`, 33)}}, 0},
		"very many members":       {http.Header{"Ratelimit": {repeat(`"a";r=0;t=60`, huge)}}, 0},
		"very many policies":      {http.Header{"Ratelimit": {`"a";r=0;t=60`}, "Ratelimit-Policy": {repeat(`"b"`, huge)}}, 0},
		"lines at the bound":      {many("RateLimit", `"a";r=0;t=60`, 64), time.Minute},
		"lines":                   {many("RateLimit", `"a";r=0;t=60`, 65), 0},
		"bytes at the bound":      {pad(4096), time.Minute},
		"bytes":                   {pad(4097), 0},
		"a name":                  {http.Header{"X-Ratelimit-Reset" + strings.Repeat("x", huge): {"60"}}, 0},
		"a reset":                 {http.Header{"X-Ratelimit-Reset": {strings.Repeat("9", huge)}}, 0},
		"another form's lines":    {http.Header{"X-Ratelimit-Reset": {"60"}, "X-Rate-Limit-Remaining": {repeat("0", huge)}}, 0},
		"names at the bound":      {names(256), time.Minute},
		"names":                   {names(257), 0},
		"Retry-After":             {http.Header{"Retry-After": {strings.Repeat("9", huge)}}, 0},
		"Retry-After's lines":     {many("Retry-After", "60", 65), 0},
		"Retry-After among names": {func() http.Header { h := names(999); h.Set("Retry-After", "5"); return h }(), 5 * time.Second},
		"an Age":                  {http.Header{"Age": {strings.Repeat("9", huge)}, "X-Ratelimit-Reset": {"60"}}, time.Minute},
		"a Date":                  {http.Header{"Date": {strings.Repeat("9", huge)}, "Retry-After": {"Sat, 23 May 2026 10:02:00 GMT"}}, time.Minute},
	} {
		r := received{429, tc.header, pushbackNow}
		if got := r.pushback(); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
		if n := testing.AllocsPerRun(1, func() { r.pushback() }); tc.want == 0 && n > 1 { // one of a parser that has nothing to parse
			t.Errorf("%s: %v allocations for headers that are ignored", name, n)
		}
	}
}

func TestPushbackWithoutHeaders(t *testing.T) {
	if got := (received{status: 429}).pushback(); got != 0 {
		t.Errorf("a response without headers asks for %v", got)
	}
}

// FuzzPushback: no header of any kind makes a hold that is negative, or that exceeds
// MaxHold.
func FuzzPushback(f *testing.F) {
	for _, seed := range []string{
		"5", "0", "-5", "NaN", "1e9", "Sat, 23 May 2026 10:00:30 GMT", "2026-05-23T10:00:30Z", "6m0s", "1779530700", "1779530700000",
		`"default";r=0;t=30`, `"a";r=0, "b";r=0;t=9`, "limit=1, remaining=0, reset=5", `"x`, `a;b=:x:;c=?1;d=@5;e=%"x"`, "0, 5", "\x00\xff", "9999999999999999999999999",
	} {
		for _, status := range []int{200, 403, 429, 503} {
			f.Add(status, seed, "0", seed)
		}
	}
	f.Fuzz(func(t *testing.T, status int, retry, left, reset string) {
		for _, h := range []http.Header{
			{"Retry-After": {retry}},
			{"Ratelimit": {retry}, "Ratelimit-Policy": {reset}},
			{"Ratelimit": {retry, left, reset}},
			{"Ratelimit-Remaining": {left}, "Ratelimit-Reset": {reset}},
			{"X-Ratelimit-Remaining": {left}, "X-Ratelimit-Reset": {reset, retry}, "X-Ratelimit-Reset-After": {retry}},
			{"Date": {reset}, "Retry-After": {retry}, "Age": {left}, "X-Ratelimit-Remaining": {left}, "X-Ratelimit-Reset": {reset}},
		} {
			d := received{status, h, pushbackNow}.pushback()
			if d < 0 {
				t.Errorf("%v: %v", h, d)
			}
			var tr Transport
			if d := tr.clamp(d); d < 0 || d > defaultMaxHold {
				t.Errorf("%v: a hold of %v", h, d)
			}
		}
	})
}
