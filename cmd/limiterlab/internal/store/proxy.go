package store

import (
	"io"
	"net"
	"sync"
	"time"
)

// proxy carries TCP connections to a target, until it is cut: then the
// connections break and new ones are refused, as by a process that died.
type proxy struct {
	network, target string
	addr            string // the same after every restore

	mu       sync.Mutex
	listener net.Listener // nil while cut
	conns    map[net.Conn]struct{}
	wg       sync.WaitGroup
}

// newProxy listens on a free loopback port.
func newProxy(network, target string) (*proxy, error) {
	p := &proxy{network: network, target: target, addr: "127.0.0.1:0", conns: map[net.Conn]struct{}{}}
	if err := p.restore(); err != nil {
		return nil, err
	}
	return p, nil
}

// restore listens again where it listened before.
func (p *proxy) restore() error {
	ln, err := net.Listen("tcp", p.addr)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addr = ln.Addr().String()
	p.listener = ln
	p.wg.Go(func() { p.accept(ln) })
	return nil
}

// cut ends everything and returns when nothing is left.
func (p *proxy) cut() {
	p.mu.Lock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *proxy) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(conn) })
	}
}

// serve carries one connection until either side ends it.
func (p *proxy) serve(down net.Conn) {
	if !p.hold(down) {
		return
	}
	defer p.drop(down)
	up, err := net.DialTimeout(p.network, p.target, 2*time.Second)
	if err != nil || !p.hold(up) {
		return
	}
	defer p.drop(up)
	p.wg.Go(func() { pipe(up, down) })
	pipe(down, up)
}

// pipe copies until either side ends, and then ends both.
func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}

// hold notes a connection for cut; it closes one that comes too late.
func (p *proxy) hold(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		_ = c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *proxy) drop(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}
