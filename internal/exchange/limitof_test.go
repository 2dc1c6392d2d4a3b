package exchange

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLimitOf(t *testing.T) {
	require.Equal(t, Limit{Full: 6_000_000, Burst: 10}, LimitOf(10./6, 10))
	require.Equal(t, Limit{Full: 1, Burst: 1}, LimitOf(1e9, 1), "a bucket takes some time to fill,")
	require.Equal(t, Limit{Full: MaxSpan, Burst: 1 << 30}, LimitOf(math.SmallestNonzeroFloat64, 1<<30), "and no longer than can be sent")
}
