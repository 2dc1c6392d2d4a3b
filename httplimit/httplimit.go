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
	// Parts returns the parts of a decision on several limits, all or nothing: of
	// the user, the tenant and the service. It is in place of Key and Cost. Name
	// the parts for the headers and the problem document, by [limiter.Part.Named]:
	// the names are public. A part without a name has PolicyName, with "-2" after it
	// if it is the second part, and so on. A request without parts passes. Default:
	// one part, of Key and Cost.
	Parts func(*http.Request) []limiter.Part
	// Skip returns true for requests that pass without a decision, and without
	// headers. Default: none.
	Skip func(*http.Request) bool
	// Denied writes the response to a denied request. The headers, with
	// Retry-After, are already set, and [FromContext] has the decision. Default:
	// 429 with a problem document.
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
// It panics if l is nil, or if opts has Parts beside Key or Cost. With Parts, which have
// their own limiters, l is not used and may be nil.
func New(l *limiter.Limiter, opts Options) func(http.Handler) http.Handler {
	if l == nil && opts.Parts == nil {
		panic("httplimit: New: the limiter is nil")
	}
	if opts.Parts != nil && (opts.Key != nil || opts.Cost != nil) {
		panic("httplimit: New: Options.Parts is in place of Key and Cost: leave these out")
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
	return &middleware{
		Options: opts,
		limiter: l,
		headers: headers{name: quoted(opts.PolicyName), standard: !opts.NoHeaders, legacy: opts.LegacyHeaders},
		denial:  newDenial(printable(opts.PolicyName)),
	}
}

func (m *middleware) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	switch {
	case m.Skip != nil && m.Skip(r):
		next.ServeHTTP(w, r)
	case m.Parts != nil:
		m.serveParts(w, r, next)
	default:
		m.serveKey(w, r, next)
	}
}

// serveKey serves a request by one limit.
func (m *middleware) serveKey(w http.ResponseWriter, r *http.Request, next http.Handler) {
	key, cost := m.Key(r), m.Cost(r)
	res := m.limiter.TakeN(key, cost)
	m.headers.set(w.Header(), res)
	switch {
	case !res.Allowed && m.Denied != nil:
		m.Denied.ServeHTTP(w, withDecision(r, res, nil))
	case !res.Allowed:
		deny(w, m.denial.of(res))
	case m.refunds() && !res.Shadow && res.Remaining != math.MaxInt: // tokens were taken
		m.serveAndRefund(w, withDecision(r, res, nil), next, func() { m.limiter.Refund(key, cost) })
	default:
		next.ServeHTTP(w, withDecision(r, res, nil))
	}
}

// serveParts serves a request by several limits.
func (m *middleware) serveParts(w http.ResponseWriter, r *http.Request, next http.Handler) {
	parts, res, tightest := limiter.EstimateAll(m.Parts(r)...)
	m.setParts(w.Header(), parts, res, tightest)
	switch {
	case !res.Allowed && m.Denied != nil:
		m.Denied.ServeHTTP(w, withDecision(r, res, parts))
	case !res.Allowed:
		deny(w, documentOf(res, m.violated(parts)))
	case m.refunds():
		m.serveAndRefund(w, withDecision(r, res, parts), next, func() {
			for _, p := range parts {
				p.Settle(0)
			}
		})
	default:
		next.ServeHTTP(w, withDecision(r, res, parts))
	}
}

// refunds reports whether some requests get their tokens back.
func (m *middleware) refunds() bool { return m.SkipFailed || m.SkipSuccessful }

// serveAndRefund runs the handler, and gives the tokens back by the status of its
// response.
func (m *middleware) serveAndRefund(w http.ResponseWriter, r *http.Request, next http.Handler, refund func()) {
	rec := &recorder{ResponseWriter: w}
	failed := true // stays true if the handler panics
	defer func() {
		if failed && m.SkipFailed || !failed && m.SkipSuccessful {
			refund()
		}
	}()
	next.ServeHTTP(rec, r)
	failed = rec.status >= http.StatusBadRequest
}
