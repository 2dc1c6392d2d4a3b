// Package httplimit is net/http middleware on a [limiter.Limiter]. It limits requests
// by client, reports the limit in the response's headers, and answers denied requests
// with 429. [Transport] is for outgoing calls to servers that do so. The package imports
// the standard library only, and the middleware works with every router that takes a
// func(http.Handler) http.Handler.
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
// Their parameters are:
//
//   - q is the burst.
//   - w is burst/rate, the time in which an empty bucket becomes full, in whole
//     seconds. It is rounded to a millisecond against the noise of floating point,
//     and then up, so that q/w is never above the rate. It is at least 1.
//   - r is [limiter.Result.Remaining], the tokens that this process could admit now.
//   - t is the time until the bucket is full if nothing more is taken, in whole
//     seconds, rounded up. If nothing remains, it is the time until the next token.
//     If the request was denied, it is that of Retry-After.
//
// A denial has Retry-After, in whole seconds, rounded up, at least 1, unless no wait
// would help. With [Options.LegacyHeaders] there are X-RateLimit-Limit (q),
// X-RateLimit-Remaining (r) and X-RateLimit-Reset: the instant at which t ends, in
// seconds of Unix time.
//
// All are set before the handler runs, which may change them. Nested middleware adds
// its member to the two Lists, and replaces the other headers: give each a different
// PolicyName. A key without a limit has no headers. One with Rate 0 and Burst 0 has
// no w, t and reset.
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
// A cost above the burst can never be admitted. It is denied without Retry-After, and
// the detail gives the reason. A Cost function that returns min(cost, burst) admits
// it for a burst, which is below its price. [Options.Denied] replaces the response.
//
// # Several limits
//
// [Options.Parts] decides on several limits at once, all or nothing, such as those of
// a user, a tenant and the service:
//
//	limit := httplimit.New(nil, httplimit.Options{
//		Parts: func(r *http.Request) []limiter.Part {
//			return []limiter.Part{users.Part(user(r), 1).Named("user"), service.Part("", 1).Named("service")}
//		},
//	})
//
// RateLimit-Policy then has a member for each part that has a limit, in their order.
// RateLimit and the X-RateLimit headers are those of the tightest part. Of denied
// parts that is the one with the longest wait, of which Retry-After is; otherwise it
// is the part that admits the fewest further requests. The problem document names
// all parts that deny.
//
//	RateLimit-Policy: "user";q=10;w=1, "service";q=5000;w=60
//	RateLimit: "user";r=9;t=1
//
// # Handlers
//
// [FromContext] returns the decision to the handler and to [Options.Denied], and
// [PartsFromContext] that on each part. A handler can settle a part whose cost it
// knows only afterwards.
//
// # Clients
//
// The key is the address of the client: see [ClientKey]. Headers that name a client
// are accepted only from [Options.TrustedProxies].
//
// # Outgoing calls
//
// [Transport] waits for its host before each request, and obeys the Retry-After,
// RateLimit and X-RateLimit headers of the responses in all processes of a fleet:
//
//	client := &http.Client{Transport: &httplimit.Transport{Limiter: l}}
//
// # Cost
//
// A request that is admitted costs less than a microsecond and seven
// allocations beside its handler: the key, the two header values and their
// slices, and a copy of the request with the decision in its context.
// [Options.SkipFailed] and SkipSuccessful add one, LegacyHeaders six. Three parts
// cost about twice as much as one limit by address.
package httplimit
