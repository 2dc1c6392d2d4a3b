package grpclimit

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/seed-e56e777b/limiter"
)

const defaultMaxHold = 15 * time.Minute

// ClientOptions is the configuration of a client interceptor. With the zero value, each
// call waits for one token of its connection's target. Functions may be called from many
// goroutines at once.
type ClientOptions struct {
	// Key returns the key of a call. target is [grpc.ClientConn.Target], such as
	// "dns:///api.example.com:443", and fullMethod "/package.Service/Method". For a
	// server with limits by method, return both. Default: target.
	Key func(ctx context.Context, target, fullMethod string) string
	// Skip returns true for calls that do not wait and hold nothing, such as health
	// checks. Default: none.
	Skip func(ctx context.Context, fullMethod string) bool
	// MaxHold is the longest hold, against absurd times. A longer one counts as
	// MaxHold, and in [ClientStats].Clamped. Default, also for one below 0: 15
	// minutes.
	MaxHold time.Duration
	// Stats counts the holds, of all interceptors that have the same. Nil: nothing
	// counts them.
	Stats *ClientStats
}

// ClientStats are counters of client interceptors. Its zero value is ready to use.
type ClientStats struct {
	Held    atomic.Uint64 // calls that held their key
	Clamped atomic.Uint64 // calls of Held for which the server gave a time above MaxHold
}

// UnaryClientInterceptor returns an interceptor for unary calls to a server with limits
// of its own. A call waits for a token of its key, and the key is held, by
// [limiter.Limiter.Hold], for as long as the server asks: all processes that share the
// limiter's keys pause together. It panics if l is nil.
//
//	conn, err := grpc.NewClient(target,
//		grpc.WithChainUnaryInterceptor(grpclimit.UnaryClientInterceptor(l, opts)),
//		grpc.WithChainStreamInterceptor(grpclimit.StreamClientInterceptor(l, opts)))
//
// The wait ends with the call's context, and a call that would wait beyond its deadline
// fails at once, with [codes.DeadlineExceeded]. The error also matches the limiter's or
// the context's with [errors.Is]; nothing was sent.
//
// The server asks with a status of [codes.ResourceExhausted] or [codes.Unavailable] and
// a google.rpc.RetryInfo, or with any status other than OK and the trailer
// grpc-retry-pushback-ms. Of both the longer time counts. A time that is negative (of
// the trailer: don't retry this call) or malformed is ignored. The interceptor retries
// nothing: the retry policy of grpc-go heeds the trailer, and its retries are part of
// the one call that has waited.
func UnaryClientInterceptor(l *limiter.Limiter, opts ClientOptions) grpc.UnaryClientInterceptor {
	if l == nil {
		panic("grpclimit: UnaryClientInterceptor: the limiter is nil")
	}
	c := newClient(l, opts)
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, callOpts ...grpc.CallOption) error {
		if c.Skip(ctx, method) {
			return invoke(ctx, method, req, reply, cc, callOpts...)
		}
		key := c.keyOf(ctx, cc, method)
		if err := c.wait(ctx, key); err != nil {
			return err
		}
		var trailer metadata.MD
		err := invoke(ctx, method, req, reply, cc, append(slices.Clip(callOpts), grpc.Trailer(&trailer))...)
		c.obey(key, err, trailer)
		return err
	}
}

// StreamClientInterceptor returns an interceptor that does for streams as
// [UnaryClientInterceptor] does for unary calls. A stream waits for a token when it
// opens, and its messages don't. The key is held when RecvMsg returns the stream's
// error. It panics if l is nil.
func StreamClientInterceptor(l *limiter.Limiter, opts ClientOptions) grpc.StreamClientInterceptor {
	if l == nil {
		panic("grpclimit: StreamClientInterceptor: the limiter is nil")
	}
	c := newClient(l, opts)
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, callOpts ...grpc.CallOption) (grpc.ClientStream, error) {
		if c.Skip(ctx, method) {
			return open(ctx, desc, cc, method, callOpts...)
		}
		key := c.keyOf(ctx, cc, method)
		if err := c.wait(ctx, key); err != nil {
			return nil, err
		}
		stream, err := open(ctx, desc, cc, method, callOpts...)
		if err != nil {
			c.obey(key, err, nil)
			return stream, err
		}
		return &obedientStream{ClientStream: stream, client: c, key: key}, nil
	}
}

