package grpclimit

import (
	"context"

	"google.golang.org/grpc"

	"github.com/seed-e56e777b/limiter"
)

// UnaryServerInterceptor limits unary calls by l.
func UnaryServerInterceptor(l *limiter.Limiter, opts Options) grpc.UnaryServerInterceptor {
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

// StreamServerInterceptor limits streams by l: their opening, and with
// [Options.PerMessage] each message received as well.
func StreamServerInterceptor(l *limiter.Limiter, opts Options) grpc.StreamServerInterceptor {
	opts = opts.withDefaults()
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if opts.Skip(stream.Context(), info.FullMethod) {
			return handler(srv, stream)
		}
		c := newCall(stream.Context(), l, opts, info.FullMethod)
		if opts.PerMessage {
			stream = &limitedStream{ServerStream: stream, call: c}
		}
		return c.run(nil, func() error { return handler(srv, stream) })
	}
}

// limitedStream decides on each message received.
type limitedStream struct {
	grpc.ServerStream
	call   *call
	denied error // what the stream has ended with
}

// RecvMsg fails from the first message denied on: that one is gone, and what
// comes after it would no longer be in order. One goroutine at a time may
// receive from a stream, so denied needs no lock.
func (s *limitedStream) RecvMsg(m any) error {
	if s.denied != nil {
		return s.denied
	}
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	_, s.denied = s.call.take(m)
	return s.denied
}
