package httplimit

import (
	"math"
	"net/http"
	"net/netip"

	"github.com/seed-e56e777b/limiter"
)

// Options says what to limit by, and what to tell. The zero Options limit by
// client address at a cost of 1. All functions may be called from many
// goroutines at once.
type Options struct {
	// Key is what a request is limited by: an API key, a user, a tenant. The
	// empty key is a key like others. Default: [ClientKey] with TrustedProxies.
	Key func(*http.Request) string
	// Cost is the number of tokens that a request takes. One of 0 or less takes
	// nothing, and is admitted unless the key is in debt; one above the burst
	// is never admitted. Default 1.
	Cost func(*http.Request) int
	// Skip says which requests pass without a decision, and without headers.
	// Default: none.
	Skip func(*http.Request) bool
	// Denied answers the requests that are over the limit, with the headers,
	// Retry-After too, already set. Default: 429 with a problem document.
	Denied http.Handler
	// PolicyName is the name of the limit in the RateLimit headers and in the
	// problem document. Any text will do: bytes other than printable ASCII,
	// which a header can't hold, are written as %XX. Default "default".
	PolicyName string
	// LegacyHeaders adds X-RateLimit-Limit, -Remaining and -Reset, the last in
	// seconds of Unix time.
	LegacyHeaders bool
	// NoHeaders leaves RateLimit-Policy and RateLimit out. Retry-After is part
	// of a denial and stays; with LegacyHeaders the legacy headers alone are
	// sent.
	NoHeaders bool
	// SkipFailed gives the cost back when the response's status is 400 or more,
	// or when the handler panics, whatever it has written before. The cost is
	// taken before the handler runs and given back after it: a slow request
	// counts until it ends. A connection that the handler takes over (Hijack)
	// counts as status 101.
	SkipFailed bool
	// SkipSuccessful gives the cost back when the status is below 400: only
	// failures count, as for logins. With SkipFailed too, what is limited is
	// the cost of the requests in progress.
	SkipSuccessful bool
	// TrustedProxies are the addresses whose X-Forwarded-For and Forwarded are
	// believed by the default Key. Default: none.
	TrustedProxies []netip.Prefix
}

// New returns middleware that asks l about each request before it lets it pass
// to the next handler. It panics if l is nil.
func New(l *limiter.Limiter, opts Options) func(http.Handler) http.Handler {
	if l == nil {
		panic("httplimit: New: the limiter is nil")
	}
	m := newMiddleware(l, opts)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serve(w, r, next) })
	}
}

type middleware struct {
	Options
	limiter *limiter.Limiter
	headers headers
	denial  denial
}

func newMiddleware(l *limiter.Limiter, opts Options) *middleware {
	if opts.Key == nil {
		opts.Key = func(r *http.Request) string { return ClientKey(r, opts.TrustedProxies) }
	}
	if opts.Cost == nil {
		opts.Cost = func(*http.Request) int { return 1 }
	}
	if opts.PolicyName == "" {
		opts.PolicyName = "default"
	}
	name := printable(opts.PolicyName)
	return &middleware{
		Options: opts,
		limiter: l,
		headers: headers{name: quoted(name), standard: !opts.NoHeaders, legacy: opts.LegacyHeaders},
		denial:  newDenial(name),
	}
}

func (m *middleware) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if m.Skip != nil && m.Skip(r) {
		next.ServeHTTP(w, r)
		return
	}
	key, cost := m.Key(r), m.Cost(r)
	res := m.limiter.TakeN(key, cost)
	m.headers.set(w.Header(), res)
	switch {
	case !res.Allowed && m.Denied != nil:
		m.Denied.ServeHTTP(w, r)
	case !res.Allowed:
		m.denial.write(w, res)
	case (m.SkipFailed || m.SkipSuccessful) && !res.Shadow && res.Remaining != math.MaxInt: // else nothing was taken
		m.serveAndSettle(w, r, next, key, cost)
	default:
		next.ServeHTTP(w, r)
	}
}

// serveAndSettle gives the cost back where the response says so.
func (m *middleware) serveAndSettle(w http.ResponseWriter, r *http.Request, next http.Handler, key string, cost int) {
	rec := &recorder{ResponseWriter: w}
	failed := true // stays so where the handler panics
	defer func() {
		if failed && m.SkipFailed || !failed && m.SkipSuccessful {
			m.limiter.Refund(key, cost)
		}
	}()
	next.ServeHTTP(rec, r)
	failed = rec.status >= http.StatusBadRequest
}
