package httplimit

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
)

func TestWindowIsInWholeSecondsAndNeverFlatters(t *testing.T) {
	for _, tc := range []struct {
		limit limiter.Limit
		want  string
	}{
		{limiter.Per(100, 15*time.Minute), `"p";q=100;w=900`},
		{limiter.Per(7, time.Hour), `"p";q=7;w=3600`},
		{limiter.Per(333, 24*time.Hour), `"p";q=333;w=86400`},
		{limiter.Per(10, 500*time.Millisecond), `"p";q=10;w=1`},
		{limiter.Per(10, 1500*time.Millisecond), `"p";q=10;w=2`},
		{limiter.Limit{Rate: 3, Burst: 10}, `"p";q=10;w=4`},
		{limiter.Limit{Rate: 1e9, Burst: 1}, `"p";q=1;w=1`},
		{limiter.Limit{Rate: 1e-300, Burst: math.MaxInt32}, `"p";q=2147483647;w=999999999999999`},
		{limiter.Limit{}, `"p";q=0`},
	} {
		if got := (headers{name: `"p"`}).policy(tc.limit); got != tc.want {
			t.Errorf("policy of %v is %s, want %s", tc.limit, got, tc.want)
		}
	}
}

func TestServiceLimitSaysWhenToLookAgain(t *testing.T) {
	lim := limiter.Per(100, 15*time.Minute) // a token in 9 s
	for _, tc := range []struct {
		name string
		res  limiter.Result
		want string
	}{
		{"full", limiter.Result{Allowed: true, Limit: lim, Remaining: 100}, `"p";r=100;t=0`},
		{"tokens left: until full", limiter.Result{Allowed: true, Limit: lim, Remaining: 50, ResetAfter: 449*time.Second + time.Millisecond}, `"p";r=50;t=450`},
		{"noise", limiter.Result{Allowed: true, Limit: lim, Remaining: 50, ResetAfter: 450*time.Second + 1}, `"p";r=50;t=450`},
		{"none left: until the next", limiter.Result{Allowed: true, Limit: lim, ResetAfter: 895 * time.Second}, `"p";r=0;t=4`},
		{"none left here, some elsewhere", limiter.Result{Allowed: true, Limit: lim, ResetAfter: 5 * time.Second}, `"p";r=0;t=1`},
		{"in debt", limiter.Result{Limit: lim, ResetAfter: 1800 * time.Second, RetryAfter: 909 * time.Second}, `"p";r=0;t=909`},
		{"denied: as Retry-After", limiter.Result{Limit: lim, Remaining: 3, ResetAfter: 890 * time.Second, RetryAfter: time.Millisecond}, `"p";r=3;t=1`},
		{"never", limiter.Result{Limit: lim, Remaining: 99, ResetAfter: 9 * time.Second, RetryAfter: rate.InfDuration}, `"p";r=99;t=9`},
		{"an age", limiter.Result{Limit: limiter.Limit{Rate: 1e-300, Burst: 1}, ResetAfter: rate.InfDuration}, `"p";r=0;t=4611686019`},
		{"nothing, ever", limiter.Result{RetryAfter: rate.InfDuration}, `"p";r=0`},
	} {
		if got := (headers{name: `"p"`}).serviceLimit(tc.res); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestParametersAreIntegersOfTheStandard(t *testing.T) {
	for value, want := range map[int64]string{0: ";q=0", maxInteger: ";q=999999999999999", math.MaxInt64: ";q=999999999999999"} {
		if got := string(appendParameter(nil, ";q=", value)); got != want {
			t.Errorf("%d: %s, want %s", value, got, want)
		}
	}
}

// TestClientsThatBelieveTheHeadersAreNotDenied: the draft says that a client
// should not exceed r within t.
func TestClientsThatBelieveTheHeadersAreNotDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := limited(newLimiter(t, limiter.Per(10, time.Minute)), Options{})
		for range 100 {
			resp := get(h)
			require.Equal(t, 200, resp.StatusCode)
			if seconds, none := strings.CutPrefix(resp.Header.Get("RateLimit"), `"default";r=0;t=`); none {
				wait, err := time.ParseDuration(seconds + "s")
				require.NoError(t, err)
				require.Equal(t, 6*time.Second, wait)
				time.Sleep(wait)
			}
		}
	})
}

// TestClientsThatPaceThemselvesSettleAtTheRate: one request every t/r seconds.
func TestClientsThatPaceThemselvesSettleAtTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := limited(newLimiter(t, limiter.Per(100, 15*time.Minute)), Options{})
		var begin time.Time
		for i := range 400 {
			if i == 200 {
				begin = time.Now()
			}
			resp := get(h)
			require.Equal(t, 200, resp.StatusCode)
			var r, s int
			_, err := fmt.Sscanf(resp.Header.Get("RateLimit"), `"default";r=%d;t=%d`, &r, &s)
			require.NoError(t, err)
			require.Positive(t, r)
			time.Sleep(time.Duration(s) * time.Second / time.Duration(r))
		}
		require.InDelta(t, 9, time.Since(begin).Seconds()/200, 0.2)
	})
}

func TestLegacyResetIsUnixTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at 946684800, 2000-01-01
		time.Sleep(100 * time.Millisecond)
		h := limited(newLimiter(t, limiter.Per(2, time.Minute)), Options{LegacyHeaders: true})
		for _, want := range []struct {
			status           int
			remaining, reset string
		}{
			{200, "1", "946684831"}, // full again after 30 s
			{200, "0", "946684831"}, // the next token after 30 s
			{429, "0", "946684831"},
		} {
			resp := get(h)
			require.Equal(t, want.status, resp.StatusCode)
			require.Equal(t, "2", resp.Header.Get("X-RateLimit-Limit"))
			require.Equal(t, want.remaining, resp.Header.Get("X-RateLimit-Remaining"))
			require.Equal(t, want.reset, resp.Header.Get("X-RateLimit-Reset"))
		}
	})
}

func TestPolicyNameCannotBreakOut(t *testing.T) {
	for _, tc := range []struct{ name, want string }{
		{"", `"default"`},
		{"per minute", `"per minute"`},
		{`a"b\c`, `"a\"b\\c"`},
		{"a\r\nSet-Cookie: x=1", `"a%0D%0ASet-Cookie: x=1"`},
		{"täglich\x7f\x00\xff", `"t%C3%A4glich%7F%00%FF"`},
		{`x";q=1,"y`, `"x\";q=1,\"y"`},
	} {
		resp := get(limited(newLimiter(t, limiter.Per(5, time.Minute)), Options{PolicyName: tc.name}))
		require.Equal(t, []string{tc.want + ";q=5;w=60"}, resp.Header.Values("RateLimit-Policy"))
		require.Equal(t, []string{tc.want + ";r=4;t=12"}, resp.Header.Values("RateLimit"))
	}
}

func TestKeysAreInNoHeader(t *testing.T) {
	const key = "secret\r\nX: y"
	h := limited(newLimiter(t, limiter.Per(1, time.Hour)), Options{
		Key: func(*http.Request) string { return key }, LegacyHeaders: true,
	})
	for range 2 {
		for name, values := range get(h).Header {
			for _, v := range values {
				if strings.Contains(v, "secret") {
					t.Errorf("%s: %q contains the key", name, v)
				}
			}
		}
	}
}
