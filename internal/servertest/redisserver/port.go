package redisserver

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"time"
)

// A Cluster node also listens busOffset above its port. Both lie below the range
// from which systems take the ports of outgoing connections: one that is free
// while a killed server is down is still free when it comes back.
const (
	lowestPort = 11000
	ports      = 10000
	busOffset  = 10000
)

// FreeAddr is a loopback address that nobody listens at, nor is likely to before
// the caller does, or does again.
func FreeAddr() (string, error) {
	port, err := freePort()
	if err != nil {
		return "", err
	}
	return addr(port), nil
}

// Patiently calls listen, which is to listen at a fixed address, until it does,
// for a second: a process just forked holds what this one has closed until its
// own program runs.
func Patiently(listen func() error) error {
	for deadline := time.Now().Add(time.Second); ; {
		err := listen()
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

func addr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func freePort() (int, error) {
	for range 200 {
		port := lowestPort + rand.IntN(ports)
		if free(port) && free(port+busOffset) {
			return port, nil
		}
	}
	return 0, errors.New("redisserver: no free port")
}

func free(port int) bool {
	l, err := net.Listen("tcp", addr(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
