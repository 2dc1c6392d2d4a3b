package httplimit

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-e56e777b/limiter"
)

const (
	defaultMaxHold = 15 * time.Minute
	leastBackoff   = time.Second
)

// Transport is an [http.RoundTripper] for outgoing calls. It waits for a token of the
// request's key, sends the request, and obeys the limits that the server reports, by
// [limiter.Limiter.Hold]: all processes that share the limiter's keys pause together.
//
//	client := &http.Client{Transport: &httplimit.Transport{Limiter: l}}
//
// The wait ends with the request's context, whose deadline includes
// [http.Client.Timeout]. A request that would wait beyond its deadline fails at once,
// and is not sent. The error matches the limiter's or the context's,
// [context.DeadlineExceeded] or [context.Canceled]. Each request of a redirection
// waits for a token of its own.
//
// These hold the key:
//
//   - Retry-After, in seconds or as a date, on 429 and 503, and on a 403 that has
//     X-RateLimit-Remaining, as GitHub sends it. It takes precedence over the others,
//     also if it is 0 or a past date, which holds nothing.
//   - RateLimit with r=0 on any response, for t seconds: revisions 7 to 11 of
//     draft-ietf-httpapi-ratelimit-headers. Without t, the time is the window w of the
//     policy in RateLimit-Policy. Limits of concurrent requests are ignored.
//   - RateLimit-Remaining: 0 with RateLimit-Reset on any response, and the forms of it
//     with X-RateLimit-, X-Rate-Limit-, -Reset-After, -Remaining-Requests and the
//     like. The reset is a number of seconds, Unix time in seconds or milliseconds, a
//     duration such as 6m0s, or a date. On a 429 it counts without a Remaining too.
//
// A time of day is compared with the response's Date, so the clocks may differ. A time
// that is negative, past or malformed is ignored, and so are all but Retry-After on a
// response from a cache, which has an Age. Of several times the longest counts.
//
// Headers that would be costly to read are ignored: Retry-After above 4 KB or 64 values
// (the parts between commas, in all lines), and all forms of RateLimit if they exceed
// that together, with their names, or if the response has more than 256 header names.
//
// Give the Transport a limiter, or a Prefix, of its own: a redirect may lead to any host
// name, and so take tokens of any key.
//
// A response is returned as it came. The limiter's limits stay as they are: those of
// the server are obeyed by holds alone. A limit that is not above the server's
// avoids most denials. Under [golang.org/x/time/rate.Inf] nothing but holds delays a
// request. A key in shadow mode does not wait and is not held.
//
// Because RateLimit has whole seconds, a server that reports r=0 after each request,
// such as one with a burst of 1, gets one request a second.
//
// Fill the fields before the first request, and don't copy a Transport after it. All
// methods may be called from many goroutines at once.
type Transport struct {
	// Limiter is the limiter to wait for. Required: without it each request fails.
	Limiter *limiter.Limiter
	// Key returns the key of a request, such as the host with the API key in use, if
	// the server limits by that. Default: [HostKey].
	Key func(*http.Request) string
	// Base sends the requests. Default: [http.DefaultTransport].
	Base http.RoundTripper
	// Retries is the number of times that a request is sent again after 429 or 503.
	// Each time waits for a token, after the hold or, if the response gave no time above
	// 0, after a backoff of about 1 s, which doubles. Only requests that net/http would
	// send again are: GET, HEAD, OPTIONS, TRACE, and those with an Idempotency-Key or
	// X-Idempotency-Key header, without a body or with GetBody. If the wait would pass
	// the deadline, the response is returned instead. Otherwise the response is discarded,
	// with its body unread: if the wait or the retry then fails, the error is returned.
	// Default: 0.
	Retries int
	// MaxHold is the longest hold, against absurd times. A longer one counts as
	// MaxHold, and in [TransportStats].Clamped. Default, also for one below 0: 15
	// minutes.
	MaxHold time.Duration

	held, clamped, retried atomic.Uint64
}

// TransportStats are counters of a [Transport] since its start.
type TransportStats struct {
	Held    uint64 // responses that held their key
	Clamped uint64 // responses of Held that gave a time above MaxHold
	Retried uint64 // requests that were sent again
}

// Stats returns the counters.
func (t *Transport) Stats() TransportStats {
	return TransportStats{Held: t.held.Load(), Clamped: t.clamped.Load(), Retried: t.retried.Load()}
}

// HostKey is the default [Transport.Key]: the host of the URL in lower case, with the
// port unless it is the scheme's default, 80 or 443. The Host field, which a
// request may have beside its URL, is ignored.
func HostKey(r *http.Request) string {
	if r.URL == nil {
		return ""
	}
	host, port := strings.ToLower(r.URL.Host), r.URL.Port()
	if port == "" || port == "80" && strings.EqualFold(r.URL.Scheme, "http") || port == "443" && strings.EqualFold(r.URL.Scheme, "https") {
		host = strings.TrimSuffix(strings.TrimSuffix(host, port), ":")
	}
	return host
}

