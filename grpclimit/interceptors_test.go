package grpclimit_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/grpclimit"
)

const (
	unaryMethod  = "/grpc.testing.TestService/UnaryCall"
	streamMethod = "/grpc.testing.TestService/FullDuplexCall"
)

// hourly refills so slowly that what is admitted is the burst.
func hourly(burst int) limiter.Limit { return limiter.Per(burst, time.Hour) }

// wantDelay checks that a denial names the time until one of the tokens that
// come every hour/burst is there.
func wantDelay(t *testing.T, err error, burst int) {
	t.Helper()
	d, ok := retryDelay(t, err)
	require.True(t, ok, "no RetryInfo: %v", err)
	if most := time.Hour / time.Duration(burst); d <= most/2 || d > most {
		t.Errorf("retry delay %v, want just below %v", d, most)
	}
}

func TestDeniedCallSaysWhenToRetry(t *testing.T) {
	f := start(t, hourly(2), grpclimit.Options{})
	for range 2 {
		require.NoError(t, f.unary(t, nil))
	}
	wantDelay(t, f.unary(t, nil), 2)
	if n := f.service.handled.Load(); n != 2 {
		t.Errorf("%d calls reached the handler, want 2", n)
	}
}

func TestCostAboveBurstHasNoRetryInfo(t *testing.T) {
	f := start(t, hourly(2), grpclimit.Options{Cost: func(context.Context, string, any) int { return 3 }})
	if d, ok := retryDelay(t, f.unary(t, nil)); ok {
		t.Errorf("told to retry after %v what can never be admitted", d)
	}
}

// TestGivesBackByOutcome: what each outcome leaves of 5 tokens.
func TestGivesBackByOutcome(t *testing.T) {
	ok, failed, panics := &pb.SimpleRequest{}, &pb.SimpleRequest{ResponseStatus: failing()}, &pb.SimpleRequest{FillUsername: true}
	skipFailed, skipSuccessful := grpclimit.Options{SkipFailed: true}, grpclimit.Options{SkipSuccessful: true}
	for name, c := range map[string]struct {
		opts grpclimit.Options
		req  *pb.SimpleRequest
		code codes.Code
		left int
	}{
		"nothing is given back by default":          {grpclimit.Options{}, failed, codes.NotFound, 4},
		"SkipFailed gives back a failed call":       {skipFailed, failed, codes.NotFound, 5},
		"SkipFailed gives back a panic":             {skipFailed, panics, codes.Internal, 5},
		"SkipFailed keeps a successful call":        {skipFailed, ok, codes.OK, 4},
		"SkipSuccessful gives back a successful":    {skipSuccessful, ok, codes.OK, 5},
		"SkipSuccessful keeps a failed call":        {skipSuccessful, failed, codes.NotFound, 4},
		"SkipSuccessful keeps a call that panicked": {skipSuccessful, panics, codes.Internal, 4},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, hourly(5), c.opts)
			if got := status.Code(f.unary(t, c.req)); got != c.code {
				t.Errorf("the call ended with %v, want %v", got, c.code)
			}
			if left := f.limiter.Peek(bufconnKey).Remaining; left != c.left {
				t.Errorf("%d tokens left, want %d", left, c.left)
			}
		})
	}
}

// TestTrialTakesNothingToGiveBack: a call that only a limit on trial let through
// took nothing.
func TestTrialTakesNothingToGiveBack(t *testing.T) {
	cfg := limiter.Config{Limit: hourly(1), Shadow: func(string) bool { return true }}
	f := startWith(t, cfg, grpclimit.Options{SkipFailed: true})
	require.NoError(t, f.unary(t, nil))
	for range 3 {
		require.Equal(t, codes.NotFound, status.Code(f.unary(t, &pb.SimpleRequest{ResponseStatus: failing()})))
	}
	if s := f.limiter.Stats(); s.Shadowed != 3 || f.limiter.Peek(bufconnKey).Remaining != 0 {
		t.Errorf("%d calls on trial, want 3; %d tokens left, want 0", s.Shadowed, f.limiter.Peek(bufconnKey).Remaining)
	}
}

