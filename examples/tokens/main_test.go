package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
)

// TestCostsAreSettled: after a call the tenant has paid for its usage: less than the
// estimate, more, or nothing.
func TestCostsAreSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := limiter.New(limiter.Config{Limit: limiter.Per(10_000, 1000*time.Hour)})
		require.NoError(t, err)
		failed := errors.New("failed")
		for _, tc := range []struct {
			name string
			used int
			err  error
			left int
		}{
			{"less", 200, nil, 9800},
			{"more", 3500, nil, 6300},
			{"nothing", 0, failed, 6300},
			{"failed in the middle", 300, failed, 6000},
			{"into debt", 7000, nil, 0},
		} {
			_, err := ask(t.Context(), l, "t", "prompt", func(context.Context, string) (string, int, error) { return "", tc.used, tc.err })
			if got := l.Peek("t").Remaining; got != tc.left || !errors.Is(err, tc.err) {
				t.Errorf("%s: %d left, %v; want %d, %v", tc.name, got, err, tc.left, tc.err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := ask(ctx, l, "t", "prompt", pretend); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("in debt: %v", err)
		}
		if _, err := ask(ctx, l, "u", strings.Repeat("x", 40_000), pretend); !errors.Is(err, limiter.ErrExceedsBurst) {
			t.Errorf("too long: %v", err)
		}
		if got := l.Peek("u").Remaining; got != 10_000 {
			t.Errorf("what was not asked cost %d", 10_000-got)
		}
	})
}
