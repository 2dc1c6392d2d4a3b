package store

import (
	"net"
	"sync"
	"time"

	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// proxy carries TCP connections to a target, until it is cut. Then connections
// break and new ones are refused, as by a dead process. It can also hold back
// everything, like a process that hangs, or delay every answer.
type proxy struct {
	network, target string
	addr            string // the same after every restore

	mu       sync.Mutex
	listener net.Listener // nil while cut
	conns    map[net.Conn]struct{}
	frozen   chan struct{} // closed at the thaw; nil unless frozen
	delay    time.Duration // of every answer
	wg       sync.WaitGroup
}

// newProxy listens on a free loopback port.
func newProxy(network, target string) (*proxy, error) {
	addr, err := redisserver.FreeAddr()
	if err != nil {
		return nil, err
	}
	p := &proxy{network: network, target: target, addr: addr, conns: map[net.Conn]struct{}{}}
	if err := p.restore(); err != nil {
		return nil, err
	}
	return p, nil
}

// restore listens again at the same address.
func (p *proxy) restore() error {
	var ln net.Listener
	err := redisserver.Patiently(func() (err error) {
		ln, err = net.Listen("tcp", p.addr)
		return err
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener = ln
	p.wg.Go(func() { p.accept(ln) })
	return nil
}

// cut ends the listener and all connections, and returns when they have ended.
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

// freeze holds back the bytes of both sides, until the next thaw or cut.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen == nil {
		p.frozen = make(chan struct{})
	}
}

// thaw lets the held bytes through. From now on each answer takes delay more.
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

// awaitThaw returns when bytes may pass.
func (p *proxy) awaitThaw() {
	p.mu.Lock()
	frozen := p.frozen
	p.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
}

// due returns the time of arrival of bytes that have come now.
func (p *proxy) due(answer bool) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !answer {
		return time.Time{}
	}
	return time.Now().Add(p.delay)
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

// parcel is some bytes in transit.
type parcel struct {
	data []byte
	due  time.Time
}

// pipe copies until either side ends, and then ends both. The delay adds latency
// and does not lower the rate: answers that come together arrive together.
func (p *proxy) pipe(to, from net.Conn, answers bool) {
	way := make(chan parcel, 64)
	var delivery sync.WaitGroup
	delivery.Go(func() { p.deliver(to, from, way) })
	defer delivery.Wait()
	defer close(way)
	for {
		buf := make([]byte, 16<<10)
		n, err := from.Read(buf)
		if n > 0 {
			way <- parcel{data: buf[:n], due: p.due(answers)}
		}
		if err != nil {
			return
		}
	}
}

// deliver writes parcels when they are due.
func (p *proxy) deliver(to, from net.Conn, way <-chan parcel) {
	for b := range way {
		time.Sleep(time.Until(b.due))
		p.awaitThaw()
		if _, err := to.Write(b.data); err != nil {
			_ = from.Close() // to receive nothing more
		}
	}
	_ = to.Close()
	_ = from.Close()
}

// hold registers a connection for cut. It closes one that comes too late.
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
