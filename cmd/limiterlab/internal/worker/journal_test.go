package worker

import (
	"errors"
	"log/slog"
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
