package grpclimit_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/grpclimit"
)

// newLimiter returns a local limiter.
func newLimiter(t *testing.T, lim limiter.Limit) *limiter.Limiter {
	t.Helper()
	l, err := limiter.New(limiter.Config{Limit: lim})
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// partsOf returns Options.Parts of fixed parts.
func partsOf(parts ...limiter.Part) func(context.Context, string, any) []limiter.Part {
	return func(context.Context, string, any) []limiter.Part { return parts }
}

// TestPartsAreOneDecision: a call takes of all limits or of none, and the longest wait of
// those that deny is the time to retry after.
func TestPartsAreOneDecision(t *testing.T) {
	user, tenant := newLimiter(t, hourly(2)), newLimiter(t, limiter.Per(3, 1000*time.Hour))
	var denying [][]string
	f := start(t, hourly(1), grpclimit.Options{
		Parts: partsOf(user.Part("u", 1).Named("user"), tenant.Part("t", 1).Named("tenant")),
		Denied: func(ctx context.Context, _ string, r limiter.Result) error {
			if got, ok := grpclimit.FromContext(ctx); !ok || got != r {
				t.Errorf("the context has %+v, %v; want %+v", got, ok, r)
			}
			var names []string
			for _, p := range grpclimit.PartsFromContext(ctx) {
				if !p.Result().Allowed {
					names = append(names, p.Name())
				}
			}
			denying = append(denying, names)
			return nil
		},
	})
	require.NoError(t, f.unary(t, nil))
	_, err := f.stream(t, message(), message())
	require.NoError(t, err)
	wantDelay(t, f.unary(t, nil), 2)
	require.Equal(t, 1, tenant.Peek("t").Remaining, "the user's denial took nothing of the tenant's")
	require.NoError(t, user.Reset(t.Context(), "u"))
	require.NoError(t, f.unary(t, nil))
	require.True(t, user.Allow("u"))
	_, err = f.stream(t, message())
	d, ok := retryDelay(t, err)
	require.True(t, ok)
	require.InDelta(t, 1000*time.Hour/3, d, float64(time.Hour))
	require.Equal(t, [][]string{{"user"}, {"user", "tenant"}}, denying)
	if s := f.limiter.Stats(); s.Allowed+s.Denied != 0 {
		t.Errorf("%d decisions of a limiter that is not used", s.Allowed+s.Denied)
	}
}

// TestPartsAreGivenBack: all of them, by the outcome, except those that took nothing and
// those that the handler has settled.
func TestPartsAreGivenBack(t *testing.T) {
	failed := &pb.SimpleRequest{ResponseStatus: failing()}
	for name, c := range map[string]struct {
		opts    grpclimit.Options
		req     *pb.SimpleRequest
		settled int // by the handler; 0: not
		a, b    int // left of 10
	}{
		"nothing by default":               {grpclimit.Options{}, failed, 0, 9, 6},
		"SkipFailed: a failed call":        {grpclimit.Options{SkipFailed: true}, failed, 0, 10, 10},
		"SkipFailed: a successful one":     {grpclimit.Options{SkipFailed: true}, nil, 0, 9, 6},
		"SkipFailed: a panic":              {grpclimit.Options{SkipFailed: true}, &pb.SimpleRequest{FillUsername: true}, 0, 10, 10},
		"SkipSuccessful: a successful one": {grpclimit.Options{SkipSuccessful: true}, nil, 0, 10, 10},
		"a settled part keeps its cost":    {grpclimit.Options{SkipFailed: true}, failed, 7, 10, 3},
		"a part is settled to less":        {grpclimit.Options{}, nil, 1, 9, 9},
	} {
		t.Run(name, func(t *testing.T) {
			l, none := newLimiter(t, limiter.Per(10, 1000*time.Hour)), newLimiter(t, limiter.Limit{Rate: rate.Inf})
			trial, err := limiter.New(limiter.Config{Limit: hourly(1), Shadow: func(string) bool { return true }})
			require.NoError(t, err)
			require.True(t, trial.Allow("k"))
			c.opts.Parts = partsOf(l.Part("a", 1), l.Part("b", 4), none.Part("a", 9), trial.Part("k", 1))
			f := start(t, hourly(1), c.opts)
			f.service.see = func(ctx context.Context) {
				if c.settled > 0 {
					grpclimit.PartsFromContext(ctx)[1].Settle(c.settled)
				}
			}
			_ = f.unary(t, c.req)
			require.Equal(t, c.a, l.Peek("a").Remaining)
			require.Equal(t, c.b, l.Peek("b").Remaining)
			require.Zero(t, trial.Peek("k").Remaining)
		})
	}
}

// TestPartsOfMessages: each message is a decision on the parts that it has, and the
// stream's context keeps the decision on the opening.
func TestPartsOfMessages(t *testing.T) {
	streams, bytes := newLimiter(t, hourly(9)), newLimiter(t, hourly(50))
	f := start(t, hourly(1), grpclimit.Options{PerMessage: true, Parts: func(_ context.Context, method string, msg any) []limiter.Part {
		if method != streamMethod {
			t.Errorf("parts of %q", method)
		}
		if m, ok := msg.(*pb.StreamingOutputCallRequest); ok {
			return []limiter.Part{bytes.Part("k", len(m.GetPayload().GetBody()))}
		}
		return []limiter.Part{streams.Part("k", 1), bytes.Part("k", 0)}
	}})
	f.service.see = func(ctx context.Context) {
		r, ok := grpclimit.FromContext(ctx)
		if parts := grpclimit.PartsFromContext(ctx); !ok || r.Limit != hourly(9) || len(parts) != 2 {
			t.Errorf("the stream has %+v, %v, %d parts", r, ok, len(parts))
		}
	}
	large := &pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: make([]byte, 20)}}
	answered, err := f.stream(t, large, large, large)
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.Equal(t, 2, answered)
	require.Equal(t, 8, streams.Peek("k").Remaining)
	require.Equal(t, 10, bytes.Peek("k").Remaining)
}

