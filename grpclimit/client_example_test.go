package grpclimit_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/grpclimit"
)

// A client of a server that admits one call an hour: the second call is denied, and
// the third is not sent, because it would have to wait for longer than its deadline.
func ExampleUnaryClientInterceptor() {
	theirs, err := limiter.New(limiter.Config{Limit: limiter.Per(1, time.Hour)})
	if err != nil {
		panic(err)
	}
	defer theirs.Close()
	server := grpc.NewServer(grpc.UnaryInterceptor(grpclimit.UnaryServerInterceptor(theirs, grpclimit.Options{})))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	listener := bufconn.Listen(1 << 16)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	ours, err := limiter.New(limiter.Config{Limit: limiter.Per(100, time.Second)}) // with Redis: the fleet's
	if err != nil {
		panic(err)
	}
	defer ours.Close()
	var stats grpclimit.ClientStats
	opts := grpclimit.ClientOptions{Stats: &stats}
	conn, err := grpc.NewClient("passthrough:///api",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithChainUnaryInterceptor(grpclimit.UnaryClientInterceptor(ours, opts)),
		grpc.WithChainStreamInterceptor(grpclimit.StreamClientInterceptor(ours, opts)))
	if err != nil {
		panic(err)
	}
	defer conn.Close()

	client := grpc_health_v1.NewHealthClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for range 3 {
		_, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		fmt.Println(status.Code(err), errors.Is(err, context.DeadlineExceeded))
	}
	fmt.Println(stats.Held.Load(), stats.Clamped.Load())
	// Output:
	// OK false
	// ResourceExhausted false
	// DeadlineExceeded true
	// 1 1
}