// RoundTrip waits, sends the request and holds its key, as [Transport] says.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.Limiter == nil {
		closeBody(r)
		return nil, errors.New("httplimit: Transport: the limiter is nil")
	}
	key := t.keyOf(r)
	for sent, next := 0, r; ; sent++ {
		if err := t.Limiter.Wait(r.Context(), key); err != nil {
			closeBody(next)
			return nil, &notSentError{err, sent > 0}
		}
		if sent > 0 {
			t.retried.Add(1)
		}
		resp, err := t.base().RoundTrip(next)
		if err != nil {
			return resp, err
		}
		held := t.obey(key, resp)
		if sent >= t.Retries || !retryable(r, resp.StatusCode) {
			return resp, nil
		}
		pause, all := t.pause(key, held, sent)
		if passesDeadline(r.Context(), all) {
			return resp, nil
		}
		if next, err = rewound(r); err != nil {
			return resp, nil //nolint:nilerr // the response is there, and only a retry is not possible
		}
		discard(resp)
		if err := sleep(r.Context(), pause); err != nil {
			closeBody(next)
			return nil, &notSentError{err, true}
		}
	}
}

// CloseIdleConnections closes the idle connections of Base, if it has that method. It
// is called by [http.Client.CloseIdleConnections].
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (t *Transport) base() http.RoundTripper {
	if t.Base == nil {
		return http.DefaultTransport
	}
	return t.Base
}

func (t *Transport) keyOf(r *http.Request) string {
	if t.Key == nil {
		return HostKey(r)
	}
	return t.Key(r)
}

func (t *Transport) maxHold() time.Duration {
	if t.MaxHold <= 0 {
		return defaultMaxHold
	}
	return t.MaxHold
}

// obey holds the key, if the response asks for it, and returns for how long.
func (t *Transport) obey(key string, resp *http.Response) time.Duration {
	d := received{resp.StatusCode, resp.Header, time.Now()}.pushback() //nolint:forbidigo // to compare with times of day
	if d == 0 {
		return 0
	}
	t.held.Add(1)
	d = t.clamp(d)
	t.Limiter.Hold(key, d)
	return d
}

// clamp returns a time that a server gave, at most MaxHold, and counts longer ones.
func (t *Transport) clamp(d time.Duration) time.Duration {
	most := t.maxHold()
	if d > most {
		t.clamped.Add(1)
	}
	return min(d, most)
}

// pause returns the time to wait before a retry waits for its token, and the expected
// time until it is sent. A hold is part of the wait for the token, so that a Reset ends
// it; except in shadow mode, in which nothing is held.
func (t *Transport) pause(key string, held time.Duration, retries int) (pause, all time.Duration) {
	next := t.Limiter.Peek(key)
	switch {
	case held == 0:
		pause = min(backoff(retries), t.maxHold())
	case next.Allowed:
		pause = held
	}
	return pause, max(held, pause, next.RetryAfter)
}

// passesDeadline reports whether d ends after the deadline of ctx.
func passesDeadline(ctx context.Context, d time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ok && d > time.Until(deadline) //nolint:forbidigo // the clock of the deadline
}

// retryable reports whether a response with this status is a reason to send its
// request again, and whether the request may be, as net/http decides for connections
// that break.
func retryable(r *http.Request, status int) bool {
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return false
	}
	if hasBody(r) && r.GetBody == nil {
		return false
	}
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	// With a nil value it is not sent, and still marks the request, as in net/http.
	_, idempotent := r.Header["Idempotency-Key"]
	_, older := r.Header["X-Idempotency-Key"]
	return idempotent || older
}

func hasBody(r *http.Request) bool { return r.Body != nil && r.Body != http.NoBody }

// rewound returns the request with its body from the beginning.
func rewound(r *http.Request) (*http.Request, error) {
	if !hasBody(r) {
		return r, nil
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	again := r.WithContext(r.Context())
	again.Body = body
	return again, nil
}

// backoff returns the time to wait before a retry of which the server gave no time. It
// doubles with each, and is spread, so that not all clients come back at once.
func backoff(retries int) time.Duration {
	d := leastBackoff << min(retries, 20)
	return d/2 + rand.N(d)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// discard closes a response. It does not read the body, which may never end, even if that
// costs the connection.
func discard(resp *http.Response) {
	if resp.Body != nil {
		_ = resp.Body.Close() // nothing of it is wanted
	}
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // the request is not sent: its body has nothing to lose
	}
}

// notSentError is the error of a request that was not sent because of the limiter.
type notSentError struct {
	err   error
	again bool // true if it was sent before
}

// Error returns the text of the limiter's error.
func (e *notSentError) Error() string {
	if e.again {
		return "httplimit: the request was not sent again: " + e.err.Error()
	}
	return "httplimit: the request was not sent: " + e.err.Error()
}

// Unwrap returns the limiter's error.
func (e *notSentError) Unwrap() error { return e.err }

// Timeout reports whether the wait was too long for the deadline; [net/url.Error]
// passes it on.
func (e *notSentError) Timeout() bool { return errors.Is(e.err, context.DeadlineExceeded) }
