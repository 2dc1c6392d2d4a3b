package grpclimit

import (
	"context"

	"google.golang.org/grpc"

	"github.com/seed-e56e777b/limiter"
)

// FromContext returns the decision on a call, from the context that the handler or
// [Options.Denied] got. The handler of a stream gets the decision on its opening, and
// Denied that on a denied message. With [Options.Parts] it is that of the tightest part.
// Of several interceptors it is the innermost one's. It is not ok if the call has passed
// no interceptor, or was skipped.
func FromContext(ctx context.Context) (r limiter.Result, ok bool) {
	d, ok := ctx.Value(contextKey{}).(decision)
	return d.result, ok
}

// PartsFromContext returns the decision on each part of [Options.Parts], in their order;
// none without Parts. A handler that knows the actual cost of its call settles it: see
// [limiter.Estimate.Settle]. Afterwards SkipFailed and SkipSuccessful give back nothing
// of that part.
func PartsFromContext(ctx context.Context) []limiter.Estimate {
	d, _ := ctx.Value(contextKey{}).(decision)
	return d.parts
}

type contextKey struct{}

// decision is the decision on a call or a message.
type decision struct {
	result limiter.Result
	parts  []limiter.Estimate
	taken  int // tokens of Options.Key
}

// context returns ctx with the decision.
func (d decision) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, contextKey{}, d)
}

// decidedStream is a stream whose context has the decision on its opening.
type decidedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *decidedStream) Context() context.Context { return s.ctx }
