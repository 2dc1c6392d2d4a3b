package suite_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

var soakFor = flag.Duration("soak", 0, "soak a fleet for so `long` in front of a Redis that is killed and frozen again and again")

const (
	soakProcesses = 3
	soakMaxKeys   = 4096
	soakFault     = 15 * time.Second // at most; as long is Redis there before the next
)

// holding is the resources of this program.
type holding struct {
	goroutines, sockets int
	heap, resident      uint64 // bytes
}

func (h holding) String() string {
	return fmt.Sprintf("RSS %.1f MB, heap %.1f MB, %d goroutines, %d sockets", float64(h.resident)/1e6, float64(h.heap)/1e6, h.goroutines, h.sockets)
}

func held(t *testing.T) holding {
	t.Helper()
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools hold goes with the second
	runtime.ReadMemStats(&m)
	return holding{runtime.NumGoroutine(), openSockets(t), m.HeapAlloc, residentSize(t)}
}

// openSockets and residentSize ask /proc; elsewhere they are 0.
func openSockets(t *testing.T) (n int) {
	t.Helper()
	const folder = "/proc/self/fd"
	list, err := os.ReadDir(folder)
	if os.IsNotExist(err) {
		return 0
	}
	require.NoError(t, err)
	for _, e := range list {
		if to, _ := os.Readlink(folder + "/" + e.Name()); strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

func residentSize(t *testing.T) uint64 {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if os.IsNotExist(err) {
		return 0
	}
	require.NoError(t, err)
	var size, resident uint64
	_, err = fmt.Sscan(string(data), &size, &resident)
	require.NoError(t, err)
	return resident * uint64(os.Getpagesize())
}

// TestSoak keeps a fleet busy with far more keys than it holds while its Redis
// is killed, emptied and frozen, and prints its memory: `make soak`.
func TestSoak(t *testing.T) {
	if *soakFor == 0 {
		t.Skip("takes long: -soak 10m")
	}
	logging.Disable() // a client that can't dial is no news here
	s := servertest.Server(t, redisserver.Options{AppendOnly: true})
	var fleet []*limiter.Limiter
	for range soakProcesses {
		fleet = append(fleet, start(t, tuned(s.Addr()), limiter.Config{Limit: limiter.Per(5, time.Minute), MaxKeys: soakMaxKeys, Processes: soakProcesses}))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	for i, l := range fleet {
		busy.Go(func() { askAround(ctx, l, uint64(i)) })
	}
	var list []holding
	note := func(when string) {
		eventually(t, "all are in step", func() bool {
			return !slices.ContainsFunc(fleet, func(l *limiter.Limiter) bool { return l.Status().State != limiter.Synced })
		})
		list = append(list, held(t))
		fmt.Printf("%s %-7s %v\n", time.Now().Format(time.TimeOnly), when, list[len(list)-1])
	}
	eventually(t, "every process is full", func() bool {
		return !slices.ContainsFunc(fleet, func(l *limiter.Limiter) bool { return l.Stats().Evicted < soakMaxKeys })
	})
	note("start")
	faults := 0
	for _, when := range []string{"middle", "end"} {
		for begin := time.Now(); time.Since(begin) < *soakFor/2; faults++ {
			soakOnce(t, s, faults)
		}
		note(when)
	}
	cancel()
	busy.Wait()
	for i, l := range fleet {
		fmt.Printf("process %d: %+v\n", i+1, l.Stats())
	}
	fmt.Printf("%d faults\n", faults)
	middle, end := list[1], list[2] // by the middle all is as large as it gets
	if end.goroutines > middle.goroutines+2*soakProcesses || end.sockets > middle.sockets+2*soakProcesses || end.heap > middle.heap+middle.heap/10+1<<20 {
		t.Errorf("%v in the middle, %v at the end", middle, end)
	}
}

// askAround asks for keys, thirty times as many as fit, about a thousand in a
// second.
func askAround(ctx context.Context, l *limiter.Limiter, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for range 10 {
			l.Take(fmt.Sprint("user:", rng.IntN(30*soakMaxKeys)))
		}
		l.Allow("everybody")
	}
}

// soakOnce does one thing to the server, and lets it run as long again.
func soakOnce(t *testing.T, s *redisserver.Server, i int) {
	t.Helper()
	away := time.Duration(1+i%4) * soakFault / 4
	pause := func() { <-time.After(away) }
	switch i % 3 {
	case 0:
		require.NoError(t, s.Kill())
		pause()
		require.NoError(t, s.Restart(true))
	case 1:
		require.NoError(t, s.Freeze())
		pause()
		require.NoError(t, s.Thaw())
	case 2:
		require.NoError(t, s.Kill())
		pause()
		require.NoError(t, s.Restart(false))
	}
	pause()
}