// TestNoLimitTakesNothingToGiveBack: a call of a key without a limit gives nothing back
// to the bucket that the key gets meanwhile.
func TestNoLimitTakesNothingToGiveBack(t *testing.T) {
	none, err := limiter.ParseLimit("unlimited")
	require.NoError(t, err)
	var lim atomic.Pointer[limiter.Limit]
	lim.Store(&none)
	cfg := limiter.Config{Limit: hourly(1), LimitFor: func(string) (limiter.Limit, bool) { return *lim.Load(), true }}
	f := startWith(t, cfg, grpclimit.Options{SkipFailed: true, Cost: func(context.Context, string, any) int { return 10 }})
	f.service.called = func() {
		finite := limiter.Per(10, 1000*time.Hour)
		lim.Store(&finite)
		f.limiter.Reload()
		if !f.limiter.AllowN(bufconnKey, 10) {
			t.Error("the limit's burst was denied")
		}
	}
	require.Equal(t, codes.NotFound, status.Code(f.unary(t, &pb.SimpleRequest{ResponseStatus: failing()})))
	if left := f.limiter.Peek(bufconnKey).Remaining; left != 0 {
		t.Errorf("%d tokens left, want 0", left)
	}
}

// TestDenialIsNotGivenBack: it took nothing, so giving back would be a gift.
func TestDenialIsNotGivenBack(t *testing.T) {
	f := start(t, hourly(1), grpclimit.Options{SkipFailed: true})
	require.NoError(t, f.unary(t, nil))
	for range 3 {
		require.Equal(t, codes.ResourceExhausted, status.Code(f.unary(t, nil)))
	}
}

func TestStreamIsDecidedOnWhenItOpens(t *testing.T) {
	f := start(t, hourly(2), grpclimit.Options{})
	for range 2 {
		answered, err := f.stream(t, message(), message(), message())
		require.NoError(t, err)
		require.Equal(t, 3, answered)
	}
	_, err := f.stream(t, message())
	wantDelay(t, err, 2)
}

func TestPerMessageEndsTheStreamAtTheFirstDenied(t *testing.T) {
	f := start(t, hourly(3), grpclimit.Options{PerMessage: true})
	f.service.stubborn = func() { f.limiter.Refund(bufconnKey, 3) }
	answered, err := f.stream(t, message(), message(), message(), message())
	wantDelay(t, err, 3)
	if answered != 2 {
		t.Errorf("%d messages were answered, want 2: one token was for the opening", answered)
	}
	if status.Code(f.service.again) != codes.ResourceExhausted {
		t.Errorf("receiving on gave %v, want the denial again", f.service.again)
	}
}

// TestHandlerCannotHideADeniedMessage: neither from the client nor from the refund.
func TestHandlerCannotHideADeniedMessage(t *testing.T) {
	for name, c := range map[string]struct {
		opts grpclimit.Options
		left int
	}{
		"SkipFailed gives the opening back": {grpclimit.Options{PerMessage: true, SkipFailed: true}, 1},
		"SkipSuccessful keeps it":           {grpclimit.Options{PerMessage: true, SkipSuccessful: true}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, hourly(2), c.opts)
			f.service.heedless = true
			answered, err := f.stream(t, message(), message())
			require.Equal(t, codes.ResourceExhausted, status.Code(err), "%v", err)
			require.Equal(t, 1, answered)
			if left := f.limiter.Peek(bufconnKey).Remaining; left != c.left {
				t.Errorf("%d tokens left, want %d", left, c.left)
			}
		})
	}
}

// messages is a stream with a message whenever one is asked for.
type messages struct {
	grpc.ServerStream
	ctx context.Context
}

func (m messages) Context() context.Context { return m.ctx }
func (messages) RecvMsg(any) error          { return nil }

// TestHandlerMayReturnWhileItsGoroutineReceives: the race detector says so.
func TestHandlerMayReturnWhileItsGoroutineReceives(t *testing.T) {
	returning, received := make(chan struct{}), make(chan error, 1)
	opts := grpclimit.Options{PerMessage: true, Cost: func(_ context.Context, _ string, msg any) int {
		if msg != nil {
			<-returning
		}
		return 1
	}}
	l, err := limiter.New(limiter.Config{Limit: hourly(1)})
	require.NoError(t, err)
	intercept := grpclimit.StreamServerInterceptor(l, opts)
	_ = intercept(nil, messages{ctx: t.Context()}, &grpc.StreamServerInfo{}, func(_ any, stream grpc.ServerStream) error {
		go func() { received <- stream.RecvMsg(message()) }()
		close(returning)
		return nil // as it happens, before or after the denial
	})
	require.Equal(t, codes.ResourceExhausted, status.Code(<-received))
	require.NoError(t, l.Close())
}

