package redisstore

import (
	"fmt"
	"strconv"
	"sync"
)

// partitions is their number, with whatever client: one that is wrapped does not tell
// that it is a Cluster's, and processes that disagree would not share their keys. Few
// are cheap where there is one server; of a Cluster's masters, some carry up to a half
// more than the mean.
const partitions = 16

const slots = 16384 // hash slots of a Redis Cluster

// layout is the version of what is kept in Redis. It is part of every name, so that
// processes of different layouts don't take each other's state for rubbish.
const layout = "2"

// fleetName is the name of the fleet's hash.
func fleetName(prefix string) string { return prefix + ":" + layout + ":fleet:{f}" }

// partitionNames are the names of the hashes.
func partitionNames(prefix string) []string {
	names := make([]string, partitions)
	for p, tag := range partitionTags() {
		names[p] = fmt.Sprintf("%s:%s:%d:{%s}", prefix, layout, partitions, tag)
	}
	return names
}

// partitionTags are hash tags whose slots lie evenly apart, so that masters with
// equal ranges of slots hold about equal numbers of partitions. Hashing the bare
// numbers leaves some masters with twice the mean. They take some 5 ms to find: once is
// enough.
var partitionTags = sync.OnceValue(func() []string {
	tags := make([]string, partitions)
	for p := range tags {
		tags[p] = findTag(p, uint16((2*p+1)*slots/(2*partitions)))
	}
	return tags
})

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
