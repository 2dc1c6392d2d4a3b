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
		for tenant, prompt := range map[string]string{"t": "in debt", "u": strings.Repeat("too long ", 5000)} {
			_, err := ask(t.Context(), l, tenant, prompt, func(context.Context, string) (string, int, error) {
				t.Errorf("%.8s was asked of the model", prompt)
				return "", 0, nil
			})
			require.Error(t, err)
		}
		if got := l.Peek("u").Remaining; got != 10_000 {
			t.Errorf("a denied prompt has cost %d", 10_000-got)
		}
	})
}
