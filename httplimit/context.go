package httplimit

import (
	"context"
	"net/http"

	"github.com/seed-e56e777b/limiter"
)

// FromContext returns the decision on a request, from the context of the request that
// the handler or [Options.Denied] got. With [Options.Parts] it is that of the tightest
// part. Of nested middleware it is the innermost one's. It is not ok if the request
// has passed no middleware, or was skipped.
func FromContext(ctx context.Context) (res limiter.Result, ok bool) {
	d, ok := ctx.Value(contextKey{}).(*decision)
	if !ok {
		return limiter.Result{}, false
	}
	return d.result, true
}

// PartsFromContext returns the decision on each part of [Options.Parts], in their order;
// none without Parts. A handler that knows the actual cost of its request settles it:
// see [limiter.Estimate.Settle]. Afterwards SkipFailed and SkipSuccessful give back
// nothing of that part.
func PartsFromContext(ctx context.Context) []limiter.Estimate {
	if d, ok := ctx.Value(contextKey{}).(*decision); ok {
		return d.parts
	}
	return nil
}

type contextKey struct{}

// decision is the decision on a request, and the context that has it. One value is both,
// to allocate once.
type decision struct {
	context.Context
	result limiter.Result
	parts  []limiter.Estimate
}

func (d *decision) Value(key any) any {
	if key == (contextKey{}) {
		return d
	}
	return d.Context.Value(key)
}

// withDecision returns the request with the decision in its context.
func withDecision(r *http.Request, res limiter.Result, parts []limiter.Estimate) *http.Request {
	return r.WithContext(&decision{Context: r.Context(), result: res, parts: parts})
}
