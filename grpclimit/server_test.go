package grpclimit_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/grpclimit"
)

// service answers as its requests tell it to.
type service struct {
	pb.UnimplementedTestServiceServer
	handled  atomic.Int64          // calls and messages that reached a handler
	stubborn func()                // called after an error on a stream, which then receives again
	again    error                 // what it got then; read it after the stream's end
	heedless bool                  // a stream's handler returns nil after any error
	called   func()                // called by each unary call, unless nil
	see      func(context.Context) // called with the context of each call and stream, unless nil
}

func (s *service) UnaryCall(ctx context.Context, req *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	s.handled.Add(1)
	if s.see != nil {
		s.see(ctx)
	}
	if s.called != nil {
		s.called()
	}
	if req.GetFillUsername() {
		panic("as told")
	}
	if err := told(req.GetResponseStatus()); err != nil {
		return nil, err
	}
	return &pb.SimpleResponse{}, nil
}

func (s *service) FullDuplexCall(stream pb.TestService_FullDuplexCallServer) error {
	if s.see != nil {
		s.see(stream.Context())
	}
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if s.stubborn != nil {
				s.stubborn()
				_, s.again = stream.Recv()
			}
			if s.heedless {
				return nil
			}
			return err
		}
		s.handled.Add(1)
		if err := told(req.GetResponseStatus()); err != nil {
			return err
		}
		if err := stream.Send(&pb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
}

func told(s *pb.EchoStatus) error {
	return status.Error(codes.Code(s.GetCode()), s.GetMessage())
}

// recovered makes an error of a panic, as servers usually do.
func recovered(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if recover() != nil {
			err = status.Error(codes.Internal, "panic")
		}
	}()
	return handler(ctx, req)
}

// fixture is a client, the server that it talks to, and the limiter between.
type fixture struct {
	pb.TestServiceClient
	service *service
	limiter *limiter.Limiter
}

// bufconnKey is the default key where client and server share a bufconn.
const bufconnKey = "bufconn"

func start(t *testing.T, lim limiter.Limit, opts grpclimit.Options) fixture {
	t.Helper()
	return startWith(t, limiter.Config{Limit: lim}, opts)
}

func startWith(t *testing.T, cfg limiter.Config, opts grpclimit.Options, dial ...grpc.DialOption) fixture {
	t.Helper()
	l, err := limiter.New(cfg)
	require.NoError(t, err)
	f := fixture{service: &service{}, limiter: l}
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(recovered, grpclimit.UnaryServerInterceptor(l, opts)),
		grpc.StreamInterceptor(grpclimit.StreamServerInterceptor(l, opts)),
	)
	pb.RegisterTestServiceServer(server, f.service)
	listener := bufconn.Listen(1 << 16)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", append(dial,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))...)
	require.NoError(t, err)
	f.TestServiceClient = pb.NewTestServiceClient(conn)
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		require.NoError(t, <-served)
		require.NoError(t, l.Close())
	})
	return f
}

func (f fixture) unary(t *testing.T, req *pb.SimpleRequest) error {
	t.Helper()
	_, err := f.UnaryCall(t.Context(), req)
	return err
}

// stream opens a stream, sends the messages, and returns how many were
// answered and how the stream ended.
func (f fixture) stream(t *testing.T, messages ...*pb.StreamingOutputCallRequest) (answered int, err error) {
	t.Helper()
	stream, err := f.FullDuplexCall(t.Context())
	require.NoError(t, err)
	for _, m := range messages {
		_ = stream.Send(m) // an ended stream says why to Recv
	}
	require.NoError(t, stream.CloseSend())
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return answered, nil
		} else if err != nil {
			return answered, err
		}
		answered++
	}
}

func message() *pb.StreamingOutputCallRequest { return &pb.StreamingOutputCallRequest{} }

func failing() *pb.EchoStatus {
	return &pb.EchoStatus{Code: int32(codes.NotFound), Message: "as told"}
}

// retryDelay is what a denial tells the client; ok says whether it tells.
func retryDelay(t *testing.T, err error) (d time.Duration, ok bool) {
	t.Helper()
	require.Equal(t, codes.ResourceExhausted, status.Code(err), "%v", err)
	for _, detail := range status.Convert(err).Details() {
		if info, isInfo := detail.(*errdetails.RetryInfo); isInfo {
			return info.GetRetryDelay().AsDuration(), true
		}
	}
	return 0, false
}
