package limiter_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
)

// TestKeySecretIsChecked: New rejects an empty or short secret, so that a
// secret lost in configuration is an error.
func TestKeySecretIsChecked(t *testing.T) {
	limit := limiter.Per(100, time.Hour)
	for _, secret := range [][]byte{{}, []byte("short"), make([]byte, 15)} {
		_, err := limiter.New(limiter.Config{Limit: limit, KeySecret: secret})
		require.ErrorContains(t, err, "Config.KeySecret")
	}
	_, err := limiter.New(limiter.Config{Limit: limit, KeySecret: make([]byte, 16)})
	require.NoError(t, err)
}

// TestKeySecretCostsResidentKeysNothing: a decision on a key in memory
// computes no digest and allocates nothing.
func TestKeySecretCostsResidentKeysNothing(t *testing.T) {
	l, err := limiter.New(limiter.Config{Limit: limiter.Limit{Rate: 1e9, Burst: 1e6}, KeySecret: make([]byte, 32)})
	require.NoError(t, err)
	keys := []string{"alice@example.com", strings.Repeat("long alice@example.com ", 5)}
	for i := range 40 {
		keys = append(keys, fmt.Sprint("alice@example.com/", i))
	}
	for _, key := range keys {
		l.Allow(key)
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, key := range keys {
			l.Allow(key)
		}
	}); n != 0 {
		t.Errorf("a round of %d keys allocates %v times", len(keys), n)
	}
}
