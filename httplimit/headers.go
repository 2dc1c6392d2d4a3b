package httplimit

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
)

// Names of headers in the form in which http.Header keeps them.
var (
	policyHeader    = http.CanonicalHeaderKey("RateLimit-Policy")
	rateLimitHeader = http.CanonicalHeaderKey("RateLimit")
	limitHeader     = http.CanonicalHeaderKey("X-RateLimit-Limit")
	remainingHeader = http.CanonicalHeaderKey("X-RateLimit-Remaining")
	resetHeader     = http.CanonicalHeaderKey("X-RateLimit-Reset")
)

// maxInteger is the largest Integer of RFC 9651.
const maxInteger = 999_999_999_999_999

// headers writes the headers of a limit.
type headers struct {
	name             string // as a String of RFC 9651
	standard, legacy bool
}

func (hs headers) set(h http.Header, res limiter.Result) {
	if hs.standard && res.Remaining != math.MaxInt {
		h.Add(policyHeader, hs.policy(res.Limit))
	}
	hs.setTightest(h, res)
}

// setTightest sets all headers except RateLimit-Policy.
func (hs headers) setTightest(h http.Header, res limiter.Result) {
	if !res.Allowed && !never(res) {
		h.Set("Retry-After", decimal(ceilSeconds(res.RetryAfter)))
	}
	if res.Remaining == math.MaxInt {
		return // no limit, no headers
	}
	if hs.standard {
		h.Add(rateLimitHeader, hs.serviceLimit(res))
	}
	if hs.legacy {
		h.Set(limitHeader, decimal(int64(res.Limit.Burst)))
		h.Set(remainingHeader, decimal(int64(res.Remaining)))
		if d, ok := effectiveWindow(res); ok {
			h.Set(resetHeader, decimal(unixAfter(d)))
		}
	}
}

// setParts sets the headers of a decision on several limits: RateLimit-Policy has a
// member for each part that has a limit, and the others are those of the tightest part.
func (m *middleware) setParts(h http.Header, parts []limiter.Estimate, res limiter.Result, tightest int) {
	hs := m.headers
	if hs.standard {
		var space [256]byte
		b := space[:0]
		for i, p := range parts {
			if p.Result().Remaining == math.MaxInt {
				continue
			}
			if len(b) > 0 {
				b = append(b, ", "...)
			}
			b = appendPolicy(appendQuoted(b, m.nameOf(parts, i)), p.Result().Limit)
		}
		if len(b) > 0 {
			h.Add(policyHeader, string(b))
		}
	}
	if tightest >= 0 {
		hs.name = quoted(m.nameOf(parts, tightest))
	}
	hs.setTightest(h, res)
}

// nameOf returns the name of a part's policy, as text.
func (m *middleware) nameOf(parts []limiter.Estimate, i int) string {
	switch name := parts[i].Name(); {
	case name != "":
		return name
	case i == 0:
		return m.PolicyName
	}
	return m.PolicyName + "-" + strconv.Itoa(i+1)
}

// violated returns the printable names of the parts that deny.
func (m *middleware) violated(parts []limiter.Estimate) (names []string) {
	for i, p := range parts {
		if !p.Result().Allowed {
			names = append(names, printable(m.nameOf(parts, i)))
		}
	}
	return names
}

// policy returns the member of RateLimit-Policy.
func (hs headers) policy(l limiter.Limit) string {
	var space [64]byte
	return string(appendPolicy(append(space[:0], hs.name...), l))
}

// appendPolicy appends the parameters of a policy.
func appendPolicy(b []byte, l limiter.Limit) []byte {
	b = appendParameter(b, ";q=", int64(l.Burst))
	if l.Rate > 0 {
		b = appendParameter(b, ";w=", window(l))
	}
	return b
}

// serviceLimit returns the member of RateLimit.
func (hs headers) serviceLimit(res limiter.Result) string {
	var space [64]byte
	b := appendParameter(append(space[:0], hs.name...), ";r=", int64(res.Remaining))
	if d, ok := effectiveWindow(res); ok {
		b = appendParameter(b, ";t=", ceilSeconds(d))
	}
	return string(b)
}

func appendParameter(b []byte, name string, value int64) []byte {
	return strconv.AppendInt(append(b, name...), min(value, maxInteger), 10)
}

// window returns the time in which an empty bucket becomes full, in seconds.
func window(l limiter.Limit) int64 {
	millis := math.Round(float64(l.Burst) / float64(l.Rate) * 1000)
	return int64(max(1, min(math.Ceil(millis/1000), maxInteger)))
}

// never reports whether a request was denied that no wait would help.
func never(res limiter.Result) bool { return res.RetryAfter == rate.InfDuration }

// effectiveWindow returns the time in which a client should make at most the
// remaining requests. It is not ok for a bucket that is never refilled.
//
// It is the time until the bucket is full or, if nothing remains, until the next
// token. Because clients pace themselves by r/t, the time until the next token would
// invite them, with 99 tokens and a t of 1, to a hundred times the rate. If nothing
// remains, the time until full would keep them away for too long.
func effectiveWindow(res limiter.Result) (d time.Duration, ok bool) {
	switch {
	case res.Limit.Rate == 0:
		return 0, false
	case res.RetryAfter > 0 && !never(res):
		return res.RetryAfter, true // the draft: Retry-After should not end earlier
	case res.Remaining > 0:
		return res.ResetAfter, true
	}
	left := res.ResetAfter.Seconds() - float64(res.Limit.Burst-1)/float64(res.Limit.Rate)
	return time.Duration(min(max(1, left*1e9), 1<<62)), true // 1<<62: within the range of int64
}

// ceilSeconds returns d in seconds, rounded up, at least 1 for a d above 0. Less than
// a microsecond above a second is the noise of arithmetic.
func ceilSeconds(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64(max(0, d-time.Microsecond)/time.Second) + 1
}

// unixAfter returns the instant after d, in seconds of Unix time, rounded up.
func unixAfter(d time.Duration) int64 {
	t := time.Now().Add(d) //nolint:forbidigo // a time of day for the client; no decision comes of it
	return t.Unix() + ceilSeconds(time.Duration(t.Nanosecond()))
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// printable writes the bytes that a String of RFC 9651 can't hold as %XX.
func printable(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if isPrintable(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}

func isPrintable(c byte) bool { return c >= ' ' && c <= '~' }

// quoted returns text as a String of RFC 9651, printable.
func quoted(s string) string { return string(appendQuoted(nil, s)) }

func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case !isPrintable(c):
			b = fmt.Appendf(b, "%%%02X", c)
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
