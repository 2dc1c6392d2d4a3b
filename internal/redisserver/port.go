package redisserver

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// A Cluster node also listens busOffset above its port. Both lie below the range
// from which systems take the ports of outgoing connections: one that is free
// while a killed server is down is still free when it comes back.
const (
	lowestPort = 11000
	ports      = 10000
	busOffset  = 10000
)

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
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
