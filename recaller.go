package limiter

import (
	"hash/maphash"

	"github.com/seed-e56e777b/limiter/internal/recall"
)

// recaller keeps what evicted keys have taken from coming back as a fresh burst.
type recaller struct {
	table *recall.Table
	seed  maphash.Seed // nobody outside can tell which keys meet in a cell
}

func (r *recaller) hash(field string) uint64 { return maphash.String(r.seed, field) }

// from remembers an entry that goes.
func (r *recaller) from(e *entry, now int64) {
	if e.shared() {
		r.table.Put(r.hash(e.name), e.fullAt(), now)
	}
}

// into gives a new entry what is remembered of its key: no more than an empty
// bucket.
func (r *recaller) into(e *entry, now int64) {
	if tat := r.table.Get(r.hash(e.name)); tat > now && e.shared() {
		e.recalled = min(tat, later(now, seconds(e.burst/e.rate)))
		e.level = e.startLevel(&e.bucket, now)
	}
}

func (r *recaller) forget(field string) { r.table.Forget(r.hash(field)) }

// fullAt is when the entry's bucket is full again, by all that was known of it
// at the last decision. A share's level says little: it is mostly low.
func (e *entry) fullAt() int64 {
	switch e.mode {
	case modeShare:
		return later(max(e.tat, e.at), delay(-e.unreported(e.rate), e.rate))
	case modeStale:
		return later(e.at, delay(e.level-e.capacity, e.refill))
	}
	return max(e.tat, later(e.at, delay(e.level-e.burst, e.rate)))
}
