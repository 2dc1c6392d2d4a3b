package mono

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSumsStopAtNever(t *testing.T) {
	require.Equal(t, Time(7), Time(5).Add(2))
	require.Equal(t, Time(3), Time(5).Add(-2))
	require.Equal(t, Never, (Never - 1).Add(1))
	require.Equal(t, Never, Time(5).Add(math.MaxInt64))
	require.Equal(t, Never, Never.Add(time.Hour))
}

func TestSub(t *testing.T) {
	require.Equal(t, 3*time.Nanosecond, Time(5).Sub(2))
	require.Equal(t, -3*time.Nanosecond, Time(2).Sub(5))
	require.Equal(t, time.Hour, Time(5).Add(time.Hour).Sub(5))
	require.Equal(t, time.Duration(Never), Never.Sub(0))
	require.Equal(t, -time.Duration(Never), Time(0).Sub(Never))
}

func TestSecondsHaveABound(t *testing.T) {
	require.Equal(t, 1500*time.Millisecond, Seconds(1.5))
	require.Equal(t, time.Duration(Never), Seconds(1e12))
	require.Equal(t, time.Duration(Never), Seconds(math.Inf(1)))
}

func TestElapsedRoundsAsSecondsDoes(t *testing.T) {
	for _, d := range []time.Duration{0, 1, 999_999_999, time.Second, 1_000_000_007, 1 << 61} {
		require.Zero(t, d.Seconds()-Elapsed(d), d)
	}
}

func TestNowIsNeverNone(t *testing.T) {
	base := time.Now()
	require.GreaterOrEqual(t, Now(base), Time(time.Second))
}

func TestSinceIsFromTheBase(t *testing.T) {
	require.Equal(t, time.Minute, Time(61*time.Second).SinceBase())
	require.Zero(t, (Time(time.Second) - 1).SinceBase())
}
