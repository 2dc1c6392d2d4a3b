package notify

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestInOrderWithoutWaiting: values arrive in order, and the goroutine that
// adds them does not wait for the one that receives them.
func TestInOrderWithoutWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []int
		release := make(chan struct{})
		q := Queue[int]{Call: func(v, _ int) {
			<-release
			got = append(got, v)
		}}
		for v := range 5 {
			q.Add(v)
		}
		synctest.Wait()
		if len(got) != 0 {
			t.Errorf("called with %v before it was let", got)
		}
		close(release)
		synctest.Wait()
		if want := []int{0, 1, 2, 3, 4}; !slices.Equal(got, want) {
			t.Errorf("called with %v, want %v", got, want)
		}
	})
}

// TestNobodyToCall: a queue without a function does nothing.
func TestNobodyToCall(t *testing.T) {
	var q Queue[int]
	q.Add(1)
	if !q.Wait(0) {
		t.Error("there is something to wait for")
	}
}

// TestBlockedCallKeepsTheNewest: while a call blocks, a bounded number of
// values waits, the newest ones, and the next call says how many are missing.
func TestBlockedCallKeepsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got, dropped []int
		release := make(chan struct{})
		q := Queue[int]{Call: func(v, d int) {
			<-release
			got, dropped = append(got, v), append(dropped, d)
		}}
		q.Add(0)
		synctest.Wait()
		for v := range 1000 {
			q.Add(1 + v)
		}
		begin := time.Now()
		if q.Wait(time.Second) || time.Since(begin) != time.Second {
			t.Errorf("Wait for a blocked call: %v", time.Since(begin))
		}
		close(release)
		if !q.Wait(time.Second) {
			t.Error("Wait ends before all are called")
		}
		if len(got) != 1+most || got[0] != 0 || got[1] != 1001-most || got[most] != 1000 {
			t.Errorf("called with %v", got)
		}
		if dropped[0] != 0 || dropped[1] != 1000-most || slices.Max(dropped[2:]) != 0 {
			t.Errorf("told of as dropped: %v", dropped)
		}
	})
}

// blocking is a writer that blocks until it is released.
type blocking struct {
	release chan struct{}
	bytes.Buffer
}

func (b *blocking) Write(p []byte) (int, error) {
	<-b.release
	return b.Buffer.Write(p)
}

// TestLinesThatAreDroppedAreCounted: the first line written after lines were
// dropped says how many. Lines below the logger's level are none of them.
func TestLinesThatAreDroppedAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &blocking{release: make(chan struct{})}
		log := NewLog(slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn, AddSource: true})), slog.String("prefix", "api"))
		log.Warn("first", "n", 1)
		synctest.Wait()
		for range 10 {
			log.Error("lost")
		}
		for range most - 1 {
			log.Info("not written")
		}
		log.Warn("last")
		close(out.release)
		log.Wait(time.Second)
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], "prefix=api n=1") || !strings.Contains(lines[0], "notify_test.go") {
			t.Fatalf("%s", out.String())
		}
		if !strings.Contains(lines[1], "msg=last prefix=api lines_dropped=10") {
			t.Errorf("the line after ten dropped ones: %s", lines[1])
		}
	})
}
