package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/store"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/worker"
	"github.com/seed-e56e777b/limiter/internal/servertest"
)

// runLab runs the lab with a chart of its own and returns its exit code, its
// output and the chart's path.
func runLab(t *testing.T, ctx context.Context, args ...string) (int, string, string) {
	svg := filepath.Join(t.TempDir(), "chart.svg")
	var stdout, stderr bytes.Buffer
	code := run(ctx, append(args, "-svg", svg), &stdout, &stderr)
	require.Empty(t, stderr.String())
	return code, stdout.String(), svg
}

// checkWholeRun checks a run that came to its end on a machine of which nothing
// is known: how near the fleet came to the limit is not for this test.
func checkWholeRun(t *testing.T, code int, out, svg string) {
	require.Contains(t, []int{exitOK, exitFailed}, code, out)
	require.Equal(t, code == exitOK, strings.Contains(out, "PASSED"), out)
	require.Equal(t, code == exitFailed, strings.Contains(out, "FAILED in the phase"), out)
	asked := "requested"
	if strings.Contains(out, "callers waiting") {
		require.Len(t, row(t, out, "callers waiting"), 4, out)
		asked = "without a limit"
	}
	for _, name := range []string{asked, "one central bucket", "this limiter", "fail open", "fail closed", "private full limit"} {
		require.Len(t, row(t, out, name), 8, out) // before, outage, after, whole run
	}
	wholeRun, err := strconv.ParseFloat(row(t, out, "this limiter")[7], 64)
	require.NoError(t, err)
	require.Greater(t, wholeRun, 0.5, out)
	require.Less(t, wholeRun, 2.0, out)
	require.Equal(t, "0", row(t, out, "fail closed")[2])
	require.Contains(t, out, "Chart: "+svg)
	checkSVG(t, svg)
}

// row is the cells of a row of the table.
func row(t *testing.T, out, name string) []string {
	for line := range strings.Lines(out) {
		if cells, ok := strings.CutPrefix(line, name); ok {
			return strings.Fields(cells)
		}
	}
	require.Failf(t, "no such row", "%q in\n%s", name, out)
	return nil
}

func checkSVG(t *testing.T, path string) {
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	dec := xml.NewDecoder(bytes.NewReader(data))
	for err == nil {
		_, err = dec.Token()
	}
	require.ErrorIs(t, err, io.EOF)
}

func TestLab(t *testing.T) {
	t.Parallel()
	code, out, svg := runLab(t, t.Context(), "-for", "4s")
	checkWholeRun(t, code, out, svg)
	for _, want := range []string{
		"5 limiters, each with its own Redis client, share 1000/s burst 100.",
		"a miniredis inside this program",
		"Redis is stopped",
		"Redis is started again, empty",
		"\n    4 s ",
		"process 5: ",
	} {
		require.Contains(t, out, want)
	}
	require.NotContains(t, out, "\n    5 s ")
}

// TestLabWaits: in the outage too, callers wait and are admitted.
func TestLabWaits(t *testing.T) {
	t.Parallel()
	code, out, svg := runLab(t, t.Context(), "-for", "4s", "-waiters", "10", "-n", "3", "-limit", "300/s burst 30")
	checkWholeRun(t, code, out, svg)
	for _, want := range []string{
		"Each has 10 workers: a worker waits for a token, works for 10ms, and waits again.",
		"   time   waiting  admitted  by process",
		"Redis is started again, empty",
		"Each of 30 workers waits",
	} {
		require.Contains(t, out, want)
	}
	for phase, mean := range row(t, out, "callers waiting") {
		waiting, err := strconv.ParseFloat(mean, 64)
		require.NoError(t, err)
		require.Greater(t, waiting, 5.0, "phase %d of\n%s", phase, out)
		require.LessOrEqual(t, waiting, 30.0, "phase %d of\n%s", phase, out)
	}
}

// TestLabOfProcessesWaits: one of them ends in the meantime, and its workers with it.
func TestLabOfProcessesWaits(t *testing.T) {
	t.Parallel()
	code, out, svg := runLab(t, t.Context(), "-for", "3s", "-processes", "-stop", "1500ms", "-waiters", "10", "-n", "3", "-limit", "300/s burst 30")
	checkWholeRun(t, code, out, svg)
	require.Contains(t, out, "process 3: closed in ")
}

func TestLabOfProcesses(t *testing.T) {
	t.Parallel()
	code, out, svg := runLab(t, t.Context(), "-for", "3s", "-processes", "-n", "3", "-limit", "300/s burst 30")
	checkWholeRun(t, code, out, svg)
	require.Contains(t, out, "3 limiters, each an operating-system process, share 300/s burst 30.")
	require.Contains(t, out, "process 3: ")
}

