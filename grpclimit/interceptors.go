package grpclimit

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/seed-e56e777b/limiter"
)

// UnaryServerInterceptor returns an interceptor that limits unary calls by l. It
// panics if l is nil, or if opts has Parts beside Key or Cost. With Parts, which have
// their own limiters, l is not used and may be nil.
func UnaryServerInterceptor(l *limiter.Limiter, opts Options) grpc.UnaryServerInterceptor {
	opts = opts.checked("UnaryServerInterceptor", l)
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
		if opts.Skip(ctx, info.FullMethod) {
			return handler(ctx, req)
		}
		err = newCall(ctx, l, opts, info.FullMethod).run(req, func(ctx context.Context) error {
			resp, err = handler(ctx, req)
			return err
		})
		return resp, err
	}
}

// StreamServerInterceptor returns an interceptor that limits streams by l: their
// opening and, with [Options.PerMessage], each message received. It panics as
// [UnaryServerInterceptor] does.
func StreamServerInterceptor(l *limiter.Limiter, opts Options) grpc.StreamServerInterceptor {
	opts = opts.checked("StreamServerInterceptor", l)
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if opts.Skip(stream.Context(), info.FullMethod) {
			return handler(srv, stream)
		}
		c := newCall(stream.Context(), l, opts, info.FullMethod)
		return c.run(nil, func(ctx context.Context) error {
			decided := decidedStream{ServerStream: stream, ctx: ctx}
			if !opts.PerMessage {
				return handler(srv, &decided)
			}
			limited := &limitedStream{decidedStream: decided, call: c}
			return limited.outcome(handler(srv, limited))
		})
	}
}

// limitedStream is a stream of which each message received takes tokens.
type limitedStream struct {
	decidedStream
	call   *call
	denied atomic.Pointer[error] // error of the first denied message
}

// RecvMsg fails from the first denied message on. Because that message is lost, later
// ones would be out of order.
func (s *limitedStream) RecvMsg(m any) error {
	if denied := s.denied.Load(); denied != nil {
		return *denied
	}
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if _, err := s.call.take(m); err != nil {
		return s.deny(err)
	}
	return nil
}

func (s *limitedStream) deny(err error) error {
	s.denied.Store(&err)
	return err
}

// outcome returns the error of a stream whose handler has returned err. After a
// denied message it is never nil, because OK would mean that every message was
// handled. A goroutine of the handler may still be receiving.
func (s *limitedStream) outcome(err error) error {
	if denied := s.denied.Load(); err == nil && denied != nil {
		return *denied
	}
	return err
}
