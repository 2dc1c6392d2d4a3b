package store

import (
	"io"
	"net"
	"sync"
	"time"
)

// proxy carries TCP connections to a target, until it is cut: then the
// connections break and new ones are refused, as by a process that died. It may
// also hold back everything, as a process that hangs, or every answer for a while.
type proxy struct {
	network, target string
	addr            string // the same after every restore

	mu       sync.Mutex
	listener net.Listener // nil while cut
	conns    map[net.Conn]struct{}
	frozen   chan struct{} // closed at the thaw; nil while nothing is held back
	delay    time.Duration // of every answer
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
	p.thawLocked()
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

// freeze holds back what either side sends, until the next thaw or cut.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen == nil {
		p.frozen = make(chan struct{})
	}
}

// thaw lets through what was held back; from now on each answer takes delay more.
func (p *proxy) thaw(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = delay
	p.thawLocked()
}

func (p *proxy) thawLocked() {
	if p.frozen != nil {
		close(p.frozen)
		p.frozen = nil
	}
}

// holdBack returns when something may pass.
func (p *proxy) holdBack(answer bool) {
	p.mu.Lock()
	frozen, delay := p.frozen, p.delay
	p.mu.Unlock()
	if answer && delay > 0 {
		time.Sleep(delay)
	}
	if frozen != nil {
		<-frozen
	}
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
	p.wg.Go(func() { p.pipe(up, down, false) })
	p.pipe(down, up, true)
}

// gate is one direction of a connection.
type gate struct {
	to      io.Writer
	proxy   *proxy
	answers bool
}

// Write implements [io.Writer].
func (g gate) Write(b []byte) (int, error) {
	g.proxy.holdBack(g.answers)
	return g.to.Write(b)
}

// pipe copies until either side ends, and then ends both.
func (p *proxy) pipe(to, from net.Conn, answers bool) {
	_, _ = io.Copy(gate{to: to, proxy: p, answers: answers}, from)
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
