package grpclimit

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/seed-e56e777b/limiter"
)

// Options is the configuration of an interceptor. With the zero value, each call
// takes one token of its client's address. Functions may be called from many
// goroutines at once.
type Options struct {
	// Key returns the key of a call. fullMethod is "/package.Service/Method".
	// It is called once for a call or a stream. Default: [PeerAddress].
	Key func(ctx context.Context, fullMethod string) string
	// Cost returns the number of tokens for msg: the request of a unary call, a
	// message received on a stream (see PerMessage), or nil for the opening of a
	// stream. A cost of 0 or less takes nothing, and is denied only while the key
	// is in debt. Default: 1 for each.
	Cost func(ctx context.Context, fullMethod string, msg any) int
	// Parts returns the parts of a decision on several limits, all or nothing: of
	// the user, the tenant and the service. It is in place of Key and Cost, and
	// called with the msg that Cost is called with. A call without parts passes.
	// Default: one part, of Key and Cost.
	Parts func(ctx context.Context, fullMethod string, msg any) []limiter.Part
	// Skip returns true for calls that are not limited, such as health checks.
	// Default: none.
	Skip func(ctx context.Context, fullMethod string) bool
	// Denied returns the error of a denied call. If it is nil or returns nil, the
	// error is [DeniedError]. With Parts, r is the result of the tightest part, and
	// [PartsFromContext] has those of all parts.
	Denied func(ctx context.Context, fullMethod string, r limiter.Result) error
	// PerMessage is true if every message received on a stream takes tokens, as
	// well as its opening. Unary calls are not affected.
	PerMessage bool
	// SkipFailed is true if a call gets its tokens back when it ends with a status
	// other than OK, or in a panic. A stream gets back the tokens of its opening.
	// Because it could end itself in time, it does not get back those of messages.
	SkipFailed bool
	// SkipSuccessful is true if a call gets its tokens back when it ends with OK:
	// for limits on failures, such as wrong passwords.
	SkipSuccessful bool
}

// checked returns the options with their defaults. It panics if they or the limiter can't
// be used by the named interceptor.
func (o Options) checked(interceptor string, l *limiter.Limiter) Options {
	if l == nil && o.Parts == nil {
		panic("grpclimit: " + interceptor + ": the limiter is nil")
	}
	if o.Parts != nil && (o.Key != nil || o.Cost != nil) {
		panic("grpclimit: " + interceptor + ": Options.Parts is in place of Key and Cost: leave these out")
	}
	if o.Key == nil {
		o.Key = func(ctx context.Context, _ string) string { return PeerAddress(ctx) }
	}
	if o.Cost == nil {
		o.Cost = func(context.Context, string, any) int { return 1 }
	}
	if o.Skip == nil {
		o.Skip = func(context.Context, string) bool { return false }
	}
	return o
}

// givesBack reports whether a call that ended in err gets its tokens back.
func (o Options) givesBack(err error) bool {
	if status.Code(err) == codes.OK {
		return o.SkipSuccessful
	}
	return o.SkipFailed
}
