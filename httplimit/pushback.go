package httplimit

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

var (
	retryAfterHeader = http.CanonicalHeaderKey("Retry-After")
	ageHeader        = http.CanonicalHeaderKey("Age")
	dateHeader       = http.CanonicalHeaderKey("Date")
)

// Numbers of a reset at which another unit begins. Seconds to go are at most 16 years.
// Unix time in seconds is from 1985 to 5138; above that it is in milliseconds.
const (
	leastUnix       = 5e8
	leastUnixMillis = 1e11
)

// concurrent is the quota unit of a limit on requests in progress, of which no time
// is known at which the next one may begin.
const concurrent = "concurrent-requests"

// received is the part of a response that says when requests are wanted again.
type received struct {
	status int
	header http.Header
	at     time.Time // of its arrival
}

// pushback returns the time for which the server asks for no further requests; 0: it
// does not. A Retry-After takes precedence over all else, as the draft requires.
func (r received) pushback() (d time.Duration) {
	if r.obeysRetryAfter() {
		for _, v := range r.header[retryAfterHeader] {
			d = max(d, r.retryAfter(v))
		}
	}
	if age, ok := number(r.header.Get(ageHeader)); d > 0 || ok && age > 0 {
		return d // limits from a cache may not be current
	}
	return max(serviceLimits(r.header), r.olderLimits())
}

// now returns the instant from which times of day count: the response's Date, if it
// has one, so that the clocks may differ.
func (r received) now() time.Time {
	if date, err := http.ParseTime(r.header.Get(dateHeader)); err == nil {
		return date
	}
	return r.at
}

// obeysRetryAfter reports whether Retry-After means that a limit was exceeded. On a
// redirection it means something else. GitHub sends it with 403, too.
func (r received) obeysRetryAfter() bool {
	switch r.status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return true
	case http.StatusForbidden:
		return len(r.header[remainingHeader]) > 0
	}
	return false
}

// serviceLimits returns the longest time without quota of the members of RateLimit, as
// of revisions 7 to 11 of the draft.
func serviceLimits(h http.Header) (d time.Duration) {
	limits, ok := parseList(h[rateLimitHeader])
	if !ok {
		return dictionaryLimit(h[rateLimitHeader])
	}
	var policies []member
	for i := range limits {
		m := &limits[i]
		if r, ok := m.integerOf("r"); !ok || r > 0 || !m.named() {
			continue
		}
		if policies == nil {
			policies, _ = parseList(h[policyHeader])
		}
		d = max(d, reset(m, policies))
	}
	return d
}

// named reports whether a member has the name of a policy. It is a Token in revision 8.
func (m *member) named() bool { return m.value.kind == stringItem || m.value.kind == tokenItem }

// reset returns the time until a policy without quota has some again: t, and without it
// the window of the policy, in which quota comes back at the latest.
func reset(m *member, policies []member) time.Duration {
	t, known := m.integerOf("t")
	for i := range policies {
		if p := &policies[i]; p.named() && p.value.text == m.value.text {
			if p.textOf("qu") == concurrent {
				return 0
			}
			if !known {
				t, _ = p.integerOf("w")
			}
		}
	}
	return seconds(float64(t))
}

// dictionaryLimit returns the time without quota of a RateLimit of revision 7:
// limit=100, remaining=0, reset=5.
func dictionaryLimit(lines []string) time.Duration {
	members, ok := parseDictionary(lines)
	if !ok {
		return 0
	}
	remaining, reset := int64(-1), int64(-1)
	for i := range members {
		if m := &members[i]; m.value.kind == integerItem {
			switch m.key {
			case "remaining":
				remaining = m.value.integer
			case "reset":
				reset = m.value.integer
			}
		}
	}
	if remaining != 0 {
		return 0
	}
	return seconds(float64(reset))
}

// olderLimits returns the longest time without quota of pairs of headers, of which one
// says how much is left and one when there is more: RateLimit-Remaining and -Reset of
// the draft until revision 6, X-RateLimit-Remaining and -Reset, X-Rate-Limit-…,
// X-RateLimit-Reset-After, X-RateLimit-Remaining-Requests and others of the form.
func (r received) olderLimits() (d time.Duration) {
	for name, resets := range r.header {
		if !strings.Contains(name, "Reset") || !strings.Contains(name, "Ratelimit") && !strings.Contains(name, "Rate-Limit") {
			continue
		}
		left := strings.TrimSuffix(strings.Replace(name, "Reset", "Remaining", 1), "-After")
		d = max(d, r.pairedLimits(r.header[left], resets))
	}
	return d
}

// pairedLimits returns the longest reset of those that belong to nothing left. If a
// request was denied and nothing says how much is left, that is nothing.
func (r received) pairedLimits(left, resets []string) (d time.Duration) {
	left, resets = elements(left), elements(resets)
	if len(left) != len(resets) && (len(left) > 0 || r.status != http.StatusTooManyRequests) {
		return 0
	}
	for i, reset := range resets {
		if len(left) > 0 {
			amount, _, _ := strings.Cut(left[i], ";") // parameters of some servers
			if n, ok := number(amount); !ok || n >= 1 {
				continue
			}
		}
		d = max(d, r.untilReset(reset))
	}
	return d
}

// elements returns the elements of a header's lines. A date is one, with its comma.
func elements(lines []string) (all []string) {
	if len(lines) == 1 && !strings.Contains(lines[0], ",") {
		return lines
	}
	for _, line := range lines {
		if _, err := http.ParseTime(line); err == nil {
			all = append(all, line)
		} else {
			all = append(all, strings.Split(line, ",")...)
		}
	}
	return all
}

// retryAfter returns the time that a value of Retry-After gives: seconds or a date.
func (r received) retryAfter(v string) time.Duration {
	if n, ok := number(v); ok {
		return seconds(n)
	}
	return r.untilDate(v)
}

// untilReset returns the time that a reset gives: seconds, seconds or milliseconds of
// Unix time, a duration such as 6m0s, or a date.
func (r received) untilReset(v string) time.Duration {
	v = strings.TrimSpace(v)
	n, ok := number(v)
	switch {
	case ok && n >= leastUnixMillis:
		return seconds(n/1e3 - float64(r.now().UnixMilli())/1e3)
	case ok && n >= leastUnix:
		return seconds(n - float64(r.now().UnixMilli())/1e3)
	case ok:
		return seconds(n)
	}
	if d, err := time.ParseDuration(v); err == nil {
		return max(0, d)
	}
	return r.untilDate(v)
}

// untilDate returns the time until a date of HTTP or RFC 3339; 0: past, or no date.
func (r received) untilDate(v string) time.Duration {
	at, err := http.ParseTime(v)
	if err != nil {
		at, err = time.Parse(time.RFC3339, v)
	}
	if err != nil {
		return 0
	}
	return max(0, at.Sub(r.now()))
}

// number returns a decimal number without sign and exponent, as large as it may be.
func number(v string) (n float64, ok bool) {
	v = strings.TrimSpace(v)
	if v == "" || !isDigit(v[0]) || strings.Trim(v, "0123456789.") != "" {
		return 0, false
	}
	n, err := strconv.ParseFloat(v, 64)
	return n, err == nil || math.IsInf(n, 1)
}

// seconds returns a time in seconds as a duration, at least 0, at most the longest.
func seconds(n float64) time.Duration {
	switch {
	case n <= 0:
		return 0
	case n >= math.MaxInt64/1e9:
		return math.MaxInt64
	}
	return time.Duration(math.Ceil(n * 1e9))
}
