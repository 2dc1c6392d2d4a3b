package httplimit

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
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

// server answers requests in order, in virtual time: the last answer goes on.
type server struct {
	t       *testing.T
	answers []answer
	began   time.Time
	at      []time.Duration // arrivals of the requests
	bodies  []string        // contents of their bodies
	open    int             // bodies of responses that are not closed
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		data, err := io.ReadAll(r.Body)
		require.NoError(s.t, err)
		require.NoError(s.t, r.Body.Close())
		body = string(data)
	}
	a := s.answers[min(len(s.at), len(s.answers)-1)]
	s.at, s.bodies = append(s.at, time.Since(s.began)), append(s.bodies, body)
	s.open++
	return &http.Response{
		Status: strconv.Itoa(a.status), StatusCode: a.status, Header: a.header, Request: r,
		Body: &countedBody{Reader: strings.NewReader(a.body), closed: func() { s.open-- }},
	}, nil
}

type countedBody struct {
	io.Reader
	closed func()
}

func (b *countedBody) Close() error {
	if b.closed != nil {
		b.closed()
		b.closed = nil
	}
	return nil
}

// serving returns a server in the present bubble.
func serving(t *testing.T, answers ...answer) *server {
	t.Helper()
	return &server{t: t, answers: answers, began: time.Now()}
}

// generous is a limit that no test reaches; a hold ends with an empty bucket, and so
// it refills in no time.
func generous() limiter.Limit { return limiter.Per(1_000_000, time.Second) }

func outgoing(t *testing.T, method, target, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	require.NoError(t, err)
	return r
}

// send sends a GET, and closes the response.
func send(t *testing.T, tr *Transport, target string) {
	t.Helper()
	resp, err := tr.RoundTrip(outgoing(t, http.MethodGet, target, ""))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
}

// wantAt checks the instants, to a millisecond.
func wantAt(t *testing.T, got []time.Duration, want ...time.Duration) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		require.InDelta(t, want[i].Seconds(), got[i].Seconds(), 1e-3, "request %d", i)
	}
}

func TestTransportHoldsTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serving(t, answer{status: 429, header: headerOf("Retry-After: 5")}, answer{status: 200})
		tr := &Transport{Limiter: newLimiter(t, generous()), Base: s}
		send(t, tr, "http://a.example/1")
		send(t, tr, "http://b.example/") // another host goes on
		send(t, tr, "http://A.example:80/2")
		send(t, tr, "http://a.example/3")
		wantAt(t, s.at, 0, 0, 5*time.Second, 5*time.Second)
		require.Equal(t, TransportStats{Held: 1}, tr.Stats())
	})
}

func TestTransportPausesBeforeItIsDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serving(t, answer{status: 200, header: headerOf(`RateLimit: "default";r=0;t=9`)}, answer{status: 200})
		tr := &Transport{Limiter: newLimiter(t, generous()), Base: s}
		send(t, tr, "http://a.example")
		send(t, tr, "http://a.example")
		wantAt(t, s.at, 0, 9*time.Second)
	})
}

// TestTransportObeysTheMiddleware: a client with a much higher limit is denied nothing
// by a server that reports its limit by this package, and gets all of that limit.
func TestTransportObeysTheMiddleware(t *testing.T) {
	for name, opts := range map[string]Options{
		"RateLimit":   {},
		"X-RateLimit": {NoHeaders: true, LegacyHeaders: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := limited(newLimiter(t, limiter.Per(10, time.Minute)), opts)
				statuses := map[int]int{}
				tr := &Transport{Limiter: newLimiter(t, generous()), Base: roundTrip(func(r *http.Request) (*http.Response, error) {
					w := httptest.NewRecorder()
					h.ServeHTTP(w, r)
					statuses[w.Code]++
					return w.Result(), nil
				})}
				begin := time.Now()
				for range 110 {
					send(t, tr, "http://a.example")
				}
				require.Equal(t, map[int]int{200: 110}, statuses)
				require.InDelta(t, 10*time.Minute.Seconds(), time.Since(begin).Seconds(), 120) // whole seconds are rounded up
			})
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTransportClampsAbsurdTimes(t *testing.T) {
	for _, tc := range []struct {
		name          string
		maxHold, want time.Duration
		header        string
	}{
		{"a year", 0, 15 * time.Minute, "Retry-After: 31536000"},
		{"a year, negative MaxHold", -1, 15 * time.Minute, "Retry-After: 31536000"},
		{"a year, as a date", 0, 15 * time.Minute, "Retry-After: Fri, 31 Dec 2100 23:59:59 GMT"},
		{"a year, by RateLimit", time.Minute, time.Minute, `RateLimit: "a";r=0;t=31536000`},
		{"more than int64", time.Minute, time.Minute, "Retry-After: 99999999999999999999"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serving(t, answer{status: 429, header: headerOf(tc.header)}, answer{status: 200})
				tr := &Transport{Limiter: newLimiter(t, generous()), Base: s, MaxHold: tc.maxHold}
				send(t, tr, "http://a.example")
				send(t, tr, "http://a.example")
				wantAt(t, s.at, 0, tc.want)
				require.Equal(t, TransportStats{Held: 1, Clamped: 1}, tr.Stats())
			})
		})
	}
}

func TestTransportWaitsForItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serving(t, answer{status: 200})
		tr := &Transport{Limiter: newLimiter(t, limiter.Per(1, time.Second)), Base: s, Key: func(r *http.Request) string { return r.Header.Get("Authorization") }}
		for _, key := range []string{"a", "a", "b", "a"} {
			r := outgoing(t, http.MethodGet, "http://x.example", "")
			r.Header.Set("Authorization", key)
			resp, err := tr.RoundTrip(r)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
		}
		wantAt(t, s.at, 0, time.Second, time.Second, 2*time.Second)
	})
}

// TestTransportFailsAtOnce: a request that would wait beyond its deadline is not sent,
// and its body is closed.
func TestTransportFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serving(t, answer{status: 429, header: headerOf("Retry-After: 60")})
		tr := &Transport{Limiter: newLimiter(t, generous()), Base: s}
		send(t, tr, "http://a.example")
		begin := time.Now()

		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		closed := false
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://a.example", &countedBody{Reader: strings.NewReader("x"), closed: func() { closed = true }})
		require.NoError(t, err)
		resp, err := tr.RoundTrip(r)
		require.Nil(t, resp)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "httplimit: the request was not sent: limiter ")
		require.True(t, closed, "the request's body is open")

		client := &http.Client{Transport: tr, Timeout: 10 * time.Second}
		_, err = client.Get("http://a.example") //nolint:noctx // its timeout is under test
		require.ErrorIs(t, err, context.DeadlineExceeded)
		var u *url.Error
		require.ErrorAs(t, err, &u)
		require.True(t, u.Timeout())

		require.Zero(t, time.Since(begin))
		require.Len(t, s.at, 1)
	})
}

func TestTransportWaitEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serving(t, answer{status: 429, header: headerOf("Retry-After: 60")})
		tr := &Transport{Limiter: newLimiter(t, generous()), Base: s}
		send(t, tr, "http://a.example")
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		closed := false
		r := outgoing(t, http.MethodPost, "http://a.example", "").WithContext(ctx)
		r.Body = &countedBody{closed: func() { closed = true }}
		_, err := tr.RoundTrip(r)
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, (&url.Error{Err: err}).Timeout())
		require.True(t, closed, "the request's body is open")
		require.Equal(t, time.Second, time.Since(s.began))
		require.Len(t, s.at, 1)
	})
}

func TestTransportWithoutLimiter(t *testing.T) {
	closed := false
	r := outgoing(t, http.MethodPost, "http://a.example", "")
	r.Body = &countedBody{closed: func() { closed = true }}
	_, err := (&Transport{}).RoundTrip(r)
	require.EqualError(t, err, "httplimit: Transport: the limiter is nil")
	require.True(t, closed, "the request's body is open")
}

// TestTransportChangesNothing: the request stays as it was, and the response is that
// of Base, with its body unread; so is an error.
func TestTransportChangesNothing(t *testing.T) {
	given := &http.Response{StatusCode: 429, Header: headerOf("Retry-After: 1"), Body: io.NopCloser(strings.NewReader("the body"))}
	var failure error
	tr := &Transport{Limiter: newLimiter(t, generous()), Base: roundTrip(func(*http.Request) (*http.Response, error) { return given, failure })}
	r := outgoing(t, http.MethodPost, "http://A.example:80/x?y", "sent")
	r.Header.Set("X", "y")
	before, target := r.Clone(t.Context()), *r.URL
	resp, err := tr.RoundTrip(r)
	require.NoError(t, err)
	require.Same(t, given, resp)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "the body", string(body))
	require.Equal(t, headerOf("Retry-After: 1"), resp.Header)
	require.Equal(t, before.Header, r.Header)
	require.Equal(t, target, *r.URL)
	require.Equal(t, before.Host, r.Host)

	given, failure = nil, errors.New("no route")
	tr.Key = func(*http.Request) string { return "another" }
	resp, err = tr.RoundTrip(r)
	require.Nil(t, resp)
	require.Equal(t, failure, err)
}

