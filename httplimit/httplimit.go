package httplimit

import (
	"math"
	"net/http"
	"net/netip"

	"github.com/seed-e56e777b/limiter"
)

// Options is the configuration of the middleware. With the zero value, each request
// takes one token of its client's address. Functions may be called from many
// goroutines at once.
type Options struct {
	// Key returns the key of a request: an API key, a user, a tenant. The empty
	// key is a key like others. Default: [ClientKey] with TrustedProxies.
	Key func(*http.Request) string
	// Cost returns the number of tokens of a request. A cost of 0 or less takes
	// nothing, and is admitted unless the key is in debt. A cost above the burst
	// is never admitted. Default: 1.
	Cost func(*http.Request) int
	// Skip returns true for requests that pass without a decision, and without
	// headers. Default: none.
	Skip func(*http.Request) bool
	// Denied writes the response to a denied request. The headers, with
	// Retry-After, are already set. Default: 429 with a problem document.
	Denied http.Handler
	// PolicyName is the name of the limit in the RateLimit headers and in the
	// problem document. Any text will do: bytes other than printable ASCII,
	// which a header can't hold, are written as %XX. Default "default".
	PolicyName string
	// LegacyHeaders is true if responses have X-RateLimit-Limit, -Remaining and
	// -Reset, the last in seconds of Unix time.
	LegacyHeaders bool
	// NoHeaders is true if responses have no RateLimit-Policy and RateLimit. A
	// denial still has Retry-After, and LegacyHeaders still adds its headers.
	NoHeaders bool
	// SkipFailed is true if a request gets its tokens back when the response's
	// status is 400 or more, or when the handler panics. Because the tokens are
	// taken before the handler runs, a slow request counts until it ends. A
	// connection that the handler takes over (Hijack) counts as status 101.
	SkipFailed bool
	// SkipSuccessful is true if a request gets its tokens back when the status is
	// below 400: only failures count, as for logins. With SkipFailed too, only
	// requests in progress count.
	SkipSuccessful bool
	// TrustedProxies is the networks of proxies whose X-Forwarded-For and
	// Forwarded the default Key accepts. Default: none.
	TrustedProxies []netip.Prefix
}

// New returns middleware that passes the requests that l admits to the next handler.
// It panics if l is nil.
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
	case (m.SkipFailed || m.SkipSuccessful) && !res.Shadow && res.Remaining != math.MaxInt: // tokens were taken
		m.serveAndRefund(w, r, next, key, cost)
	default:
		next.ServeHTTP(w, r)
	}
}

// serveAndRefund runs the handler, and gives the cost back by the status of its
// response.
func (m *middleware) serveAndRefund(w http.ResponseWriter, r *http.Request, next http.Handler, key string, cost int) {
	rec := &recorder{ResponseWriter: w}
	failed := true // stays true if the handler panics
	defer func() {
		if failed && m.SkipFailed || !failed && m.SkipSuccessful {
			m.limiter.Refund(key, cost)
		}
	}()
	next.ServeHTTP(rec, r)
	failed = rec.status >= http.StatusBadRequest
}
