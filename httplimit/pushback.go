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

// The largest headers that are parsed, so that a server can't burn time and memory:
// net/http takes 10 MB of them.
const (
	maxHeaders      = 256     // names of a response
	maxHeaderBytes  = 4 << 10 // of names and values
	maxHeaderValues = 64      // parts between commas, in all lines
	maxOneValue     = 64      // bytes of a Date or an Age
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
func (r received) pushback() time.Duration {
	if d, ok := r.retryAfters(); ok {
		return d
	}
	if age, ok := number(r.only(ageHeader)); ok && age > 0 {
		return 0 // limits from a cache may not be current
	}
	if !r.limitsFit() {
		return 0
	}
	return max(serviceLimits(r.header), r.olderLimits())
}

// only returns the value of a header with one short value, such as a date.
func (r received) only(name string) string {
	if v := r.header.Get(name); len(v) <= maxOneValue {
		return v
	}
	return ""
}

// size is the extent of headers.
type size struct{ bytes, values int }

// add adds a header's name and lines.
func (s *size) add(name string, lines []string) {
	s.bytes += len(name)
	s.values += len(lines)
	for _, line := range lines {
		if s.bytes += len(line); !s.fits() {
			return
		}
		s.values += strings.Count(line, ",")
	}
}

// fits reports whether the headers are small enough to be parsed.
func (s *size) fits() bool { return s.bytes <= maxHeaderBytes && s.values <= maxHeaderValues }

// limitsFit reports whether the headers of all forms of RateLimit are small enough.
func (r received) limitsFit() bool {
	if len(r.header) > maxHeaders {
		return false
	}
	var s size
	for name, lines := range r.header {
		if isLimit(name) {
			s.add(name, lines)
		}
	}
	return s.fits()
}

// isLimit reports whether a header is a RateLimit of some form.
func isLimit(name string) bool {
	return strings.Contains(name, "Ratelimit") || strings.Contains(name, "Rate-Limit")
}

// retryAfters returns the longest time of Retry-After; false: there is none that counts
// for this status and is well-formed.
func (r received) retryAfters() (d time.Duration, ok bool) {
	lines := r.header[retryAfterHeader]
	var s size
	if s.add("", lines); !s.fits() || !r.obeysRetryAfter() {
		return 0, false
	}
	for _, v := range lines {
		if one, valid := r.retryAfter(v); valid {
			d, ok = max(d, one), true
		}
	}
	return d, ok
}

// now returns the instant from which times of day count: the response's Date, if it
// has one, so that the clocks may differ.
func (r received) now() time.Time {
	if date, err := http.ParseTime(r.only(dateHeader)); err == nil {
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
	var policies map[string]policy
	for i := range limits {
		m := &limits[i]
		if r, ok := m.integerOf("r"); !ok || r > 0 || !m.named() {
			continue
		}
		if policies == nil {
			policies = policiesOf(h[policyHeader])
		}
		d = max(d, reset(m, policies[m.value.text]))
	}
	return d
}

// named reports whether a member has the name of a policy. It is a Token in revision 8.
func (m *member) named() bool { return m.value.kind == stringItem || m.value.kind == tokenItem }

// policy is a member of RateLimit-Policy.
type policy struct {
	window     int64 // seconds; 0: not given
	concurrent bool  // true if it limits requests in progress
}

// policiesOf returns the policies of RateLimit-Policy by name. Of several of a name the
// longest window counts.
func policiesOf(lines []string) map[string]policy {
	members, _ := parseList(lines)
	all := make(map[string]policy, len(members))
	for i := range members {
		if m := &members[i]; m.named() {
			p := all[m.value.text]
			w, _ := m.integerOf("w")
			all[m.value.text] = policy{max(p.window, w), p.concurrent || m.textOf("qu") == concurrent}
		}
	}
	return all
}

// reset returns the time until a policy without quota has some again: t, and without it
// the window of the policy, in which quota comes back at the latest.
func reset(m *member, p policy) time.Duration {
	if p.concurrent {
		return 0
	}
	if t, ok := m.integerOf("t"); ok {
		return seconds(float64(t))
	}
	return seconds(float64(p.window))
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
		if !strings.Contains(name, "Reset") || !isLimit(name) {
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

// retryAfter returns the time that a value of Retry-After gives, seconds or a date;
// false: it is malformed.
func (r received) retryAfter(v string) (time.Duration, bool) {
	if n, ok := number(v); ok {
		return seconds(n), true
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
	d, _ := r.untilDate(v)
	return d
}

// untilDate returns the time until a date of HTTP or RFC 3339, 0 if it is past; false:
// it is no date.
func (r received) untilDate(v string) (time.Duration, bool) {
	at, err := http.ParseTime(v)
	if err != nil {
		at, err = time.Parse(time.RFC3339, v)
	}
	if err != nil {
		return 0, false
	}
	return max(0, at.Sub(r.now())), true
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