func TestTransportRetries(t *testing.T) {
	denied, down, ok := answer{status: 429, header: headerOf("Retry-After: 5"), body: "denied"}, answer{status: 503, header: headerOf("Retry-After: 3")}, answer{status: 200, body: "ok"}
	sec := time.Second
	for _, tc := range []struct {
		name    string
		retries int
		method  string
		header  string
		body    string
		once    bool // true if the body can't be read again
		answers []answer
		want    []time.Duration // arrivals
		status  int
	}{
		{name: "none by default", method: "GET", answers: []answer{denied, ok}, want: []time.Duration{0}, status: 429},
		{name: "429", retries: 1, method: "GET", answers: []answer{denied, ok}, want: []time.Duration{0, 5 * sec}, status: 200},
		{name: "503", retries: 1, method: "HEAD", answers: []answer{down, ok}, want: []time.Duration{0, 3 * sec}, status: 200},
		{name: "the method that is empty", retries: 1, answers: []answer{denied, ok}, want: []time.Duration{0, 5 * sec}, status: 200},
		{name: "as often as may be", retries: 2, method: "GET", answers: []answer{denied, down, denied, ok}, want: []time.Duration{0, 5 * sec, 8 * sec}, status: 429},
		{name: "no more than needed", retries: 9, method: "OPTIONS", answers: []answer{denied, ok}, want: []time.Duration{0, 5 * sec}, status: 200},
		{name: "not other statuses", retries: 1, method: "GET", answers: []answer{{status: 500, header: headerOf("Retry-After: 5")}, ok}, want: []time.Duration{0}, status: 500},
		{name: "not 403", retries: 1, method: "GET", answers: []answer{{status: 403, header: headerOf("Retry-After: 5", "X-RateLimit-Remaining: 1")}, ok}, want: []time.Duration{0}, status: 403},
		{name: "not POST", retries: 1, method: "POST", body: "x", answers: []answer{denied, ok}, want: []time.Duration{0}, status: 429},
		{name: "not PUT", retries: 1, method: "PUT", body: "x", answers: []answer{denied, ok}, want: []time.Duration{0}, status: 429},
		{name: "POST with a key", retries: 2, method: "POST", header: "Idempotency-Key: 7", body: "x", answers: []answer{denied, denied, ok}, want: []time.Duration{0, 5 * sec, 10 * sec}, status: 200},
		{name: "POST with the older key", retries: 1, method: "POST", header: "X-Idempotency-Key: 7", body: "x", answers: []answer{denied, ok}, want: []time.Duration{0, 5 * sec}, status: 200},
		{name: "not a body that is read once", retries: 1, method: "POST", header: "Idempotency-Key: 7", body: "x", once: true, answers: []answer{denied, ok}, want: []time.Duration{0}, status: 429},
		{name: "GET with a body", retries: 1, method: "GET", body: "x", answers: []answer{denied, ok}, want: []time.Duration{0, 5 * sec}, status: 200},
		{name: "by RateLimit", retries: 1, method: "GET", answers: []answer{{status: 429, header: headerOf(`RateLimit: "a";r=0;t=7`)}, ok}, want: []time.Duration{0, 7 * sec}, status: 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serving(t, tc.answers...)
				tr := &Transport{Limiter: newLimiter(t, generous()), Base: s, Retries: tc.retries}
				r := outgoing(t, tc.method, "http://a.example", tc.body)
				r.Method = tc.method
				if tc.header != "" {
					r.Header = headerOf(tc.header)
				}
				if tc.once {
					r.GetBody = nil
				}
				resp, err := tr.RoundTrip(r)
				require.NoError(t, err)
				require.Equal(t, tc.status, resp.StatusCode)
				require.Equal(t, 1, s.open, "bodies that are open")
				body, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.Equal(t, tc.answers[len(s.at)-1].body, string(body))
				wantAt(t, s.at, tc.want...)
				for _, got := range s.bodies {
					require.Equal(t, tc.body, got)
				}
				require.EqualValues(t, len(s.at)-1, tr.Stats().Retried)
			})
		})
	}
}