// TestMessagesOfAFailedStreamStayCounted: or a stream could be failed in time.
func TestMessagesOfAFailedStreamStayCounted(t *testing.T) {
	f := start(t, hourly(10), grpclimit.Options{PerMessage: true, SkipFailed: true})
	last := &pb.StreamingOutputCallRequest{ResponseStatus: failing()}
	answered, err := f.stream(t, message(), message(), last)
	require.Equal(t, codes.NotFound, status.Code(err), "%v", err)
	require.Equal(t, 2, answered)
	if left := f.limiter.Peek(bufconnKey).Remaining; left != 7 {
		t.Errorf("%d tokens left, want 7: three messages stay counted, the opening does not", left)
	}
}

// TestSkippedCallsAreNotLimited, nor their messages.
func TestSkippedCallsAreNotLimited(t *testing.T) {
	var asked []string
	f := start(t, hourly(1), grpclimit.Options{PerMessage: true, Skip: func(_ context.Context, method string) bool {
		asked = append(asked, method)
		return true
	}})
	for range 3 {
		require.NoError(t, f.unary(t, nil))
	}
	_, err := f.stream(t, message(), message())
	require.NoError(t, err)
	require.Equal(t, []string{unaryMethod, unaryMethod, unaryMethod, streamMethod}, asked)
	if stats := f.limiter.Stats(); stats.Allowed+stats.Denied != 0 {
		t.Errorf("%d decisions on skipped calls", stats.Allowed+stats.Denied)
	}
}

func TestKeySeesTheCallsContext(t *testing.T) {
	f := start(t, hourly(1), grpclimit.Options{Key: func(ctx context.Context, method string) string {
		return metadata.ValueFromIncomingContext(ctx, "tenant")[0] + method
	}})
	for _, tenant := range []string{"a", "b"} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "tenant", tenant)
		_, err := f.UnaryCall(ctx, nil)
		require.NoError(t, err)
		stream, err := f.FullDuplexCall(ctx)
		require.NoError(t, err)
		require.NoError(t, stream.CloseSend())
		_, _ = stream.Recv()
		for _, method := range []string{unaryMethod, streamMethod} {
			if left := f.limiter.Peek(tenant + method).Remaining; left != 0 {
				t.Errorf("%q has %d tokens left, want 0", tenant+method, left)
			}
		}
	}
}

// TestCostSeesTheMessage: the request, a message received, or nothing yet.
func TestCostSeesTheMessage(t *testing.T) {
	f := start(t, hourly(100), grpclimit.Options{PerMessage: true, Cost: func(_ context.Context, _ string, msg any) int {
		switch m := msg.(type) {
		case *pb.SimpleRequest:
			return int(m.GetResponseSize())
		case *pb.StreamingOutputCallRequest:
			return len(m.GetPayload().GetBody())
		case nil:
			return 50
		}
		return 100
	}})
	require.NoError(t, f.unary(t, &pb.SimpleRequest{ResponseSize: 5}))
	_, err := f.stream(t, &pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: make([]byte, 20)}})
	require.NoError(t, err)
	if left := f.limiter.Peek(bufconnKey).Remaining; left != 25 {
		t.Errorf("%d tokens left, want 100 − 5 − 50 − 20", left)
	}
}

func TestDeniedReplacesTheError(t *testing.T) {
	var instead error
	f := start(t, hourly(1), grpclimit.Options{Denied: func(_ context.Context, method string, r limiter.Result) error {
		if method != unaryMethod || r.Allowed || r.Limit != hourly(1) {
			t.Errorf("told of %q, %+v", method, r)
		}
		return instead
	}})
	require.NoError(t, f.unary(t, nil))
	instead = status.Error(codes.Unavailable, "elsewhere")
	if got := status.Code(f.unary(t, nil)); got != codes.Unavailable {
		t.Errorf("the call ended with %v, want Unavailable", got)
	}
	instead = nil
	wantDelay(t, f.unary(t, nil), 1)
}

func TestNilLimiterIsRefusedAtOnce(t *testing.T) {
	require.PanicsWithValue(t, "grpclimit: UnaryServerInterceptor: the limiter is nil",
		func() { grpclimit.UnaryServerInterceptor(nil, grpclimit.Options{}) })
	require.PanicsWithValue(t, "grpclimit: StreamServerInterceptor: the limiter is nil",
		func() { grpclimit.StreamServerInterceptor(nil, grpclimit.Options{}) })
}
