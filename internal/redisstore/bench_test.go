package redisstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// BenchmarkExchange measures the cost of an exchange in Redis, per key, for keys of 18
// bytes: CPU time, bytes on the wire and memory.
func BenchmarkExchange(b *testing.B) {
	for _, records := range []int{1, 16, exchange.MaxRecords} {
		b.Run(fmt.Sprintf("keys=%d", records), func(b *testing.B) { benchmarkExchange(b, records) })
	}
}

func benchmarkExchange(b *testing.B, records int) {
	server, client := newReal(b, redisserver.Options{})
	rdb := server.Client()
	closeLater(b, rdb)
	chunks := benchChunks(client.Partitions(), records)
	round := func() {
		for _, c := range chunks {
			c.Seq++
		}
		client.Exchange(b.Context(), nil, chunks)
		for _, c := range chunks {
			require.NoError(b, c.Err)
		}
	}
	round()
	report := measure(b, rdb, float64(len(chunks)*records), "key", round)
	report("bytes-in", "total_net_input_bytes")
	report("bytes-out", "total_net_output_bytes")
	memory, err := rdb.MemoryUsage(context.Background(), client.names[0], 0).Result()
	require.NoError(b, err)
	b.ReportMetric(float64(memory)/float64(records), "redis-bytes/key")
}

func benchChunks(partitions, records int) []*exchange.Chunk {
	chunks := make([]*exchange.Chunk, partitions)
	for p := range chunks {
		c := chunk(id(1, 0), 0)
		c.Partition = p
		for i := range records {
			c.Records = append(c.Records, exchange.Record{
				Field: fmt.Sprintf("kcustomer:%08d", i), Delta: 1000, Attempts: 1500, Age: 50_000, Limit: lim(second, 100),
			})
		}
		chunks[p] = c
	}
	return chunks
}

// BenchmarkFleet measures the fleet call, among so many members.
func BenchmarkFleet(b *testing.B) {
	for _, members := range []int{10, 1000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			server, client := newReal(b, redisserver.Options{})
			rdb := server.Client()
			closeLater(b, rdb)
			const perBatch = 32
			f := exchange.FleetCall{Silent: time.Second, Forget: time.Minute}
			next := func() {
				for range perBatch {
					binary.LittleEndian.PutUint16(f.Process[:], uint16((int(binary.LittleEndian.Uint16(f.Process[:]))+1)%members))
					callFleet(b, client, f)
				}
			}
			for range members/perBatch + 1 {
				next()
			}
			measure(b, rdb, perBatch, "call", next)
		})
	}
}

// BenchmarkNews measures fleet calls on a hash full of news: one that receives, or
// announces, as much as a call may, and one that counts the members too.
func BenchmarkNews(b *testing.B) {
	server, client := newReal(b, redisserver.Options{})
	rdb := server.Client()
	closeLater(b, rdb)
	f := exchange.FleetCall{Silent: time.Second, Forget: time.Minute}
	tell := f
	for i := range exchange.MaxAnnounced {
		tell.Announce = append(tell.Announce, exchange.News{Field: fmt.Sprintf("kcustomer:%08d", i), ToGo: exchange.MaxSpan, Demand: 1000})
	}
	var latest int64
	for range exchange.NewsKept/exchange.MaxAnnounced + 1 {
		latest = callFleet(b, client, tell).Latest
	}
	memory, err := rdb.MemoryUsage(context.Background(), client.fleet, 0).Result()
	require.NoError(b, err)
	f.Received, tell.Received = latest, latest+1<<20 // not ours to hear
	f.Process[0] = 1
	leave := f
	leave.Leave = true
	for name, c := range map[string]exchange.FleetCall{"none": f, "hear": {Silent: time.Second, Forget: time.Minute}, "tell": tell, "count": leave} {
		b.Run(name, func(b *testing.B) {
			report := measure(b, rdb, 1, "call", func() { tell.Received = callFleet(b, client, c).Latest })
			report("bytes-out", "total_net_output_bytes")
			b.ReportMetric(float64(memory), "redis-bytes")
		})
	}
}

// measure runs the loop and reports the server's CPU time per unit of work. What
// it returns reports the growth of another of INFO's numbers.
func measure(b *testing.B, rdb *redis.Client, work float64, unit string, do func()) func(metric, name string) {
	before := effort(b, rdb)
	for b.Loop() {
		do()
	}
	after, total := effort(b, rdb), work*float64(b.N)
	report := func(metric, name string) {
		b.ReportMetric((after[name]-before[name])/total, metric+"/"+unit)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/total, "wall-µs/"+unit)
	report("redis-µs", "used_cpu_main_thread")
	return report
}

// effort returns the numbers of the server's INFO, and the CPU time of its main thread
// in microseconds.
func effort(b *testing.B, rdb *redis.Client) map[string]float64 {
	numbers := map[string]float64{}
	for _, section := range []string{"cpu", "stats"} {
		info, err := rdb.Info(context.Background(), section).Result()
		require.NoError(b, err)
		for line := range strings.SplitSeq(info, "\r\n") {
			name, value, _ := strings.Cut(line, ":")
			if n, err := strconv.ParseFloat(value, 64); err == nil {
				numbers[name] = n
			}
		}
	}
	numbers["used_cpu_main_thread"] = 1e6 * (numbers["used_cpu_user_main_thread"] + numbers["used_cpu_sys_main_thread"])
	return numbers
}

// BenchmarkMemory measures the cost of an exchange in a simulation.
func BenchmarkMemory(b *testing.B) {
	tw := newTwin()
	c := chunk(id(1, 0), 0, exchange.Record{Field: "kcustomer:00000001", Delta: 1000, Attempts: 1500})
	f := &exchange.FleetCall{Process: [8]byte{1}, Silent: time.Second, Forget: time.Minute}
	b.ReportAllocs()
	for b.Loop() {
		c.Seq++
		tw.time += 1000
		tw.Exchange(b.Context(), f, []*exchange.Chunk{c})
	}
}

// BenchmarkSweep measures the cost in Redis of a sweep, per field; a pass over all
// fields takes 400 s.
func BenchmarkSweep(b *testing.B) {
	server, client := newReal(b, redisserver.Options{})
	rdb := server.Client()
	closeLater(b, rdb)
	name, seq := client.names[0], int64(0)
	call := func(records ...exchange.Record) {
		seq++
		one(b, client, chunk(id(1, 0), seq, records...))
	}
	for i := 0; i < 100_000; i += exchange.MaxRecords {
		var records []exchange.Record
		for j := range exchange.MaxRecords {
			records = append(records, exchange.Record{Field: fmt.Sprintf("kcustomer:%08d", i+j), Delta: 3600 * second, Limit: lim(second, 100)})
		}
		call(records...)
	}
	measure(b, rdb, 600*100_000/(1<<17), "field", func() {
		now := time.Now().UnixMicro()
		meta := packed(seq*1000, now/1000+60_000, now, 0, 1, 0, 1<<30)
		require.NoError(b, rdb.HSet(b.Context(), name, "\x00m", append(meta, make([]byte, 16)...)).Err())
		call()
	})
}
