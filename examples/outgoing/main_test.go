package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// TestMain is the program in the processes that it starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-call" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestTransportAvoidsDenials: four processes get the server's limit in each way, and
// with Transport they are rarely denied.
func TestTransportAvoidsDenials(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 9 s of real time")
	}
	const period = 3 * time.Second
	server := servertest.Server(t, redisserver.Options{})
	var admitted, denied [3]int64
	for i, way := range []string{plain, alone, fleet} {
		var err error
		admitted[i], denied[i], err = serveAndCall(way, server.Addr(), false, period)
		require.NoError(t, err)
		least := int64(served * period.Seconds() / 2)
		require.Greater(t, admitted[i], least, way) // a pause is a whole second
	}
	t.Logf("admitted %v, denied %v: without, alone, fleet", admitted, denied)
	for _, n := range denied[1:] {
		require.Less(t, n, denied[0])
	}
}

func TestCompareWithoutRedis(t *testing.T) {
	var out strings.Builder
	require.NoError(t, compare(&out, "", true, 100*time.Millisecond))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 4)
	require.Contains(t, lines[3], "needs -redis")
}
