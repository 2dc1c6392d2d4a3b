package fleetsim

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/longtest"
)

// footprint is the resources of a program.
type footprint struct {
	goroutines int
	heap       uint64 // bytes that are alive
}

func measure() footprint {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // frees the memory that the first has finalized
	runtime.ReadMemStats(&m)
	return footprint{runtime.NumGoroutine(), m.HeapAlloc}
}

func (f footprint) String() string {
	return fmt.Sprintf("%d goroutines, %.2f MB", f.goroutines, float64(f.heap)/1e6)
}

// most is the larger of both, each for itself.
func (f footprint) most(g footprint) footprint {
	return footprint{max(f.goroutines, g.goroutines), max(f.heap, g.heap)}
}

// outgrows reports whether f holds more than g, beyond the calls that may be under way
// and the noise of the GC.
func (f footprint) outgrows(g footprint) bool {
	return f.goroutines > g.goroutines+3 || f.heap > g.heap+g.heap/10+512<<10
}

// churn asks for keys, ten times as many as fit, in turns of a stride, and
// returns the most that was held meanwhile.
func churn(f *Fleet, d time.Duration) (most footprint) {
	const every, maxKeys, samples = 60 * time.Millisecond, 256, 3
	keys := make([]string, 10*maxKeys)
	for i := range keys {
		keys[i] = fmt.Sprintf("user:%08d", i)
	}
	for range samples {
		for i := range int(d / every / samples) {
			for j, m := range f.Members {
				m.Allow(keys[(i*7919+j*13)%len(keys)])
			}
			time.Sleep(every)
		}
		most = most.most(measure())
	}
	return most
}

// fillNews announces as much news as is kept.
func fillNews(t *testing.T, f *Fleet) {
	for i := range exchange.NewsKept / exchange.MaxAnnounced {
		call := &exchange.FleetCall{Process: [8]byte{255}, Silent: time.Second, Forget: time.Minute, Interval: 100 * time.Millisecond, Leave: true}
		for j := range exchange.MaxAnnounced {
			call.Announce = append(call.Announce, exchange.News{Field: fmt.Sprint("kother", i, "-", j), ToGo: time.Hour.Microseconds()})
		}
		f.State.Exchange(t.Context(), call, nil)
		if call.Err != nil {
			t.Fatal(call.Err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestNothingGrows: neither goroutines nor memory grow with time, with the number of
// keys, or with how long Redis is away: twenty minutes (at length an hour, with -short four) of a
// fleet whose keys are ten times as many as it holds, through outages that grow from 20 s.
func TestNothingGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(t, 3, limiter.Config{Limit: limiter.Per(5, time.Minute), MaxKeys: 256, Processes: 3})
		defer f.Close()
		var up, down []footprint
		begin, minute := time.Now(), longtest.Choose(20*time.Second, time.Minute, time.Minute)
		fillNews(t, f)
		for i := range 10_000 { // fills the counts of denials by key
			for _, m := range f.Members {
				m.AllowN(fmt.Sprint("denied", i), 6)
			}
		}
		for away := 20 * time.Second; time.Since(begin) < longtest.Choose(2*time.Minute, 20*time.Minute, time.Hour); away *= 2 {
			churn(f, 2*minute)
			f.WantState(limiter.Synced)
			up = append(up, churn(f, minute))
			f.Down.Store(true)
			churn(f, minute) // fills all that an outage fills
			f.WantState(limiter.Degraded)
			down = append(down, churn(f, away))
			f.Down.Store(false)
		}
		for what, list := range map[string][]footprint{"with Redis": up, "without": down} {
			first, last := list[0], list[len(list)-1]
			t.Logf("%s: %v in the first of %d stretches, %v in the last, %v later", what, first, len(list), last, time.Since(begin).Round(time.Minute))
			if last.outgrows(first) {
				t.Errorf("%s: %v in the first stretch, %v in the last", what, first, last)
			}
		}
	})
}
