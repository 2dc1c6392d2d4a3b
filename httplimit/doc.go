// Package httplimit is net/http middleware on a [limiter.Limiter]: it limits
// requests by client, says in the response how the limit stands, and answers
// what is over it with 429. It needs the standard library only, and works with
// every router that takes a func(http.Handler) http.Handler.
//
//	limit := httplimit.New(l, httplimit.Options{})
//	http.ListenAndServe(addr, limit(mux))
//
// # Headers
//
// Responses carry RateLimit-Policy and RateLimit as of revision 11 of
// draft-ietf-httpapi-ratelimit-headers (May 2026), both Lists of RFC 9651:
//
//	RateLimit-Policy: "default";q=100;w=900
//	RateLimit: "default";r=50;t=450
//
// Here q is the burst, and w the time, in whole seconds, in which an empty
// bucket becomes full, burst/rate: rounded to a millisecond, which takes out the
// noise of floating point, and then up to a second, so that q/w never promises
// more than the rate. It is at least 1.
//
// r is [limiter.Result.Remaining], what this process could admit now, and t the
// time, in whole seconds, rounded up, until the bucket is full if nothing more
// is taken. Where nothing remains, t is the time until the next token; where
// the request was denied, that of Retry-After.
//
// Retry-After is sent with a denial, in whole seconds, rounded up: at least 1.
// It is absent where waiting won't help. With [Options.LegacyHeaders] there are
// X-RateLimit-Limit (q), X-RateLimit-Remaining (r) and X-RateLimit-Reset: the
// instant at which t ends, in seconds of Unix time.
//
// All are set before the handler runs, which may change them. Middleware inside
// other middleware adds its member to the two Lists, and replaces the others:
// give each a PolicyName of its own. A key without a limit has no headers, and
// one whose limit is Rate 0 and Burst 0 has no w, t and reset.
//
// # Denials
//
// The answer is 429 with application/problem+json (RFC 9457), of the draft's
// type quota-exceeded, and may not be stored:
//
//	{
//	  "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
//	  "title": "Quota Exceeded",
//	  "status": 429,
//	  "detail": "Too many requests: retry after the time that Retry-After gives.",
//	  "violated-policies": ["default"]
//	}
//
// A cost above the burst can never be admitted. It is denied in the same way,
// without Retry-After, and the detail says so: admitting it for the whole burst
// instead would sell it below its price. A Cost function that prefers that has
// to say min(cost, burst). [Options.Denied] answers in another way.
//
// # Clients
//
// The key is the address of the client, as [ClientKey] tells it. Headers that
// name another client than the peer of the connection are believed only from
// [Options.TrustedProxies].
//
// # Cost
//
// A request that is admitted costs about half a microsecond and five
// allocations beside its handler: the key, the two header values and their
// slices. [Options.SkipFailed] and SkipSuccessful add one, LegacyHeaders six.
package httplimit
