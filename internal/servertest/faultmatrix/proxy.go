package faultmatrix

import (
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// way is the behaviour of a proxy.
type way struct {
	Target       string
	DropRequests bool // true if requests are lost, without a reset of connections
	DropReplies  bool
	Delay        time.Duration // in each direction
	Jitter       time.Duration // variation of Delay, up and down
	PerSecond    int           // bytes in each direction of each connection; 0: no bound
	Cut          float64       // part of the replies that are cut in their middle, with their connections
}

// proxy forwards connections to a server, in a way that may change.
type proxy struct {
	ln net.Listener

	mu    sync.Mutex
	way   way
	conns map[net.Conn]bool
}

func newProxy(target string) (*proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{ln: ln, way: way{Target: target}, conns: map[net.Conn]bool{}}
	go p.accept()
	return p, nil
}

func (p *proxy) addr() string { return p.ln.Addr().String() }

// Close ends the proxy and its connections.
func (p *proxy) Close() error {
	err := p.ln.Close()
	p.reset()
	return err
}

// set changes the way.
func (p *proxy) set(change func(*way)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.way)
}

func (p *proxy) now() way {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.way
}

// reset closes every connection.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *proxy) accept() {
	for {
		conn, err := p.ln.Accept()
		if err != nil {
			return
		}
		go p.serve(conn)
	}
}

func (p *proxy) serve(down net.Conn) {
	defer p.hold(down)()
	up, err := net.Dial("tcp", p.now().Target)
	if err != nil {
		return
	}
	defer p.hold(up)()
	ended := make(chan struct{}, 2)
	go func() { p.carry(up, down, false); ended <- struct{}{} }()
	go func() { p.carry(down, up, true); ended <- struct{}{} }()
	<-ended
}

// hold records a connection, and returns a function to close and remove it.
func (p *proxy) hold(c net.Conn) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	return func() {
		_ = c.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, c)
	}
}

// parcel is some bytes, with the instant of their arrival.
type parcel struct {
	bytes []byte
	at    time.Time
	last  bool
}

// carry reads parcels and forwards each at its instant, so that a delay does not add up
// over the parcels.
func (p *proxy) carry(to, from net.Conn, replies bool) {
	road := make(chan parcel, 1024)
	go func() {
		defer close(road)
		for buf := make([]byte, 16<<10); ; {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			if out, ok := p.send(buf[:n], replies); ok {
				road <- out
			}
		}
	}()
	for out := range road {
		p.wait(out)
		if _, err := to.Write(out.bytes); err != nil || out.last {
			return
		}
	}
}

// send makes a parcel of the bytes read, or drops them.
func (p *proxy) send(b []byte, replies bool) (out parcel, ok bool) {
	w := p.now()
	if replies && w.DropReplies || !replies && w.DropRequests {
		return out, false
	}
	out = parcel{bytes: append([]byte(nil), b...), at: time.Now().Add(w.Delay)}
	if w.Jitter > 0 {
		out.at = out.at.Add(time.Duration((2*rand.Float64() - 1) * float64(w.Jitter)))
	}
	if replies && rand.Float64() < w.Cut {
		out.bytes, out.last = out.bytes[:len(b)/2], true
	}
	return out, true
}

func (p *proxy) wait(out parcel) {
	if d := time.Until(out.at); d > 0 {
		<-time.After(d)
	}
	if w := p.now(); w.PerSecond > 0 {
		<-time.After(time.Duration(len(out.bytes)) * time.Second / time.Duration(w.PerSecond))
	}
}
