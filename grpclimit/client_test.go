package grpclimit

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/seed-e56e777b/limiter"
)

func clientLimiter(t *testing.T, lim limiter.Limit) *limiter.Limiter {
	t.Helper()
	l, err := limiter.New(limiter.Config{Limit: lim})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// plenty is a limit that no test reaches. A hold ends with an empty bucket, and so it
// refills in no time.
func plenty() limiter.Limit { return limiter.Per(1_000_000, time.Second) }

// failed returns the error of a server that names a delay.
func failed(t *testing.T, code codes.Code, delay *durationpb.Duration) error {
	t.Helper()
	s, err := status.New(code, "as told").WithDetails(&errdetails.Help{}, &errdetails.RetryInfo{RetryDelay: delay})
	require.NoError(t, err)
	return s.Err()
}

func after(millis ...string) metadata.MD { return metadata.MD{pushbackKey: millis} }

func TestClientPushback(t *testing.T) {
	five := durationpb.New(5 * time.Second)
	plain := status.Error(codes.Unavailable, "as told")
	for _, tc := range []struct {
		name    string
		err     error
		trailer metadata.MD
		want    time.Duration
	}{
		{"success", nil, after("5000"), 0},
		{"RESOURCE_EXHAUSTED with nothing", status.Error(codes.ResourceExhausted, ""), nil, 0},
		{"RetryInfo with RESOURCE_EXHAUSTED", failed(t, codes.ResourceExhausted, five), nil, 5 * time.Second},
		{"RetryInfo with UNAVAILABLE", failed(t, codes.Unavailable, five), nil, 5 * time.Second},
		{"RetryInfo with ABORTED, of one transaction", failed(t, codes.Aborted, five), nil, 0},
		{"RetryInfo of none", failed(t, codes.Unavailable, nil), nil, 0},
		{"RetryInfo, negative", failed(t, codes.Unavailable, durationpb.New(-time.Second)), nil, 0},
		{"RetryInfo, invalid", failed(t, codes.Unavailable, &durationpb.Duration{Seconds: 5, Nanos: -5}), nil, 0},
		{"RetryInfo, beyond int64", failed(t, codes.Unavailable, &durationpb.Duration{Seconds: 315_000_000_000}), nil, math.MaxInt64},
		{"not of gRPC", errors.New("no route"), after("5000"), 0},
		{"trailer", plain, after("5000"), 5 * time.Second},
		{"trailer with another status", status.Error(codes.Internal, ""), after("5000"), 5 * time.Second},
		{"trailer: don't retry", plain, after("-1"), 0},
		{"trailer: at once", plain, after("0"), 0},
		{"trailer, malformed", plain, after("soon"), 0},
		{"trailer, empty", plain, after(""), 0},
		{"trailer, a fraction", plain, after("1.5"), 0},
		{"trailer, NaN", plain, after("NaN"), 0},
		{"trailer, several values", plain, after("5000", "6000"), 0},
		{"trailer, beyond int64", plain, after("99999999999999999999999"), math.MaxInt64 / time.Millisecond * time.Millisecond},
		{"the longer of both", failed(t, codes.Unavailable, five), after("6000"), 6 * time.Second},
		{"RetryInfo although the trailer says not to retry", failed(t, codes.Unavailable, five), after("-1"), 5 * time.Second},
	} {
		if got := pushback(tc.err, tc.trailer); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// FuzzClientPushback: no trailer or delay makes a hold that is negative.
func FuzzClientPushback(f *testing.F) {
	f.Add("5000", int64(5), int32(0), uint32(codes.Unavailable))
	f.Add("-1", int64(-5), int32(-5), uint32(codes.ResourceExhausted))
	f.Add("99999999999999999999999", int64(math.MaxInt64), int32(999_999_999), uint32(8))
	f.Fuzz(func(t *testing.T, trailer string, secs int64, nanos int32, code uint32) {
		s, err := status.New(codes.Code(code), "").WithDetails(&errdetails.RetryInfo{RetryDelay: &durationpb.Duration{Seconds: secs, Nanos: nanos}})
		if err != nil {
			return // OK has no details
		}
		if d := pushback(s.Err(), after(trailer)); d < 0 {
			t.Errorf("%q and %d s %d ns: %v", trailer, secs, nanos, d)
		}
	})
}

// outcomes answers calls in order; the last outcome goes on.
type outcomes struct {
	t       *testing.T
	answers []error
	trailer metadata.MD
	began   time.Time
	at      []time.Duration
}

func outcomesOf(t *testing.T, answers ...error) *outcomes {
	t.Helper()
	return &outcomes{t: t, answers: answers, began: time.Now()}
}

func (o *outcomes) next() error {
	err := o.answers[min(len(o.at), len(o.answers)-1)]
	o.at = append(o.at, time.Since(o.began))
	return err
}

// invoke is a [grpc.UnaryInvoker].
func (o *outcomes) invoke(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
	for _, opt := range opts {
		if trailer, ok := opt.(grpc.TrailerCallOption); ok {
			*trailer.TrailerAddr = o.trailer
		}
	}
	return o.next()
}

// open is a [grpc.Streamer].
func (o *outcomes) open(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return &fakeStream{err: o.next(), trailer: o.trailer}, nil
}

// fakeStream receives one message, and then its error or the end.
type fakeStream struct {
	grpc.ClientStream
	err      error
	trailer  metadata.MD
	received int
}

func (s *fakeStream) RecvMsg(any) error {
	s.received++
	switch {
	case s.received == 1:
		return nil
	case s.err == nil:
		return io.EOF
	}
	return s.err
}

func (s *fakeStream) Trailer() metadata.MD { return s.trailer }

// wantTimes checks the instants, to a millisecond.
func (o *outcomes) wantTimes(want ...time.Duration) {
	o.t.Helper()
	require.Len(o.t, o.at, len(want))
	for i := range want {
		require.InDelta(o.t, want[i].Seconds(), o.at[i].Seconds(), 1e-3, "call %d", i)
	}
}

func TestUnaryClientHoldsItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outcomesOf(t, failed(t, codes.ResourceExhausted, durationpb.New(5*time.Second)), nil)
		var stats ClientStats
		intercept := UnaryClientInterceptor(clientLimiter(t, plenty()), ClientOptions{
			Key:   func(_ context.Context, _, method string) string { return method },
			Skip:  func(_ context.Context, method string) bool { return method == "skipped" },
			Stats: &stats,
		})
		call := func(method string) error {
			return intercept(t.Context(), method, nil, nil, nil, o.invoke)
		}
		require.Equal(t, o.answers[0], call("a"))
		require.NoError(t, call("b"))
		require.NoError(t, call("skipped"))
		require.NoError(t, call("a"))
		o.wantTimes(0, 0, 0, 5*time.Second)
		require.EqualValues(t, 1, stats.Held.Load())
		require.Zero(t, stats.Clamped.Load())
	})
}

