package faultmatrix

import (
	"net"
	"sync/atomic"
)

// nameServer is a name server that resolves every name to 127.0.0.1, or to no address.
type nameServer struct {
	conn   net.PacketConn
	broken atomic.Bool
}

func newNameServer() (*nameServer, error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &nameServer{conn: conn}
	go n.serve()
	return n, nil
}

func (n *nameServer) addr() string { return n.conn.LocalAddr().String() }

// Close ends it.
func (n *nameServer) Close() error { return n.conn.Close() }

func (n *nameServer) serve() {
	for buf := make([]byte, 1500); ; {
		size, from, err := n.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if size > 12 {
			_, _ = n.conn.WriteTo(n.answer(buf[:size]), from)
		}
	}
}

// answer returns the reply to a query of one question (RFC 1035, section 4).
func (n *nameServer) answer(query []byte) []byte {
	end := 12
	for end < len(query) && query[end] != 0 {
		end += 1 + int(query[end])
	}
	end = min(end+5, len(query)) // the root, type and class
	const response, serverFailure, typeA = 0x80, 2, 1
	out := append([]byte{query[0], query[1], response | query[2], 0, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end]...)
	switch {
	case n.broken.Load():
		out[3] = serverFailure
	case query[end-3] == typeA:
		out[7] = 1
		out = append(out, 0xc0, 12, 0, typeA, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
	}
	return out
}
