package servertest_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// workerAddr, in the environment, makes the test binary a process of a fleet.
const workerAddr = "LIMITER_TEST_WORKER"

func TestMain(m *testing.M) {
	if addr := os.Getenv(workerAddr); addr != "" {
		work(addr)
		return
	}
	os.Exit(m.Run())
}

const processes = 4

var processLimit = limiter.Limit{Rate: 1000, Burst: 100}

// phase is what one process did between two lines from its parent.
type phase struct {
	Name     string
	Admitted int
	Allow    []time.Duration // 99.99th percentile and worst of Allow
	Bare     []time.Duration // the same of a bare rate.Limiter in the same loop
}

// work asks for its part of three times the limit until its input ends, and
// then says what came of it.
func work(addr string) {
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{addr}}))
	l, err := limiter.New(limiter.Config{Limit: processLimit, Redis: client, Processes: processes})
	if err != nil {
		panic(err)
	}
	names := make(chan string)
	go func() {
		defer close(names)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			names <- in.Text()
		}
	}()
	var done []phase
	for name, ok := <-names; ok; {
		p := phase{Name: name}
		name, ok = p.run(l, names)
		done = append(done, p)
	}
	_ = l.Close()
	_ = json.NewEncoder(os.Stdout).Encode(done)
}

// run asks until the next name comes.
func (p *phase) run(l *limiter.Limiter, names <-chan string) (string, bool) {
	var allow, bare []time.Duration
	other := rate.NewLimiter(processLimit.Rate, processLimit.Burst)
	tick := time.NewTicker(time.Second * processes / 3 / time.Duration(processLimit.Rate))
	defer tick.Stop()
	for {
		select {
		case name, ok := <-names:
			p.Allow, p.Bare = extremes(allow), extremes(bare)
			return name, ok
		case <-tick.C:
		}
		t0 := time.Now()
		ok := l.Allow("shared")
		t1 := time.Now()
		other.Allow()
		allow, bare = append(allow, t1.Sub(t0)), append(bare, time.Since(t1))
		if ok {
			p.Admitted++
		}
	}
}

func extremes(d []time.Duration) []time.Duration {
	slices.Sort(d)
	return []time.Duration{d[len(d)*9999/10000], d[len(d)-1]}
}

// TestProcessesKeepTheLimitThroughFaults: four processes of the operating
// system and a real Redis, at three times the limit, through a kill, a hang
// and the loss of all data: the fleet stays at the limit.
func TestProcessesKeepTheLimitThroughFaults(t *testing.T) {
	s := servertest.Server(t, redisserver.Options{})
	admin := s.Client()
	t.Cleanup(func() { _ = admin.Close() })
	var fleet []*worker
	for range processes {
		fleet = append(fleet, startWorker(t, s.Addr()))
	}
	var lengths []time.Duration
	step := func(name string, fault func() error) {
		t.Helper()
		require.NoError(t, fault())
		for _, w := range fleet {
			_, err := fmt.Fprintln(w.in, name)
			require.NoError(t, err)
		}
		begin := time.Now()
		<-time.After(3 * time.Second)
		lengths = append(lengths, time.Since(begin))
	}
	step("start", func() error { return nil })
	step("fault-free", func() error { return nil })
	step("killed", s.Kill)
	step("restarted", func() error { return s.Restart(false) })
	step("frozen", s.Freeze)
	step("thawed", s.Thaw)
	step("emptied", func() error { return admin.FlushAll(t.Context()).Err() })

	total := map[string]phase{}
	for _, w := range fleet {
		for _, p := range w.stop(t) {
			sum := total[p.Name]
			sum.Name, sum.Admitted = p.Name, sum.Admitted+p.Admitted
			sum.Allow, sum.Bare = worse(sum.Allow, p.Allow), worse(sum.Bare, p.Bare)
			total[p.Name] = sum
		}
	}
	for i, name := range []string{"start", "fault-free", "killed", "restarted", "frozen", "thawed", "emptied"} {
		p := total[name]
		ratio := float64(p.Admitted) / (lengths[i].Seconds() * float64(processLimit.Rate))
		t.Logf("%-10s admitted %.3f of the limit; Allow p99.99 %v, worst %v; bare rate.Limiter %v, %v",
			name, ratio, p.Allow[0], p.Allow[1], p.Bare[0], p.Bare[1])
		if i > 0 && (ratio < 0.85 || ratio > 1.10) {
			t.Errorf("%s: admitted %.3f of the limit, want 0.85 to 1.10", name, ratio)
		}
	}
}

func worse(a, b []time.Duration) []time.Duration {
	if a == nil {
		return b
	}
	return []time.Duration{max(a[0], b[0]), max(a[1], b[1])}
}

// worker is a process of the fleet, as its parent sees it.
type worker struct {
	cmd *exec.Cmd
	in  interface {
		Write([]byte) (int, error)
		Close() error
	}
	out *bufio.Reader
}

func startWorker(t *testing.T, addr string) *worker {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerAddr+"="+addr)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &worker{cmd: cmd, in: in, out: bufio.NewReader(out)}
}

// stop ends the process and returns what it did.
func (w *worker) stop(t *testing.T) []phase {
	t.Helper()
	require.NoError(t, w.in.Close())
	var phases []phase
	require.NoError(t, json.NewDecoder(w.out).Decode(&phases))
	return phases
}