// TestUnaryClientObeysTheTrailer: though the caller wants the trailer, too.
func TestUnaryClientObeysTheTrailer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outcomesOf(t, status.Error(codes.Unavailable, "as told"), nil)
		o.trailer = after("3000")
		intercept := UnaryClientInterceptor(clientLimiter(t, plenty()), ClientOptions{})
		var own metadata.MD
		opts := make([]grpc.CallOption, 1, 2)
		opts[0] = grpc.Trailer(&own)
		require.Error(t, intercept(t.Context(), "a", nil, nil, nil, o.invoke, opts...))
		require.Equal(t, o.trailer, own)
		require.Nil(t, opts[:2][1], "the caller's options were written to")
		require.NoError(t, intercept(t.Context(), "b", nil, nil, nil, o.invoke))
		o.wantTimes(0, 3*time.Second)
	})
}

func TestStreamClientHoldsItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outcomesOf(t, failed(t, codes.Unavailable, durationpb.New(5*time.Second)), nil)
		var stats ClientStats
		intercept := StreamClientInterceptor(clientLimiter(t, plenty()), ClientOptions{
			Skip:  func(_ context.Context, method string) bool { return method == "skipped" },
			Stats: &stats,
		})
		call := func(method string) error {
			stream, err := intercept(t.Context(), nil, nil, method, o.open)
			require.NoError(t, err)
			require.NoError(t, stream.RecvMsg(nil))
			err = stream.RecvMsg(nil)
			require.Equal(t, err, stream.RecvMsg(nil))
			return err
		}
		require.Equal(t, o.answers[0], call("a"))
		require.Equal(t, io.EOF, call("skipped"))
		require.Equal(t, io.EOF, call("a"))
		o.wantTimes(0, 0, 5*time.Second)
		require.EqualValues(t, 1, stats.Held.Load(), "a stream holds once")
	})
}

func TestStreamClientObeysTheTrailer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outcomesOf(t, status.Error(codes.ResourceExhausted, "as told"))
		o.trailer = after("3000")
		l := clientLimiter(t, plenty())
		stream, err := StreamClientInterceptor(l, ClientOptions{})(t.Context(), nil, nil, "a", o.open)
		require.NoError(t, err)
		require.NoError(t, stream.RecvMsg(nil))
		require.True(t, l.Allow(""))
		require.Error(t, stream.RecvMsg(nil))
		require.False(t, l.Allow(""))
		require.InDelta(t, 3, l.Take("").RetryAfter.Seconds(), 1e-3)
	})
}

func TestStreamClientThatDoesNotOpen(t *testing.T) {
	o := outcomesOf(t, failed(t, codes.Unavailable, durationpb.New(time.Hour)))
	l := clientLimiter(t, plenty())
	_, err := StreamClientInterceptor(l, ClientOptions{})(t.Context(), nil, nil, "a",
		func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
			return nil, o.next()
		})
	require.Equal(t, o.answers[0], err)
	require.False(t, l.Allow(""))
}

