package redisstore

import (
	"fmt"
	"strconv"
	"sync"
)

// partitions is the number of partitions, for every kind of client. A wrapped client
// may hide that it is a Cluster's, and processes with different numbers would not
// share their keys. Few partitions are cheap on one server. On a Cluster, some
// masters carry up to half more than the mean.
const partitions = 16

const slots = 16384 // hash slots of a Redis Cluster

// layout is the version of the data in Redis. It is part of every name, so that
// processes of different layouts never read each other's data.
const layout = "2"

// fleetName returns the name of the fleet's hash.
func fleetName(prefix string) string { return prefix + ":" + layout + ":fleet:{f}" }

// partitionNames returns the names of the partitions' hashes.
func partitionNames(prefix string) []string {
	names := make([]string, partitions)
	for p, tag := range partitionTags() {
		names[p] = fmt.Sprintf("%s:%s:%d:{%s}", prefix, layout, partitions, tag)
	}
	return names
}

// partitionTags returns hash tags whose slots lie evenly apart, so that masters with
// equal ranges of slots hold about equal numbers of partitions. The bare numbers
// would leave some masters with twice the mean. The search takes some 5 ms, once.
var partitionTags = sync.OnceValue(func() []string {
	tags := make([]string, partitions)
	for p := range tags {
		tags[p] = findTag(p, uint16((2*p+1)*slots/(2*partitions)))
	}
	return tags
})

// findTag returns the tag p-i of the slot with the smallest i; one in 16384 is in it.
func findTag(p int, slot uint16) string {
	stem := strconv.AppendInt(nil, int64(p), 10)
	stem = append(stem, '-')
	for i := int64(0); ; i++ {
		if tag := strconv.AppendInt(stem, i, 10); crc16(tag)%slots == slot {
			return string(tag)
		}
	}
}

// crc16 returns the CRC-16/XMODEM by which a Redis Cluster selects slots.
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
