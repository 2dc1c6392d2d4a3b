package grpclimit

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/seed-e56e777b/limiter"
)

// UnaryServerInterceptor returns an interceptor that limits unary calls by l. It
// panics if l is nil.
func UnaryServerInterceptor(l *limiter.Limiter, opts Options) grpc.UnaryServerInterceptor {
	if l == nil {
		panic("grpclimit: UnaryServerInterceptor: the limiter is nil")
	}
	opts = opts.withDefaults()
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
		if opts.Skip(ctx, info.FullMethod) {
			return handler(ctx, req)
		}
		err = newCall(ctx, l, opts, info.FullMethod).run(req, func() error {
			resp, err = handler(ctx, req)
			return err
		})
		return resp, err
	}
}

// StreamServerInterceptor returns an interceptor that limits streams by l: their
// opening and, with [Options.PerMessage], each message received. It panics if l is
// nil.
func StreamServerInterceptor(l *limiter.Limiter, opts Options) grpc.StreamServerInterceptor {
	if l == nil {
		panic("grpclimit: StreamServerInterceptor: the limiter is nil")
	}
	opts = opts.withDefaults()
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if opts.Skip(stream.Context(), info.FullMethod) {
			return handler(srv, stream)
		}
		c := newCall(stream.Context(), l, opts, info.FullMethod)
		if !opts.PerMessage {
			return c.run(nil, func() error { return handler(srv, stream) })
		}
		limited := &limitedStream{ServerStream: stream, call: c}
		return c.run(nil, func() error { return limited.outcome(handler(srv, limited)) })
	}
}

// limitedStream is a stream of which each message received takes tokens.
type limitedStream struct {
	grpc.ServerStream
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
