package faultmatrix

import (
	"context"
	"io"
	"net"
	"net/http"
)

// endpointFaults returns the faults of an address without a Redis.
func endpointFaults() []*Fault {
	unknown := func(broken bool) func(h *House) error {
		return func(h *House) error { h.names.broken.Store(broken); return nil }
	}
	lookup := Want{Outage: true, Says: "name service"}
	right := do(func(h *House) error {
		h.proxy.set(func(w *way) { w.Target = h.server.Addr() })
		h.proxy.reset()
		return nil
	})
	return []*Fault{
		{Name: "name not resolved at start", House: named, Start: true, Lasts: lasting, Inject: do(unknown(true)), Heal: do(unknown(false)), Want: lookup},
		{
			Name: "name no longer resolved, connections killed", House: named, Lasts: lasting, Want: lookup,
			Inject: func(ctx context.Context, h *House) error {
				h.names.broken.Store(true)
				return admin(killClients)(ctx, h)
			},
			Heal: do(unknown(false)),
		},
		{Name: "an HTTP server at the address", House: proxied, Start: true, Lasts: lasting, Inject: do(webServer), Heal: right, Want: Want{Outage: true, Says: "no Redis"}},
		{Name: "a server that accepts and says nothing", House: proxied, Start: true, Lasts: lasting, Inject: do(silentServer), Heal: right, Want: outage},
	}
}

func webServer(h *House) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	h.closeLater(server)
	go func() { _ = server.Serve(ln) }()
	h.proxy.set(func(w *way) { w.Target = ln.Addr().String() })
	return nil
}

func silentServer(h *House) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	h.closeLater(ln)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(io.Discard, conn)
			}()
		}
	}()
	h.proxy.set(func(w *way) { w.Target = ln.Addr().String() })
	return nil
}
