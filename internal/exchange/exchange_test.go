package exchange

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// epoch is when settable clocks begin, in microseconds.
const epoch = 1_800_000_000_000_000

// twin is a Memory with a settable clock.
type twin struct {
	*Memory
	time int64
}

func newTwin(partitions int) *twin {
	tw := &twin{time: epoch}
	tw.Memory = NewMemory(partitions, func() time.Time { return time.UnixMicro(tw.time) })
	return tw
}

// id is the ID of a lane.
func id(process, lane byte) ID { return ID{0: process, 8: lane} }

// charge is a chunk of one charge on partition 0.
func charge(id ID, seq int64, delta int64) *Chunk {
	return chunk(id, seq, Record{Field: "kx", Delta: delta})
}

func chunk(id ID, seq int64, records ...Record) *Chunk {
	return &Chunk{ID: id, Seq: seq, Tau: 500 * time.Millisecond, Records: records}
}

// one exchanges one chunk, which must succeed, and returns its reply.
func one(t testing.TB, e Exchanger, c *Chunk) Reply {
	t.Helper()
	e.Exchange(t.Context(), nil, []*Chunk{c})
	require.NoError(t, c.Err)
	return c.Reply
}

// callFleet makes a fleet call, which must succeed.
func callFleet(t testing.TB, e Exchanger, f FleetCall) FleetReply {
	t.Helper()
	e.Exchange(t.Context(), &f, nil)
	require.NoError(t, f.Err)
	return f.Reply
}
