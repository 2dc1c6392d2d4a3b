package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/logs"
)

func TestProgressInWords(t *testing.T) {
	c := &logs.Counts{Lines: 1_234_567, Bytes: 30e6}
	file := &progress{size: 120e6, pass: 1}
	require.Equal(t, " 25 % of 120.0 MB, 1,234,567 lines, 617,283 a second", file.line(c, 2*time.Second))
	file.pass = 3
	require.Equal(t, " 25 % of 120.0 MB, 1,234,567 lines, 617,283 a second, pass 3", file.line(c, 2*time.Second))
	stream := &progress{pass: 1}
	require.Equal(t, "1,234,567 lines, 617,283 a second", stream.line(c, 2*time.Second))
}

func TestProgressIsForTerminals(t *testing.T) {
	require.False(t, isTerminal(&strings.Builder{}))
	f, err := os.Create(t.TempDir() + "/err")
	require.NoError(t, err)
	defer f.Close()
	require.False(t, isTerminal(f))
	require.Nil(t, newProgress(f, nil).w)
}

func TestProgressRemovesItself(t *testing.T) {
	var b strings.Builder
	p := &progress{w: &b}
	p.end()
	require.Empty(t, b.String(), "there was none")
	p.begin()
	p.tick(&logs.Counts{Lines: 10})
	p.tick(&logs.Counts{Lines: 20})
	require.Equal(t, 1, strings.Count(b.String(), "lines"), "not more often than it can be read")
	p.end()
	require.True(t, strings.HasSuffix(b.String(), clearLine))
}
