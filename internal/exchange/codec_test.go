package exchange

import (
	"encoding/hex"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The wire is fixed: processes of two versions share one Redis during a rollout.
func TestWire(t *testing.T) {
	t.Parallel()
	c := &Chunk{
		Seq: 0x0102, Tau: 500 * time.Millisecond, Floors: true, Leave: true,
		Records: []Record{{Field: "kab", Op: Refund, Left: 9, Delta: 1, Attempts: 2, Age: 3, Ceiling: 4, Limit: Limit{6, 7}, Floor: 5}},
	}
	require.Equal(t, "02"+"03"+"0201000000000000"+"20a1070000000000"+"000e270700000000"+"0087930300000000"+
		"0300"+"6b6162"+"01"+"09"+"0100000000000000"+"0200000000000000"+"0300000000000000"+"0400000000000000"+"0000c040"+"0000e040"+"0500000000000000",
		hex.EncodeToString(c.Encode()))
	c.Floors, c.Leave = false, false
	require.Equal(t, "02"+"00", hex.EncodeToString(c.Encode())[:4])
	require.Len(t, c.Encode(), 34+5+42)

	f := &FleetCall{Silent: time.Millisecond, Forget: time.Second, Remember: 2 * time.Second, Interval: 3 * time.Microsecond, Age: 4 * time.Microsecond, Limit: Limit{6, 7}, Leave: true, Received: 7, Announce: []News{{"kab", true, false, 2, 3, Limit{4, 5}}, {Field: "kc", Held: true, ToGo: 6}}}
	require.Equal(t, "02"+"01"+"e803000000000000"+"40420f0000000000"+"80841e0000000000"+"0300000000000000"+"0400000000000000"+"0700000000000000"+"0000c0400000e040"+
		"03"+"6b6162"+"01"+"0200000000000000"+"0300000000000000"+"00008040"+"0000a040"+
		"02"+"6b63"+"02"+"0600000000000000"+"0000000000000000"+"0000000000000000", hex.EncodeToString(f.Encode()))
}

// TestChunkUsesItsMemoryAgain: neither its request nor its reply makes garbage once it
// has been as large.
func TestChunkUsesItsMemoryAgain(t *testing.T) {
	c := chunk(id(1, 0), 1, Record{Field: "ka"}, Record{Field: "kb"})
	reply := string(make([]byte, chunkReplyHead+2*chunkReplyKey))
	require.Zero(t, testing.AllocsPerRun(10, func() {
		c.Encode()
		if err := c.Reply.Decode(reply, 2); err != nil {
			t.Error(err)
		}
		records := c.Records
		*c = c.Renewed()
		c.Records = append(c.Records, records...)
	}))
}

func TestWireBounds(t *testing.T) {
	t.Parallel()
	c := chunk(id(1, 0), math.MaxInt64, Record{Field: "k", Delta: math.MaxInt64, Attempts: math.MinInt64, Age: math.MinInt64})
	c.Tau = -1
	b := hex.EncodeToString(c.Encode())
	require.Contains(t, b, "0000000000002000"+"0100000000000000", "2^53, and a τ that can be divided by")
	require.Contains(t, b, "0000000000000800"+"000000000000f8ff"+strings.Repeat("0", 48), "2^51, and no negative number but of attempts")
}

func TestReplyIsBelievedOnlyIfSound(t *testing.T) {
	t.Parallel()
	sound := Reply{Status: Lost, Now: epoch, Prev: 7, Expires: epoch + 9, Wait: 3 * time.Second, Keys: []KeyState{{-5, 6}, {LongAgo, 0}, {MaxTime, MaxTime}}}
	var r Reply
	require.NoError(t, r.Decode(encodeReply(sound), 3))
	require.Equal(t, sound, r)
	for name, s := range map[string]string{
		"nothing":       "",
		"short":         encodeReply(sound)[1:],
		"long":          encodeReply(sound) + "\x00",
		"status":        "\x03" + encodeReply(sound)[1:],
		"now":           encodeReply(Reply{Now: -1, Keys: sound.Keys}),
		"far now":       encodeReply(Reply{Now: MaxTime + 1, Keys: sound.Keys}),
		"prev":          encodeReply(Reply{Prev: -1, Keys: sound.Keys}),
		"expires":       encodeReply(Reply{Expires: 2*MaxTime + 1, Keys: sound.Keys}),
		"wait":          encodeReply(Reply{Wait: -time.Second, Keys: sound.Keys}),
		"ToGo":          encodeReply(Reply{Keys: []KeyState{{LongAgo - 1, 0}, {}, {}}}),
		"far ToGo":      encodeReply(Reply{Keys: []KeyState{{MaxTime + 1, 0}, {}, {}}}),
		"demand":        encodeReply(Reply{Keys: []KeyState{{}, {}, {0, -1}}}),
		"absurd demand": encodeReply(Reply{Keys: []KeyState{{}, {0, math.MaxInt64}, {}}}),
	} {
		require.ErrorIs(t, r.Decode(s, 3), ErrReply, name)
	}
}

func TestFleetReplyIsBelievedOnlyIfSound(t *testing.T) {
	t.Parallel()
	other := Limit{12, 3}
	encode := func(ns ...int64) string { return string(other.appendTo(appendInts([]byte{0}, ns...))) }
	var r FleetReply
	heard := []News{{"kab", true, false, 0, 4, Limit{5, 6}}, {"d0123", false, true, MaxTime, MaxTime, Limit{}}}
	said := encodePage(7, heard...)
	require.NoError(t, r.Decode(encode(epoch, 5, 2, 1, 4, 9, 3, 8, 6, 8)+said))
	require.Equal(t, FleetReply{epoch, 5, 2, 1, 4, 3 * time.Microsecond, 9 * time.Microsecond, other, 8, 8, heard, 6}, r)
	require.NoError(t, r.Decode(encode(epoch, 5, 2, 1, 4, 9, 3, 9, 7, 7)+said))
	require.Empty(t, r.News, "heard before, or not to be read yet")
	for name, page := range map[string]string{
		"cut":         said[:len(said)-1],
		"another's":   encodePage(27, heard...),
		"of \\0":      encodePage(7, News{Field: "\x00m"}),
		"of none":     encodePage(7, News{}),
		"over":        encodePage(7, News{Field: "k"}),
		"of nothing":  encodePage(7),
		"from far on": encodePage(-1, heard...),
	} {
		page = string(appendInts(nil, int64(len(page)-8))) + page[8:]
		require.NoError(t, r.Decode(encode(epoch, 5, 2, 1, 4, 9, 3, 8, 6, 8)+page), name)
		require.Subset(t, heard, r.News, "of rubbish on a page no more than what is sound before it: %s", name)
		require.Less(t, len(r.News), 2, name)
	}
	long := encodePage(1, slices.Repeat(heard[:1], 99)...)
	require.NoError(t, r.Decode(encode(epoch, 5, 2, 1, 4, 9, 3, 99, 0, 99)+long))
	require.Len(t, r.News, newsPage, "a page's are so many at most")
	for name, s := range map[string]string{
		"short":        encode(1, 2, 3, 4, 5, 6, 7, 8, 9),
		"status":       "\x01" + encode(epoch, 5, 2, 1, 4, 9, 3, 8, 6, 8)[1:],
		"now":          encode(-1, 5, 2, 1, 4, 9, 3, 8, 6, 8),
		"members":      encode(epoch, MaxMembers+1, 2, 1, 4, 9, 3, 8, 6, 8),
		"silent":       encode(epoch, 5, 6, 1, 4, 9, 3, 8, 6, 8),
		"newer":        encode(epoch, 5, 2, 6, 4, 9, 3, 8, 6, 8),
		"lost":         encode(epoch, 5, 2, 1, MaxMembers+1, 9, 3, 8, 6, 8),
		"intervals":    encode(epoch, 5, 2, 1, 4, 3, 9, 8, 6, 8),
		"latest":       encode(epoch, 5, 2, 1, 4, 9, 3, -1, 0, 0),
		"heard":        encode(epoch, 5, 2, 1, 4, 9, 3, 8, 6, 9),
		"after":        encode(epoch, 5, 2, 1, 4, 9, 3, 8, 8, 6),
		"cut news":     encode(epoch, 5, 2, 1, 4, 9, 3, 8, 6, 8) + said[:len(said)-1],
		"long news":    encode(epoch, 5, 2, 1, 4, 9, 3, 8, 6, 8) + said + "\x09",
		"much news":    encode(epoch, 5, 2, 1, 4, 9, 3, 8, 6, 8) + strings.Repeat(said, MaxReceived/newsPage+1),
		"a short page": encode(epoch, 5, 2, 1, 4, 9, 3, 8, 6, 8) + string(appendInts(nil, 7, 0)),
		"a long page":  encode(epoch, 5, 2, 1, 4, 9, 3, 8, 6, 8) + string(appendInts(nil, pageBytes+1)) + string(make([]byte, pageBytes+1)),
	} {
		require.ErrorIs(t, r.Decode(s), ErrReply, name)
	}
}

// encodePage is a page of news at epoch, in a reply.
func encodePage(first int64, news ...News) string {
	b := appendInts(nil, first)
	for _, n := range news {
		b = append(append(append(b, byte(len(n.Field))), n.Field...), n.flags())
		b = n.Limit.appendTo(appendInts(b, epoch+n.ToGo, n.Demand))
	}
	return string(append(appendInts(nil, int64(len(b))), b...))
}

func encodeReply(r Reply) string {
	b := appendInts([]byte{byte(r.Status)}, r.Now, r.Prev, r.Expires, r.Wait.Microseconds())
	for _, k := range r.Keys {
		b = appendInts(b, k.ToGo, k.Demand)
	}
	return string(b)
}

func FuzzReply(f *testing.F) {
	f.Add(encodeReply(Reply{Status: Duplicate, Now: epoch, Prev: 3, Keys: []KeyState{{5, 6}}}), 1)
	f.Add(encodeReply(Reply{}), 0)
	f.Add("", -1)
	f.Fuzz(func(t *testing.T, s string, n int) {
		n = min(max(n, 0), MaxRecords)
		var r Reply
		if r.Decode(s, n) != nil {
			return
		}
		require.Len(t, r.Keys, n)
		require.Equal(t, s, encodeReply(r), "whatever is believed is what was sent")
		for _, k := range r.Keys {
			require.True(t, k.ToGo >= LongAgo && k.ToGo <= MaxTime && k.Demand >= 0 && k.Demand <= MaxTime)
		}
	})
}

func FuzzFleetReply(f *testing.F) {
	f.Add(string(appendInts([]byte{0}, epoch, 5, 2, 1, 4, 9, 3, 8, 6, 8)) + encodePage(7, News{Field: "kab", ToGo: 5}))
	f.Fuzz(func(t *testing.T, s string) {
		var r FleetReply
		if r.Decode(s) == nil {
			require.True(t, 0 <= r.Silent && r.Silent <= r.Members && r.Members <= MaxMembers && 0 <= r.Lost && r.Lost <= MaxMembers && 0 <= r.Fastest && r.Fastest <= r.Slowest)
			require.True(t, r.Received <= r.Latest && len(r.News) <= MaxReceived)
			for i := range r.News {
				require.NoError(t, r.News[i].check())
				require.True(t, r.News[i].ToGo >= 0 && r.News[i].ToGo <= MaxTime)
			}
		}
	})
}
