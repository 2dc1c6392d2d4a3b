package grpclimit

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/seed-e56e777b/limiter"
)

// Options say what is limited and how. The zero value gives every client
// address one token per call. Functions may be called from many goroutines at
// once.
type Options struct {
	// Key says whose tokens a call takes. fullMethod is "/package.Service/Method".
	// It is called once for a call, streams included. Nil means [PeerAddress].
	Key func(ctx context.Context, fullMethod string) string
	// Cost says how many tokens to take for msg: the request of a unary call,
	// a message received on a stream (see PerMessage), or nil for the opening
	// of a stream. A cost of 0 or less takes nothing, and is denied only while
	// the key is in debt. Nil means 1 for each.
	Cost func(ctx context.Context, fullMethod string, msg any) int
	// Skip says which calls are not limited: health checks, say. Nil means none.
	Skip func(ctx context.Context, fullMethod string) bool
	// Denied makes the error that a denied call ends with, in place of
	// [DeniedError]; where it returns nil, that is used all the same.
	Denied func(ctx context.Context, fullMethod string, r limiter.Result) error
	// PerMessage has every message received on a stream decided on as well as
	// its opening. Unary calls are not affected.
	PerMessage bool
	// SkipFailed gives back what a call took if it ends with another status
	// than OK, or in a panic. Of a stream it is what its opening took: messages
	// that were handled stay counted, or a stream could always be ended in
	// time.
	SkipFailed bool
	// SkipSuccessful gives it back if the call ends with OK: for limits on
	// failures, such as wrong passwords.
	SkipSuccessful bool
}

func (o Options) withDefaults() Options {
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