// TestLabStopsAProcess: one that gets SIGTERM reports its remaining usage, says
// how long that took, and the others go on.
func TestLabStopsAProcess(t *testing.T) {
	t.Parallel()
	code, out, svg := runLab(t, t.Context(), "-for", "4s", "-processes", "-stop", "700ms", "-n", "3", "-limit", "300/s burst 30")
	checkWholeRun(t, code, out, svg)
	require.Regexp(t, `(?m)^ +\d\.\d\d s   process 3: closed in [\d.]+.?s: (nothing was left to report|all remaining usage is reported)$`, out)
	require.Contains(t, out, "  1 closed, ")
	require.Contains(t, out, " process 1: closed in ")
}

func TestLabWithServer(t *testing.T) {
	t.Parallel()
	servertest.Need(t)
	code, out, svg := runLab(t, t.Context(), "-for", "3s", "-server", "redis-server", "-n", "2", "-limit", "300/s burst 30", "-q")
	checkWholeRun(t, code, out, svg)
	require.True(t, strings.HasPrefix(out, "\nAdmitted under"), out)
}

func TestLabWithRunningRedis(t *testing.T) {
	t.Parallel()
	theirs, err := store.NewEmbedded()
	require.NoError(t, err)
	defer theirs.Close()
	code, out, svg := runLab(t, t.Context(), "-for", "3s", "-redis", theirs.Endpoint().URL, "-n", "2", "-limit", "300/s burst 30")
	checkWholeRun(t, code, out, svg)
	require.Contains(t, out, "it is cut off at the proxy (it runs on)")
}

// interrupter is an output that cancels at the sight of a word.
type interrupter struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	word   string
	cancel func()
}

func (i *interrupter) Write(p []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if strings.Contains(string(p), i.word) {
		i.cancel()
	}
	return i.buf.Write(p)
}

func TestInterruptedLab(t *testing.T) {
	for _, mode := range []string{"-processes", "-processes=false"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			out := &interrupter{word: "1 s ", cancel: cancel}
			var stderr bytes.Buffer
			svg := filepath.Join(t.TempDir(), "chart.svg")
			code := run(ctx, []string{"-for", "1h", "-limit", "100/s", mode, "-svg", svg}, out, &stderr)
			require.Empty(t, stderr.String())
			require.Equal(t, exitInterrupted, code)
			require.Contains(t, out.buf.String(), "Interrupted after ")
			require.Len(t, row(t, out.buf.String(), "this limiter"), 4, "the phase before the outage and the whole run")
			require.NotContains(t, out.buf.String(), "PASSED")
			checkSVG(t, svg)
		})
	}
}

func TestLabInterruptedAtOnce(t *testing.T) {
	for _, mode := range []string{"-processes", "-processes=false"} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var stdout, stderr bytes.Buffer
		require.Equal(t, exitInterrupted, run(ctx, []string{mode, "-svg="}, &stdout, &stderr))
		require.Contains(t, stderr.String(), "interrupted before the run began")
	}
}

func TestLabWithoutItsRedis(t *testing.T) {
	gone, err := store.NewEmbedded()
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitFailed, run(t.Context(), []string{"-redis", gone.Endpoint().URL, "-svg="}, &stdout, &stderr))
	require.Contains(t, stderr.String(), "no answer from Redis")
}

// TestFleetEndsWithItsFirstFailure has one worker that fails while the others
// would go on for ever.
func TestFleetEndsWithItsFirstFailure(t *testing.T) {
	broken := errors.New("broken")
	f := startFleet(t.Context(), func(ctx context.Context, cfg worker.Config, _ <-chan worker.Order, report func(worker.Report)) error {
		report(worker.Report{Process: cfg.Process})
		if cfg.Process == 1 {
			return broken
		}
		<-ctx.Done()
		return nil
	}, []worker.Config{{Process: 0}, {Process: 1}, {Process: 2}})
	require.Len(t, f.awaitReady(), 3)
	f.drain()
	require.ErrorIs(t, f.err(), broken)
}

// brokenStore can't be taken away.
type brokenStore struct{ store.Store }

var errStuck = errors.New("stuck")

func (brokenStore) Down(context.Context) error { return errStuck }

func TestLabSaysWhatItsRedisDidNotDo(t *testing.T) {
	t.Parallel()
	st, err := store.NewEmbedded()
	require.NoError(t, err)
	defer st.Close()
	o, err := parseOptions([]string{"-for", "3s", "-q", "-svg="})
	require.NoError(t, err)
	_, _, err = newLab(o, io.Discard).play(t.Context(), brokenStore{st})
	require.ErrorIs(t, err, errStuck)
}
