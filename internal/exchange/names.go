package exchange

import (
	"fmt"
	"strconv"
	"sync"
)

// Numbers of partitions. Few are cheap where there is one server; a Cluster
// needs more, or its masters would carry unequal parts. The number is part of
// every name: processes that disagree on it must not mix their keys.
const (
	partitions        = 16
	partitionsCluster = 64
)

const slots = 16384 // hash slots of a Redis Cluster

// layout is the version of what is kept in Redis. It is part of every name, so that
// processes of different layouts don't take each other's state for rubbish.
const layout = "2"

// fleetName is the name of the fleet's hash.
func fleetName(prefix string) string { return prefix + ":" + layout + ":fleet:{f}" }

// partitionNames are the names of n hashes.
func partitionNames(prefix string, n int) []string {
	names := make([]string, n)
	for p, tag := range partitionTags(n) {
		names[p] = fmt.Sprintf("%s:%s:%d:{%s}", prefix, layout, n, tag)
	}
	return names
}

// partitionTags are hash tags whose slots lie evenly apart, so that masters with
// equal ranges of slots hold equal numbers of partitions. Hashing the bare
// numbers leaves some masters with twice the mean.
func partitionTags(n int) []string { return tags[n]() }

// tags take some 5 and 25 ms to find: once is enough.
var tags = map[int]func() []string{
	partitions:        sync.OnceValue(func() []string { return findTags(partitions) }),
	partitionsCluster: sync.OnceValue(func() []string { return findTags(partitionsCluster) }),
}

func findTags(n int) []string {
	tags := make([]string, n)
	for p := range tags {
		tags[p] = findTag(p, uint16((2*p+1)*slots/(2*n)))
	}
	return tags
}

// findTag finds the smallest i for which p-i is in the slot; one in 16384 is.
func findTag(p int, slot uint16) string {
	stem := strconv.AppendInt(nil, int64(p), 10)
	stem = append(stem, '-')
	for i := int64(0); ; i++ {
		if tag := strconv.AppendInt(stem, i, 10); crc16(tag)%slots == slot {
			return string(tag)
		}
	}
}

// crc16 is CRC-16/XMODEM, which Redis Cluster takes for slots.
func crc16(b []byte) (crc uint16) {
	for _, c := range b {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^c]
	}
	return crc
}

var crcTable = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			carry := crc >> 15
			crc = crc<<1 ^ carry*0x1021
		}
		table[i] = crc
	}
	return table
}()
