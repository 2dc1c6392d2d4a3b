package redisstore

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNamesLieEvenlyInACluster(t *testing.T) {
	t.Parallel()
	require.EqualValues(t, 0x31c3, crc16([]byte("123456789")), "the check value of CRC-16/XMODEM")
	tags := partitionTags()
	require.Len(t, tags, partitions)
	for p, tag := range tags {
		require.Equal(t, p*slots/partitions+slots/partitions/2, int(crc16([]byte(tag))%slots))
		require.True(t, strings.HasPrefix(tag, fmt.Sprintf("%d-", p)))
	}
	require.Equal(t, "app:2:16:{"+tags[3]+"}", partitionNames("app")[3])
	require.Equal(t, "app:2:fleet:{f}", fleetName("app"))
}