// TestTransportBacksOff: without a time of the server's, each retry waits about twice
// as long as the one before, and holds nobody else.
func TestTransportBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serving(t, answer{status: 503})
		tr := &Transport{Limiter: newLimiter(t, generous()), Base: s, Retries: 3}
		send(t, tr, "http://a.example")
		require.Len(t, s.at, 4)
		for i, mean := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			require.InDelta(t, mean.Seconds(), (s.at[i+1] - s.at[i]).Seconds(), mean.Seconds()/2)
		}
		require.Equal(t, TransportStats{Retried: 3}, tr.Stats())
		require.True(t, tr.Limiter.Allow("a.example"))
	})
}

// TestTransportRetriesWithinTheDeadline: a retry that would pass it is not waited for,
// and the response is returned unread.
func TestTransportRetriesWithinTheDeadline(t *testing.T) {
	for name, header := range map[string]http.Header{"a time": headerOf("Retry-After: 20"), "none": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serving(t, answer{status: 429, header: header, body: "denied"})
				tr := &Transport{Limiter: newLimiter(t, generous()), Base: s, Retries: 9}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				resp, err := tr.RoundTrip(outgoing(t, http.MethodGet, "http://a.example", "").WithContext(ctx))
				require.NoError(t, err)
				require.Equal(t, 429, resp.StatusCode)
				body, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.Equal(t, "denied", string(body))
				require.Less(t, time.Since(s.began), 10*time.Second)
				if header != nil {
					require.Len(t, s.at, 1)
				}
			})
		})
	}
}

// TestTransportRetryWaitsForItsToken: if the token after the hold would come after the
// deadline, the response is returned.
func TestTransportRetryWaitsForItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serving(t, answer{status: 429, header: headerOf("Retry-After: 1"), body: "denied"}, answer{status: 200})
		tr := &Transport{Limiter: newLimiter(t, limiter.Per(1, 10*time.Second)), Base: s, Retries: 1}
		for _, tc := range []struct {
			within time.Duration
			status int
		}{{5 * time.Second, 429}, {time.Minute, 200}} {
			ctx, cancel := context.WithTimeout(t.Context(), tc.within)
			resp, err := tr.RoundTrip(outgoing(t, http.MethodGet, "http://a.example", "").WithContext(ctx))
			require.NoError(t, err)
			require.Equal(t, tc.status, resp.StatusCode)
			cancel()
		}
		wantAt(t, s.at, 0, 11*time.Second)
	})
}

func TestTransportBacksOffForMaxHoldAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serving(t, answer{status: 503})
		tr := &Transport{Limiter: newLimiter(t, generous()), Base: s, Retries: 3, MaxHold: 100 * time.Millisecond}
		send(t, tr, "http://a.example")
		wantAt(t, s.at, 0, 100*time.Millisecond, 200*time.Millisecond, 300*time.Millisecond)
	})
}

// TestTransportWithoutALimitOfItsOwn: the server's is obeyed in any case.
func TestTransportWithoutALimitOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serving(t, answer{status: 200}, answer{status: 429, header: headerOf("Retry-After: 5")}, answer{status: 200})
		tr := &Transport{Limiter: newLimiter(t, limiter.Limit{Rate: rate.Inf}), Base: s, Retries: 1}
		for range 3 {
			send(t, tr, "http://a.example")
		}
		wantAt(t, s.at, 0, 0, 5*time.Second, 5*time.Second)
		s.answers = []answer{{status: 503, header: headerOf("Retry-After: 5")}}
		send(t, &Transport{Limiter: tr.Limiter, Base: s}, "http://a.example")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := tr.RoundTrip(outgoing(t, http.MethodGet, "http://a.example", "").WithContext(ctx))
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// TestTransportInShadowMode: nothing waits or is held, and a retry still does not come
// before the time that the server gave.
func TestTransportInShadowMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := limiter.New(limiter.Config{Limit: limiter.Per(1, time.Hour), Shadow: func(string) bool { return true }})
		require.NoError(t, err)
		defer l.Close()
		s := serving(t, answer{status: 429, header: headerOf("Retry-After: 5")}, answer{status: 200})
		tr := &Transport{Limiter: l, Base: s, Retries: 1}
		send(t, tr, "http://a.example")
		send(t, tr, "http://a.example")
		wantAt(t, s.at, 0, 5*time.Second, 5*time.Second)
	})
}

