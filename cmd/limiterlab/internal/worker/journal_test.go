package worker

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestJournalIsForReaders(t *testing.T) {
	j := &journal{}
	logger := slog.New(newHandler(j))
	logger.Info("in step", "processes", 5)
	logger.Warn("cut off", "err", errors.New("no route"), "since", time.Now(), "for", 1234567*time.Microsecond)
	logger.With("a", 1).WithGroup("g").Error("broken", "level", 2)
	logger.Debug("nobody asked")

	var texts []string
	for _, n := range j.take() {
		require.WithinDuration(t, time.Now(), n.Time, time.Minute)
		texts = append(texts, n.Text)
	}
	require.Equal(t, []string{
		"in step processes=5",
		`WARN cut off err="no route" for=1.235s`,
		"ERROR broken a=1 g.level=2",
	}, texts)
	require.Empty(t, j.take())
}

// TestJournalNamesTheCauseOfAState: a record of the limiter's state is marked, with
// its cause in a few words.
func TestJournalNamesTheCauseOfAState(t *testing.T) {
	j := &journal{}
	logger := slog.New(newHandler(j))
	down := func(err error) {
		logger.Warn("cut off", "processes", 5, "since", time.Now(), "err", fmt.Errorf("limiter \"x\": sync: %w", err))
	}
	logger.Info("in step", "was", "degraded", "for", time.Second)
	down(fmt.Errorf("dial: %w", syscall.ECONNREFUSED))
	down(fmt.Errorf("closed: %w", io.EOF))
	down(os.ErrDeadlineExceeded)
	down(errors.New("no answer yet"))
	down(errors.New("READONLY"))
	logger.Warn("another", "err", errors.New("an error"))
	type mark struct {
		change bool
		cause  string
	}
	var got []mark
	for _, n := range j.take() {
		got = append(got, mark{n.Change, n.Cause})
	}
	require.Equal(t, []mark{
		{true, ""},
		{true, "connection refused"},
		{true, "connection closed"},
		{true, "no answer"},
		{true, "no answer"},
		{true, "READONLY"},
		{false, ""},
	}, got)
}