func TestClientClampsAbsurdTimes(t *testing.T) {
	for _, tc := range []struct{ maxHold, want time.Duration }{{0, 15 * time.Minute}, {-1, 15 * time.Minute}, {time.Minute, time.Minute}} {
		synctest.Test(t, func(t *testing.T) {
			o := outcomesOf(t, failed(t, codes.Unavailable, durationpb.New(8760*time.Hour)), nil)
			var stats ClientStats
			intercept := UnaryClientInterceptor(clientLimiter(t, plenty()), ClientOptions{MaxHold: tc.maxHold, Stats: &stats})
			require.Error(t, intercept(t.Context(), "a", nil, nil, nil, o.invoke))
			require.NoError(t, intercept(t.Context(), "a", nil, nil, nil, o.invoke))
			o.wantTimes(0, tc.want)
			require.EqualValues(t, 1, stats.Clamped.Load())
		})
	}
}

// TestClientErrorsAreOfBothKinds: of gRPC and of the context or the limiter. Nothing is
// sent.
func TestClientErrorsAreOfBothKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outcomesOf(t, nil)
		l := clientLimiter(t, limiter.Per(1, time.Hour))
		unary, stream := UnaryClientInterceptor(l, ClientOptions{}), StreamClientInterceptor(l, ClientOptions{})
		require.NoError(t, unary(t.Context(), "a", nil, nil, nil, o.invoke))
		late, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		over, cancel := context.WithCancel(t.Context())
		cancel()
		for ctx, want := range map[context.Context]struct {
			code codes.Code
			err  error
		}{late: {codes.DeadlineExceeded, context.DeadlineExceeded}, over: {codes.Canceled, context.Canceled}} {
			err := unary(ctx, "a", nil, nil, nil, o.invoke)
			require.Equal(t, want.code, status.Code(err))
			require.ErrorIs(t, err, want.err)
			require.ErrorContains(t, err, "grpclimit: the call was not sent: ")
			s, err := stream(ctx, nil, nil, "a", o.open)
			require.Nil(t, s)
			require.Equal(t, want.code, status.Code(err))
			require.ErrorIs(t, err, want.err)
		}
		require.Len(t, o.at, 1)
		require.Zero(t, time.Since(o.began))
	})
	l, err := limiter.New(limiter.Config{Limit: plenty(), LimitFor: func(string) (limiter.Limit, bool) { return limiter.Limit{}, true }})
	require.NoError(t, err)
	defer l.Close()
	err = UnaryClientInterceptor(l, ClientOptions{})(t.Context(), "a", nil, nil, nil, outcomesOf(t, nil).invoke)
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.ErrorIs(t, err, limiter.ErrExceedsBurst)
}

func TestClientWithoutLimiter(t *testing.T) {
	require.PanicsWithValue(t, "grpclimit: UnaryClientInterceptor: the limiter is nil", func() { UnaryClientInterceptor(nil, ClientOptions{}) })
	require.PanicsWithValue(t, "grpclimit: StreamClientInterceptor: the limiter is nil", func() { StreamClientInterceptor(nil, ClientOptions{}) })
}

// exhausted is a server that denies each call: of unary ones it says when to come back
// in the trailer, of streams in the status.
type exhausted struct {
	pb.UnimplementedTestServiceServer
	stream error
}

func (e *exhausted) UnaryCall(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if err := grpc.SetTrailer(ctx, after("3600000")); err != nil {
		return nil, err
	}
	return nil, status.Error(codes.ResourceExhausted, "as told")
}

func (e *exhausted) FullDuplexCall(pb.TestService_FullDuplexCallServer) error { return e.stream }

// TestClientsOfARealServer: the default key is the connection's target.
func TestClientsOfARealServer(t *testing.T) {
	l := clientLimiter(t, plenty())
	server := grpc.NewServer()
	pb.RegisterTestServiceServer(server, &exhausted{stream: failed(t, codes.Unavailable, durationpb.New(2*time.Hour))})
	listener := bufconn.Listen(1 << 16)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Stop()
		require.NoError(t, <-served)
	}()
	const target = "passthrough:///api"
	opts := ClientOptions{MaxHold: 5 * time.Hour}
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithUnaryInterceptor(UnaryClientInterceptor(l, opts)),
		grpc.WithStreamInterceptor(StreamClientInterceptor(l, opts)))
	require.NoError(t, err)
	defer conn.Close()
	api := pb.NewTestServiceClient(conn)

	stream, err := api.FullDuplexCall(t.Context())
	require.NoError(t, err)
	_, err = api.UnaryCall(t.Context(), &pb.SimpleRequest{})
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.InDelta(t, 3600, l.Peek(target).RetryAfter.Seconds(), 60)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = api.UnaryCall(ctx, &pb.SimpleRequest{})
	require.Equal(t, codes.DeadlineExceeded, status.Code(err), "of a held key")
	require.NoError(t, ctx.Err())

	_, err = stream.Recv()
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.InDelta(t, 7200, l.Peek(target).RetryAfter.Seconds(), 60)
}