// TestTransportRetryIsCalledOff: during the hold, and during a backoff.
func TestTransportRetryIsCalledOff(t *testing.T) {
	for name, header := range map[string]http.Header{"hold": headerOf("Retry-After: 20"), "backoff": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serving(t, answer{status: 429, header: header})
				tr := &Transport{Limiter: newLimiter(t, generous()), Base: s, Retries: 9}
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(100*time.Millisecond, cancel)
				r := outgoing(t, http.MethodGet, "http://a.example", "x").WithContext(ctx)
				closed := 0
				r.GetBody = func() (io.ReadCloser, error) {
					return &countedBody{Reader: strings.NewReader("x"), closed: func() { closed++ }}, nil
				}
				resp, err := tr.RoundTrip(r)
				require.Nil(t, resp)
				require.ErrorIs(t, err, context.Canceled)
				require.ErrorContains(t, err, "not sent again: ")
				require.Equal(t, 100*time.Millisecond, time.Since(s.began))
				require.Zero(t, s.open, "bodies of responses that are open")
				require.Equal(t, 1, closed, "bodies of requests that were closed")
			})
		})
	}
}

func TestTransportReturnsTheResponseIfTheBodyIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serving(t, answer{status: 429, body: "denied"})
		tr := &Transport{Limiter: newLimiter(t, generous()), Base: s, Retries: 1}
		r := outgoing(t, http.MethodGet, "http://a.example", "x")
		r.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("the file is gone") }
		resp, err := tr.RoundTrip(r)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "denied", string(body))
	})
}

// endless is a body of which nothing comes until it is closed.
type endless struct{ closed chan struct{} }

func (b endless) Read([]byte) (int, error) {
	<-b.closed
	return 0, io.ErrUnexpectedEOF
}

func (b endless) Close() error {
	close(b.closed)
	return nil
}

// TestTransportDiscardsWithoutReading: a retry does not wait for a body that never ends,
// also within a deadline, and its own failure is what the caller gets.
func TestTransportDiscardsWithoutReading(t *testing.T) {
	broken := errors.New("the connection broke")
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			began, sent := time.Now(), 0
			body := endless{make(chan struct{})}
			base := roundTrip(func(*http.Request) (*http.Response, error) {
				if sent++; sent == 1 {
					return &http.Response{StatusCode: 429, Header: headerOf("Retry-After: 1"), Body: body, ContentLength: 5}, nil
				}
				if fails {
					return nil, broken
				}
				return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
			})
			tr := &Transport{Limiter: newLimiter(t, generous()), Base: base, Retries: 1}
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			resp, err := tr.RoundTrip(outgoing(t, http.MethodGet, "http://a.example", "").WithContext(ctx))
			wantAt(t, []time.Duration{time.Since(began)}, time.Second)
			<-body.closed
			if fails {
				require.ErrorIs(t, err, broken)
				require.Nil(t, resp)
				return
			}
			require.NoError(t, err)
			require.Equal(t, 200, resp.StatusCode)
		})
	}
}

// TestTransportStalledBody: the same over a real connection.
func TestTransportStalledBody(t *testing.T) {
	var served atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if served.Add(1) == 1 {
			w.Header().Set("Retry-After", "0.01")
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(http.StatusTooManyRequests)
			http.NewResponseController(w).Flush()
			<-r.Context().Done() // the client has closed the connection
		}
	}))
	defer srv.Close()
	client := &http.Client{Transport: &Transport{Limiter: newLimiter(t, generous()), Base: &http.Transport{}, Retries: 1}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	resp, err := client.Do(outgoing(t, http.MethodGet, srv.URL, ""))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 200, resp.StatusCode)
}