// TestHandlersGetTheDecision: also without Parts, and not if the call was skipped.
func TestHandlersGetTheDecision(t *testing.T) {
	skip := false
	f := start(t, hourly(5), grpclimit.Options{Skip: func(context.Context, string) bool { return skip }, PerMessage: true})
	left := 4
	f.service.see = func(ctx context.Context) {
		r, ok := grpclimit.FromContext(ctx)
		if ok == skip || grpclimit.PartsFromContext(ctx) != nil {
			t.Errorf("skipped is %v, and there is a decision: %v", skip, ok)
		}
		if ok {
			if !r.Allowed || r.Remaining != left {
				t.Errorf("got %+v, want %d left", r, left)
			}
			left--
		}
	}
	require.NoError(t, f.unary(t, nil))
	_, err := f.stream(t)
	require.NoError(t, err)
	skip = true
	require.NoError(t, f.unary(t, nil))
	_, err = f.stream(t)
	require.NoError(t, err)
	require.Equal(t, 2, left)
}

func TestPartsAreInPlaceOfKeyAndCost(t *testing.T) {
	l := newLimiter(t, hourly(1))
	for _, opts := range []grpclimit.Options{
		{Parts: partsOf(), Key: func(context.Context, string) string { return "" }},
		{Parts: partsOf(), Cost: func(context.Context, string, any) int { return 1 }},
	} {
		const reason = ": Options.Parts is in place of Key and Cost: leave these out"
		require.PanicsWithValue(t, "grpclimit: UnaryServerInterceptor"+reason, func() { grpclimit.UnaryServerInterceptor(l, opts) })
		require.PanicsWithValue(t, "grpclimit: StreamServerInterceptor"+reason, func() { grpclimit.StreamServerInterceptor(l, opts) })
	}
	require.NotNil(t, grpclimit.UnaryServerInterceptor(nil, grpclimit.Options{Parts: partsOf()}))
}