// obedientStream is a stream whose error may hold a key.
type obedientStream struct {
	grpc.ClientStream
	client *client
	key    string
	ended  atomic.Bool
}

// RecvMsg holds the key if the stream has ended and the server asks for it.
func (s *obedientStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil && s.ended.CompareAndSwap(false, true) {
		s.client.obey(s.key, err, s.Trailer())
	}
	return err
}

// client is a limiter with its options.
type client struct {
	ClientOptions
	limiter *limiter.Limiter
}

func newClient(l *limiter.Limiter, opts ClientOptions) *client {
	if opts.Key == nil {
		opts.Key = func(_ context.Context, target, _ string) string { return target }
	}
	if opts.Skip == nil {
		opts.Skip = func(context.Context, string) bool { return false }
	}
	if opts.MaxHold <= 0 {
		opts.MaxHold = defaultMaxHold
	}
	if opts.Stats == nil {
		opts.Stats = new(ClientStats)
	}
	return &client{opts, l}
}

func (c *client) keyOf(ctx context.Context, cc *grpc.ClientConn, method string) string {
	target := ""
	if cc != nil { // nil in tests of interceptors
		target = cc.Target()
	}
	return c.Key(ctx, target, method)
}

// wait waits for a token, and returns the limiter's error as one of gRPC.
func (c *client) wait(ctx context.Context, key string) error {
	err := c.limiter.Wait(ctx, key)
	if err == nil {
		return nil
	}
	code := codes.ResourceExhausted // the key has a limit of zero
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	}
	return &notSentError{err, code}
}

// obey holds the key if the outcome of a call asks for it.
func (c *client) obey(key string, err error, trailer metadata.MD) {
	d := pushback(err, trailer)
	if d <= 0 {
		return
	}
	c.Stats.Held.Add(1)
	if d > c.MaxHold {
		c.Stats.Clamped.Add(1)
		d = c.MaxHold
	}
	c.limiter.Hold(key, d)
}

// pushback returns the time for which the server asks for no further calls; 0: it does
// not.
func pushback(err error, trailer metadata.MD) (d time.Duration) {
	s, ok := status.FromError(err)
	if !ok || s.Code() == codes.OK {
		return 0
	}
	if code := s.Code(); code == codes.ResourceExhausted || code == codes.Unavailable {
		for _, detail := range s.Details() {
			if info, ok := detail.(*errdetails.RetryInfo); ok && info.GetRetryDelay().IsValid() {
				d = max(d, info.GetRetryDelay().AsDuration())
			}
		}
	}
	return max(d, pushbackOf(trailer))
}

// pushbackOf returns the time of the trailer; 0: none, malformed or negative. Several
// values mean that there should be no retry, as for grpc-go.
func pushbackOf(trailer metadata.MD) time.Duration {
	values := trailer.Get(pushbackKey)
	if len(values) != 1 {
		return 0
	}
	millis, err := strconv.ParseUint(values[0], 10, 63)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0
	}
	const most = uint64(1<<63-1) / uint64(time.Millisecond)
	return time.Duration(min(millis, most)) * time.Millisecond
}

// notSentError is the error of a call that was not sent because of the limiter.
type notSentError struct {
	err  error
	code codes.Code
}

// Error returns the text of the limiter's error.
func (e *notSentError) Error() string { return "grpclimit: the call was not sent: " + e.err.Error() }

// Unwrap returns the limiter's error.
func (e *notSentError) Unwrap() error { return e.err }

// GRPCStatus returns the status of the call.
func (e *notSentError) GRPCStatus() *status.Status { return status.New(e.code, e.Error()) }
