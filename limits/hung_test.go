//go:build unix

package limits

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
)

// pipe makes a named pipe, whose readers hang.
func pipe(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	return path
}

// hold waits until a pipe is opened for reading, and lets it hang until the test
// has ended.
func hold(t *testing.T, path string) {
	t.Helper()
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { w.Close() })
}

// returns fails the test if f does not within half a minute.
func returns(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		f()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Errorf("not within 30 s: %s", what)
	}
}

// TestOpenEndsWithItsContext: even if the file hangs.
func TestOpenEndsWithItsContext(t *testing.T) {
	path := pipe(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	returns(t, "Open returns", func() {
		if _, err := Open(ctx, File(path), Options{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Open: %v", err)
		}
	})
	other, err := os.OpenFile(path, os.O_RDWR, 0) // does not wait, and ends the read
	require.NoError(t, err)
	require.NoError(t, other.Close())
}

// TestCloseLeavesAHungFileAlone: it returns while the file is still being read.
func TestCloseLeavesAHungFileAlone(t *testing.T) {
	path := file(t, `{"*": "5/1h"}`)
	ls, err := Open(t.Context(), File(path), Options{Interval: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	l, err := limiter.New(limiter.Config{Limit: ls.Default()})
	require.NoError(t, err)
	ls.Watch(l)
	require.NoError(t, os.Rename(pipe(t), path))
	hold(t, path)
	returns(t, "Close returns", ls.Close)
}
