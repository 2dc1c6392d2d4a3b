package grpclimit_test

import (
	"context"
	"strconv"
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

// pushback is the trailer of a call that is denied by a limit with nothing left.
func pushback(t *testing.T, lim limiter.Limit, opts grpclimit.Options) []string {
	t.Helper()
	f := start(t, lim, opts)
	f.limiter.AllowN(bufconnKey, lim.Burst)
	var unary metadata.MD
	_, err := f.UnaryCall(t.Context(), nil, grpc.Trailer(&unary))
	require.Error(t, err)
	stream, err := f.FullDuplexCall(t.Context())
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Error(t, err)
	require.Len(t, stream.Trailer()["grpc-retry-pushback-ms"], 1, "a stream has it too")
	return unary["grpc-retry-pushback-ms"]
}

func TestDenialPushesBack(t *testing.T) {
	custom := func(context.Context, string, limiter.Result) error { return status.Error(codes.Unavailable, "later") }
	for name, c := range map[string]struct {
		lim        limiter.Limit
		opts       grpclimit.Options
		least, max int
	}{
		"the time to the next token":    {limiter.Per(1, time.Hour), grpclimit.Options{}, 3_500_000, 3_600_000},
		"with an error of your own too": {limiter.Per(1, time.Hour), grpclimit.Options{Denied: custom}, 3_500_000, 3_600_000},
		"within the range of clients":   {limiter.Per(1, 10000*time.Hour), grpclimit.Options{}, 1<<31 - 1, 1<<31 - 1},
		"never, for no wait helps":      {limiter.Per(1, time.Hour), grpclimit.Options{Cost: func(context.Context, string, any) int { return 2 }}, -1, -1},
	} {
		got := pushback(t, c.lim, c.opts)
		require.Len(t, got, 1, name)
		millis, err := strconv.Atoi(got[0])
		require.NoError(t, err, name)
		if millis < c.least || millis > c.max {
			t.Errorf("%s: %d ms, want %d to %d", name, millis, c.least, c.max)
		}
	}
}

// retries is a service config whose backoff is far too short: a retry that does not wait
// as the server says is denied again.
func retries(attempts int) grpc.DialOption {
	return grpc.WithDefaultServiceConfig(`{"methodConfig": [{"name": [{}], "retryPolicy": {
		"maxAttempts": ` + strconv.Itoa(attempts) + `, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1,
		"retryableStatusCodes": ["RESOURCE_EXHAUSTED"]
	}}]}`)
}

// TestRetryPolicyWaitsAsTold: a client of grpc-go with a retry policy repeats each denied
// call once, after the time that the server gives, and is admitted.
func TestRetryPolicyWaitsAsTold(t *testing.T) {
	lim := limiter.Per(1, 200*time.Millisecond)
	f := startWith(t, limiter.Config{Limit: lim}, grpclimit.Options{}, retries(2))
	begin := time.Now()
	for range 3 {
		require.NoError(t, f.unary(t, nil))
	}
	_, err := f.stream(t)
	require.NoError(t, err, "a stream is repeated too")
	require.GreaterOrEqual(t, time.Since(begin), 3*200*time.Millisecond)
	if s := f.limiter.Stats(); s.Allowed != 4 || s.Denied > 3 {
		t.Errorf("%d calls were admitted and %d denied, want 4 and at most 3", s.Allowed, s.Denied)
	}
}

// TestRetryPolicyGivesUpWhereNoWaitHelps: at the first denial.
func TestRetryPolicyGivesUpWhereNoWaitHelps(t *testing.T) {
	opts := grpclimit.Options{Cost: func(context.Context, string, any) int { return 2 }}
	f := startWith(t, limiter.Config{Limit: hourly(1)}, opts, retries(5))
	require.Equal(t, codes.ResourceExhausted, status.Code(f.unary(t, &pb.SimpleRequest{})))
	require.EqualValues(t, 1, f.limiter.Stats().Denied)
}
