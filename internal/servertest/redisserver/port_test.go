package redisserver

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// needServer skips a test if there is no server.
func needServer(t *testing.T) {
	t.Helper()
	switch err := Find(); {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

// TestPortsAvoidTheEphemeralRange: no server gets a port that the kernel may
// give to an outgoing connection, neither for clients nor for its bus.
func TestPortsAvoidTheEphemeralRange(t *testing.T) {
	t.Parallel()
	for _, ephemeral := range []portRange{{32768, 60999}, {49152, 65535}, {25000, 65535}, {1024, 19999}} {
		list := candidatePorts(ephemeral)
		require.Greater(t, len(list), 1000)
		for _, port := range list {
			if ephemeral.contains(port) || ephemeral.contains(port+busOffset) {
				t.Fatalf("port %d, of which %v is ephemeral", port, ephemeral)
			}
		}
	}
	require.NotEmpty(t, candidatePorts(portRange{1024, 65535}), "a machine on which every port is ephemeral")
}

func TestPortIsReservedOnce(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for range 200 {
		port, err := ports.reserve()
		require.NoError(t, err)
		t.Cleanup(func() { ports.release(port) })
		for _, p := range []int{port, port + busOffset} {
			require.False(t, seen[p], "port %d twice", p)
			seen[p] = true
		}
	}
}

// portVariable, in the environment, is a port that another process tries to
// reserve.
const portVariable = "LIMITER_TEST_PORT"

// TestProcessesReserveDifferentPorts: a port reserved by one process is not
// reserved by another until its release.
func TestProcessesReserveDifferentPorts(t *testing.T) {
	if text := os.Getenv(portVariable); text != "" {
		port, err := strconv.Atoi(text)
		require.NoError(t, err)
		require.NoError(t, ports.open())
		require.True(t, ports.take(port), "the port is taken")
		return
	}
	t.Parallel()
	otherReserves := func(port int) bool {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), portVariable+"="+strconv.Itoa(port))
		out, err := cmd.CombinedOutput()
		if err != nil {
			require.Contains(t, string(out), "the port is taken")
		}
		return err == nil
	}
	port, err := ports.reserve()
	require.NoError(t, err)
	require.False(t, otherReserves(port))
	require.False(t, otherReserves(port+busOffset))
	ports.release(port)
	require.True(t, otherReserves(port))
}

// TestStartTakesAnotherPort: a server whose port, or whose bus port, another process has
// taken meanwhile starts at another.
func TestStartTakesAnotherPort(t *testing.T) {
	t.Parallel()
	needServer(t)
	for name, offset := range map[string]int{"port": 0, "bus": busOffset} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tried []int
			s, err := startWith(func(s *Server) error {
				s.opts.Args = []string{"--cluster-enabled", "yes"}
				if tried = append(tried, s.port); len(tried) == 1 {
					l, err := net.Listen("tcp", addr(s.port+offset))
					require.NoError(t, err)
					t.Cleanup(func() { _ = l.Close() })
				}
				return nil
			})
			require.NoError(t, err)
			require.NoError(t, s.Close())
			require.Len(t, tried, 2)
			require.NotEqual(t, tried[0], tried[1])
		})
	}
}

// TestRestartWaitsForItsPort: a port that is busy for a moment delays a restart.
func TestRestartWaitsForItsPort(t *testing.T) {
	t.Parallel()
	needServer(t)
	s, err := Start(Options{})
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Kill())
	var l net.Listener
	require.NoError(t, Patiently(func() (err error) {
		l, err = net.Listen("tcp", s.Addr())
		return err
	}))
	restarted := make(chan error, 1)
	go func() { restarted <- s.Restart(false) }()
	for !strings.Contains(logSince(s.dir, 0), addrInUse) {
		select {
		case err := <-restarted:
			t.Fatalf("restarted at a busy port: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	require.NoError(t, l.Close())
	require.NoError(t, <-restarted)
}
