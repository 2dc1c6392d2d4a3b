package redisserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	busOffset   = 10000 // from the port of a Cluster node to the port of its bus
	lowestPort  = 10000 // the ports of common services lie below
	highestPort = 65535

	listenPatience = 5 * time.Second
)

// FreeAddr returns a loopback address without a listener. No other process that
// uses this package gets it until this process ends.
func FreeAddr() (string, error) {
	port, err := ports.reserve()
	if err != nil {
		return "", err
	}
	return addr(port), nil
}

// Patiently calls listen until its error is nil or other than EADDRINUSE, for
// at most five seconds. Because a process just forked holds the sockets of its
// parent until it runs its own program, a port may be busy for a moment after
// its listener was closed.
func Patiently(listen func() error) error {
	for deadline := time.Now().Add(listenPatience); ; {
		err := listen()
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

func addr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// portRange is a range of ports with both ends.
type portRange struct{ low, high int }

func (r portRange) contains(port int) bool { return r.low <= port && port <= r.high }

// ephemeralPorts returns the range from which the kernel takes the ports of
// outgoing connections: on Linux the configured one, elsewhere a range that
// holds the usual ones.
func ephemeralPorts() portRange {
	r := portRange{32768, highestPort}
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(text), &r.low, &r.high)
	}
	return r
}

// candidatePorts returns the ports for servers: those outside the ephemeral
// range, with their bus ports. There an outgoing connection never takes the
// port of a server that is down until its restart. Where the range leaves none,
// all ports are candidates.
func candidatePorts(ephemeral portRange) (outside []int) {
	var all []int
	for port := lowestPort; port+busOffset <= highestPort; port++ {
		all = append(all, port)
		if !ephemeral.contains(port) && !ephemeral.contains(port+busOffset) {
			outside = append(outside, port)
		}
	}
	if outside == nil {
		return all
	}
	return outside
}

// reservations is the set of ports that this process has reserved, each with
// its bus port. A lock on one byte of a file, at the port as its offset, keeps
// other processes off a port. The kernel drops the locks when the process ends,
// and also when it closes the file, which therefore stays open.
type reservations struct {
	mu         sync.Mutex
	candidates []int
	reserved   map[int]bool
	file       *os.File // nil until the first reservation
}

var ports = reservations{reserved: map[int]bool{}}

// reserve returns a port without a listener, reserved until its release.
func (r *reservations) reserve() (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.open(); err != nil {
		return 0, fmt.Errorf("redisserver: reservation of a port: %w", err)
	}
	for range 1000 {
		port := r.candidates[rand.IntN(len(r.candidates))]
		if r.take(port) {
			return port, nil
		}
	}
	return 0, errors.New("redisserver: no free port")
}

// release ends the reservation of a port.
func (r *reservations) release(port int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(port)
	r.drop(port + busOffset)
}

func (r *reservations) open() (err error) {
	if r.file != nil {
		return nil
	}
	name := filepath.Join(os.TempDir(), fmt.Sprintf("redisserver-ports-%d", os.Getuid()))
	r.file, err = os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	r.candidates = candidatePorts(ephemeralPorts())
	return err
}

// take reserves a port and its bus port, or neither.
func (r *reservations) take(port int) bool {
	if !r.hold(port) {
		return false
	}
	if !r.hold(port + busOffset) {
		r.drop(port)
		return false
	}
	return true
}

func (r *reservations) hold(port int) bool {
	if r.reserved[port] || lockPort(r.file, port) != nil {
		return false
	}
	r.reserved[port] = true
	if !free(port) {
		r.drop(port)
		return false
	}
	return true
}

func (r *reservations) drop(port int) {
	delete(r.reserved, port)
	_ = unlockPort(r.file, port) // at worst it stays reserved
}

func free(port int) bool {
	l, err := net.Listen("tcp", addr(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