func TestHostKey(t *testing.T) {
	for target, want := range map[string]string{
		"http://API.Example.com/x":         "api.example.com",
		"http://api.example.com:80":        "api.example.com",
		"https://api.example.com:443/":     "api.example.com",
		"HTTPS://api.example.com:443/":     "api.example.com",
		"http://api.example.com:443":       "api.example.com:443",
		"https://api.example.com:80":       "api.example.com:80",
		"http://api.example.com:8080":      "api.example.com:8080",
		"http://api.example.com:":          "api.example.com",
		"http://user:secret@example.com":   "example.com",
		"http://[::1]":                     "[::1]",
		"http://[::1]:80":                  "[::1]",
		"http://[2001:DB8::80]:8080":       "[2001:db8::80]:8080",
		"http://api.example.com:8080/:80?": "api.example.com:8080",
		"/relative":                        "",
	} {
		u, err := url.Parse(target)
		require.NoError(t, err)
		if got := HostKey(&http.Request{URL: u, Host: "other.example"}); got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
	require.Empty(t, HostKey(&http.Request{}))
}

// TestTransportOverRealConnections: many callers at once, each with its body, to a
// server that denies some of them. Connections are used again, or closed.
func TestTransportOverRealConnections(t *testing.T) {
	const callers, calls = 8, 25
	var mu sync.Mutex
	served := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		served++
		if served%7 == 0 {
			w.Header().Set("Retry-After", "0.002")
			http.Error(w, strings.Repeat("denied ", 1<<(served%13)), http.StatusTooManyRequests)
			return
		}
		if err == nil {
			w.Write(body)
		}
	}))
	defer srv.Close()
	tr := &Transport{Limiter: newLimiter(t, generous()), Base: &http.Transport{}, Retries: 50}
	client := &http.Client{Transport: tr}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for j := range calls {
				want := strconv.Itoa(i*calls + j)
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, strings.NewReader(want))
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Idempotency-Key", want)
				resp, err := client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != 200 || string(got) != want {
					t.Errorf("%d %q, %v; want %q", resp.StatusCode, got, err, want)
				}
			}
		})
	}
	all.Wait()
	s := tr.Stats()
	require.NotZero(t, s.Retried)
	require.EqualValues(t, served-callers*calls, s.Retried)
	require.Equal(t, s.Retried, s.Held)
}

func TestTransportClosesIdleConnections(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	closed := make(chan struct{})
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			close(closed)
		}
	}
	srv.Start()
	defer srv.Close()
	client := &http.Client{Transport: &Transport{Limiter: newLimiter(t, generous()), Base: &http.Transport{}}}
	resp, err := client.Do(outgoing(t, http.MethodGet, srv.URL, ""))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	client.CloseIdleConnections()
	<-closed
	(&http.Client{Transport: &Transport{Base: roundTrip(nil)}}).CloseIdleConnections() // has none
}

// TestTransportHoldsTheFleet: one process is denied, and the others hold within a
// round: one that uses the host, and one that never did.
func TestTransportHoldsTheFleet(t *testing.T) {
	server := servertest.Server(t, redisserver.Options{})
	var limiters []*limiter.Limiter
	for range 3 {
		client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{server.Addr()}}))
		t.Cleanup(func() { client.Close() })
		l, err := limiter.New(limiter.Config{Limit: generous(), Redis: client, Processes: 3, SyncInterval: 10 * time.Millisecond})
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
		limiters = append(limiters, l)
	}
	ask := func(l *limiter.Limiter, a answer) (*http.Response, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return (&Transport{Limiter: l, Base: serving(t, a)}).RoundTrip(outgoing(t, http.MethodGet, "http://a.example", "").WithContext(ctx))
	}
	round := func() {
		for _, l := range limiters {
			require.NoError(t, l.Sync(t.Context()))
		}
	}
	round()
	_, err := ask(limiters[1], answer{status: 200})
	require.NoError(t, err)
	round()
	resp, err := ask(limiters[0], answer{status: 429, header: headerOf("Retry-After: 600")})
	require.NoError(t, err)
	require.Equal(t, 429, resp.StatusCode)
	round() // sends the hold
	round() // the others receive it
	for i, l := range limiters {
		_, err := ask(l, answer{status: 200})
		require.ErrorIs(t, err, context.DeadlineExceeded, "process %d", i)
		require.InDelta(t, 600, l.Peek("a.example").RetryAfter.Seconds(), 10, "process %d", i)
	}
	require.NoError(t, limiters[2].Reset(t.Context(), "a.example"))
	_, err = ask(limiters[2], answer{status: 200})
	require.NoError(t, err)
}
