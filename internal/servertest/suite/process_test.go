package suite_test

import (
	"bufio"
	"encoding/json"
	"flag"
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
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("4") // the tests wait more than they compute
	}
	os.Exit(m.Run())
}

const processes = 4

var processLimit = limiter.Limit{Rate: 1000, Burst: 100}

// phase is the record of one process between two lines from its parent.
type phase struct {
	Name     string
	Took     time.Duration
	Asked    int
	Admitted int
	Allow    []time.Duration // 99.99th percentile and worst of Allow
	Bare     []time.Duration // the same of a bare rate.Limiter in the same loop
}

// ready is the line of a process whose limiter is synced.
const ready = "ready"

// work prints a line as soon as it is synced. Then it asks for its part of
// three times the limit until its input ends, and prints its phases.
func work(addr string) {
	client := redis.NewUniversalClient(limiter.Tune(&redis.UniversalOptions{Addrs: []string{addr}}))
	l, err := limiter.New(limiter.Config{Limit: processLimit, Redis: client, Processes: processes})
	if err != nil {
		panic(err)
	}
	for l.Status().State != limiter.Synced {
		<-time.After(time.Millisecond)
	}
	fmt.Println(ready)
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
	begin := time.Now()
	other := rate.NewLimiter(processLimit.Rate, processLimit.Burst)
	tick := time.NewTicker(time.Second * processes / 3 / time.Duration(processLimit.Rate))
	defer tick.Stop()
	for {
		select {
		case name, ok := <-names:
			p.Took, p.Asked = time.Since(begin), len(allow)
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
	if len(d) == 0 { // not one tick in a phase
		return make([]time.Duration, 2)
	}
	slices.Sort(d)
	return []time.Duration{d[len(d)*9999/10000], d[len(d)-1]}
}

// TestProcessesKeepTheLimitThroughFaults: four processes of the operating
// system and a real Redis, at three times the limit, through a kill, a hang
// and the loss of all data: the fleet stays at the limit.
func TestProcessesKeepTheLimitThroughFaults(t *testing.T) {
	t.Parallel()
	s := servertest.Server(t, redisserver.Options{})
	admin := s.Client()
	t.Cleanup(func() { _ = admin.Close() })
	var fleet []*worker
	for range processes {
		fleet = append(fleet, startWorker(t, s.Addr()))
	}
	for _, w := range fleet {
		line, err := w.out.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, ready+"\n", line)
	}
	steps := []struct {
		name  string
		fault func() error
		short bool // true if done under -short too
	}{
		{"start", func() error { return nil }, true},
		{"fault-free", func() error { return nil }, false},
		{"killed", s.Kill, true},
		{"restarted", func() error { return s.Restart(false) }, true},
		{"frozen", s.Freeze, false},
		{"thawed", s.Thaw, false},
		{"emptied", func() error { return admin.FlushAll(t.Context()).Err() }, false},
	}
	total := map[string]*sum{}
	for _, step := range steps {
		if testing.Short() && !step.short {
			continue
		}
		total[step.name] = &sum{}
		require.NoError(t, step.fault(), step.name)
		for _, w := range fleet {
			_, err := fmt.Fprintln(w.in, step.name)
			require.NoError(t, err)
		}
		<-time.After(3 * time.Second)
	}
	for _, w := range fleet {
		for _, p := range w.stop(t) {
			total[p.Name].add(p)
		}
	}
	for _, step := range steps {
		sum := total[step.name]
		if sum == nil {
			continue
		}
		ratio, reachable := sum.ratios()
		t.Logf("%-10s admitted %.3f of the limit, %.3f in reach; Allow p99.99 %v, worst %v; bare rate.Limiter %v, %v",
			step.name, ratio, reachable, sum.allow[0], sum.allow[1], sum.bare[0], sum.bare[1])
		if step.name != "start" && (ratio < 0.85*reachable || ratio > 1.10) {
			t.Errorf("%s: admitted %.3f of the limit, want %.3f to 1.10", step.name, ratio, 0.85*reachable)
		}
	}
}

// sum is the record of a fleet in one phase.
type sum struct {
	took            time.Duration // by all processes together
	admitted, reach float64       // tokens
	allow, bare     []time.Duration
}

// add takes in a process. Within its reach are the tokens of its share, or
// fewer on a machine too busy to ask for so many.
func (s *sum) add(p phase) {
	share := p.Took.Seconds() * float64(processLimit.Rate) / processes
	s.took += p.Took
	s.admitted += float64(p.Admitted)
	s.reach += min(share, float64(p.Asked))
	s.allow, s.bare = worse(s.allow, p.Allow), worse(s.bare, p.Bare)
}

// ratios returns the parts of the limit that were admitted and in reach.
func (s *sum) ratios() (admitted, reachable float64) {
	limit := s.took.Seconds() / processes * float64(processLimit.Rate)
	return s.admitted / limit, s.reach / limit
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

// stop ends the process and returns its results.
func (w *worker) stop(t *testing.T) []phase {
	t.Helper()
	require.NoError(t, w.in.Close())
	var phases []phase
	require.NoError(t, json.NewDecoder(w.out).Decode(&phases))
	return phases
}
