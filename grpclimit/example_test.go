package grpclimit_test

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/grpclimit"
)

// One call an hour for each client address, and the error of a client.
func Example() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(1, time.Hour)})
	if err != nil {
		panic(err)
	}
	defer l.Close()
	server := grpc.NewServer(
		grpc.UnaryInterceptor(grpclimit.UnaryServerInterceptor(l, grpclimit.Options{})),
		grpc.StreamInterceptor(grpclimit.StreamServerInterceptor(l, grpclimit.Options{})),
	)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	conn := serve(server)
	defer server.Stop()
	defer conn.Close()

	client := grpc_health_v1.NewHealthClient(conn)
	for range 2 {
		_, err := client.Check(context.Background(), &grpc_health_v1.HealthCheckRequest{})
		s := status.Convert(err)
		fmt.Println(s.Code())
		for _, detail := range s.Details() {
			if info, ok := detail.(*errdetails.RetryInfo); ok {
				fmt.Println("retry in", info.GetRetryDelay().AsDuration().Round(time.Minute))
			}
		}
	}
	// Output:
	// OK
	// ResourceExhausted
	// retry in 1h0m0s
}

// Limits per tenant and method, by the size of the message, without failed calls and
// health checks.
func ExampleOptions() {
	l, err := limiter.New(limiter.Config{Limit: limiter.Per(1<<20, time.Second)})
	if err != nil {
		panic(err)
	}
	opts := grpclimit.Options{
		Key: func(ctx context.Context, fullMethod string) string {
			tenant := metadata.ValueFromIncomingContext(ctx, "tenant") // authenticated before
			return fmt.Sprint(tenant, fullMethod)
		},
		Cost: func(_ context.Context, _ string, msg any) int {
			if m, ok := msg.(proto.Message); ok {
				return max(1, proto.Size(m))
			}
			return 1 // a stream opens
		},
		Skip: func(_ context.Context, fullMethod string) bool {
			return fullMethod == grpc_health_v1.Health_Check_FullMethodName
		},
		PerMessage: true,
		SkipFailed: true,
	}
	server := grpc.NewServer(
		grpc.UnaryInterceptor(grpclimit.UnaryServerInterceptor(l, opts)),
		grpc.StreamInterceptor(grpclimit.StreamServerInterceptor(l, opts)),
	)
	server.Stop()
}

// serve serves in memory and returns a connection to it.
func serve(server *grpc.Server) *grpc.ClientConn {
	listener := bufconn.Listen(1 << 16)
	go func() { _ = server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		panic(err)
	}
	return conn
}

// The limits of a tenant's calls and of its bytes, all or nothing.
func ExampleOptions_parts() {
	open := func(prefix string, lim limiter.Limit) *limiter.Limiter {
		l, err := limiter.New(limiter.Config{Limit: lim, Prefix: prefix}) // with Redis: client, Processes: size of the fleet
		if err != nil {
			panic(err)
		}
		return l
	}
	calls, bytes := open("calls", limiter.Per(100, time.Minute)), open("bytes", limiter.Per(1<<20, time.Minute))
	opts := grpclimit.Options{
		Parts: func(ctx context.Context, _ string, msg any) []limiter.Part {
			tenant := fmt.Sprint(metadata.ValueFromIncomingContext(ctx, "tenant")) // authenticated before
			size := 0
			if m, ok := msg.(proto.Message); ok {
				size = proto.Size(m)
			}
			return []limiter.Part{calls.Part(tenant, 1).Named("calls"), bytes.Part(tenant, size).Named("bytes")}
		},
		Denied: func(ctx context.Context, _ string, r limiter.Result) error {
			for _, p := range grpclimit.PartsFromContext(ctx) {
				if !p.Result().Allowed {
					return status.Errorf(codes.ResourceExhausted, "the limit of %s is %d", p.Name(), p.Result().Limit.Burst)
				}
			}
			return nil
		},
	}
	server := grpc.NewServer(
		grpc.UnaryInterceptor(grpclimit.UnaryServerInterceptor(nil, opts)),
		grpc.StreamInterceptor(grpclimit.StreamServerInterceptor(nil, opts)),
	)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	conn := serve(server)
	defer server.Stop()
	defer conn.Close()

	client := grpc_health_v1.NewHealthClient(conn)
	ctx := metadata.AppendToOutgoingContext(context.Background(), "tenant", "7")
	for range 100 {
		_, _ = client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	}
	_, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	fmt.Println(status.Convert(err).Message())
	// Output: the limit of calls is 100
}
