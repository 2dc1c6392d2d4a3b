package limiter

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// logText is what was logged so far.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// TestLogSaysOnceAMinuteThatRedisIsGone: an outage is logged when it begins,
// or when it is found at the start, once a minute while it lasts, and when it
// ends. What is logged says why.
func TestLogSaysOnceAMinuteThatRedisIsGone(t *testing.T) {
	for name, reachedFirst := range map[string]bool{"never reached": false, "reached": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out logText
				f := newFleet(t, 0, Config{})
				defer f.close()
				f.down.Store(!reachedFirst)
				m := f.join(Config{Limit: busy, Processes: 1, Logger: slog.New(slog.NewTextHandler(&out, nil))}, 1)
				run := func(d time.Duration) {
					for range d / (10 * time.Millisecond) {
						m.Allow("k")
						m.sleep(10*time.Millisecond, 0)
					}
				}
				run(2 * time.Second)
				f.down.Store(true)
				run(150 * time.Second)
				f.down.Store(false)
				run(2 * time.Second)
				synctest.Wait()
				warnings := strings.Count(out.String(), "level=WARN")
				if warnings != 3 || strings.Count(out.String(), errCut.Error()) != warnings {
					t.Errorf("want three warnings in 150 s, each with its reason:\n%s", out.String())
				}
				want := 1
				if reachedFirst {
					want = 2
				}
				if got := strings.Count(out.String(), "in step with the fleet"); got != want {
					t.Errorf("in step %d times, want %d:\n%s", got, want, out.String())
				}
			})
		})
	}
}

// TestLogDoesNotFollowAFlappingRedis: where Redis comes and goes many times a
// second the log says so now and then, not each time, and when it has come to stay.
func TestLogDoesNotFollowAFlappingRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out logText
		f := newFleet(t, 0, Config{})
		defer f.close()
		changes := 0
		m := f.join(Config{
			Limit: busy, Processes: 1, Logger: slog.New(slog.NewTextHandler(&out, nil)), OnChange: func(Status) { changes++ },
		}, 1)
		for i := range 3000 {
			f.down.Store(i/50%2 == 1)
			m.Allow("k")
			m.sleep(10*time.Millisecond, 0)
		}
		f.down.Store(false)
		m.sleep(2*time.Second, 0)
		synctest.Wait()
		if changes < 30 {
			t.Fatalf("only %d changes of state", changes)
		}
		if lines := strings.Count(out.String(), "\n"); lines < 4 || lines > 8 {
			t.Errorf("%d lines for %d changes in 30 s:\n%s", lines, changes, out.String())
		}
		if last := out.String()[strings.LastIndex(strings.TrimSpace(out.String()), "\n")+1:]; !strings.Contains(last, "in step") {
			t.Errorf("the last line is %s", last)
		}
	})
}

// TestLogTellsOfARedisThatNeverAnswers: a first call that hangs is an outage
// too; it is given time to say why.
func TestLogTellsOfARedisThatNeverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out logText
		f := newFleetOn(t, 0, Config{}, path{trip: time.Hour}, 0, 0)
		defer time.Sleep(time.Hour) // until the call ends
		defer f.close()
		m := f.join(Config{Limit: busy, Processes: 1, Logger: slog.New(slog.NewTextHandler(&out, nil))}, 1)
		m.sleep(time.Second, 0)
		synctest.Wait()
		if st := m.Status(); st.State != Connecting || st.Err == nil || out.String() != "" {
			t.Errorf("after a second: %+v, logged %q", st, out.String())
		}
		m.sleep(10*time.Second, 0)
		synctest.Wait()
		if got := strings.Count(out.String(), errNoAnswer.Error()); got != 1 {
			t.Errorf("said %d times, want once:\n%s", got, out.String())
		}
	})
}
