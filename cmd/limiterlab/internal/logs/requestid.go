package logs

import "hash/maphash"

// idsKept is the number of request IDs that are remembered.
const idsKept = 4096

// requestIDs are the IDs of the latest requests, as hashes. A log that has an ID
// twice may have two lines for each request.
type requestIDs struct {
	seed  maphash.Seed
	known map[uint64]bool
	ring  []uint64
	next  int // place of the oldest in the ring
}

// repeats reports whether an earlier line has the request ID of the last one.
func (ids *requestIDs) repeats(r *record) bool {
	for _, c := range r.used {
		if r.columns[c].role == requestID && !isNothing(r.values[c]) {
			return ids.add(r.values[c])
		}
	}
	return false
}

// add remembers an ID, and reports whether it was known.
func (ids *requestIDs) add(id []byte) bool {
	if ids.known == nil {
		ids.seed, ids.known = maphash.MakeSeed(), make(map[uint64]bool)
	}
	hash := maphash.Bytes(ids.seed, id)
	if ids.known[hash] {
		return true
	}
	ids.known[hash] = true
	if len(ids.ring) < idsKept {
		ids.ring = append(ids.ring, hash)
		return false
	}
	delete(ids.known, ids.ring[ids.next])
	ids.ring[ids.next] = hash
	ids.next = (ids.next + 1) % idsKept
	return false
}
