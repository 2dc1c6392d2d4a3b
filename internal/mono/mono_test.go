package mono

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSumsStopAtNever(t *testing.T) {
	require.Equal(t, int64(7), Add(5, 2))
	require.Equal(t, int64(3), Add(5, -2))
	require.Equal(t, Never, Add(Never-1, 1))
	require.Equal(t, Never, Add(5, math.MaxInt64))
	require.Equal(t, Never, Add(Never, time.Hour))
}

func TestSecondsHaveABound(t *testing.T) {
	require.Equal(t, 1500*time.Millisecond, Seconds(1.5))
	require.Equal(t, time.Duration(Never), Seconds(1e12))
	require.Equal(t, time.Duration(Never), Seconds(math.Inf(1)))
}

func TestElapsedRoundsAsSecondsDoes(t *testing.T) {
	for _, d := range []time.Duration{0, 1, 999_999_999, time.Second, 1_000_000_007, 1 << 61} {
		require.Zero(t, d.Seconds()-Elapsed(int64(d)), d)
	}
}

func TestNowIsNeverNone(t *testing.T) {
	base := time.Now()
	require.GreaterOrEqual(t, Now(base), int64(time.Second))
}

func TestSinceIsFromTheBase(t *testing.T) {
	require.Equal(t, time.Minute, Since(int64(61*time.Second)))
	require.Zero(t, Since(int64(time.Second)-1))
}
