package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/live"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/page"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/report"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/store"
)

// serve runs the lab's page until ctx ends.
func (l *lab) serve(ctx context.Context) (err error) {
	ln, err := net.Listen("tcp", l.http)
	if err != nil {
		return fmt.Errorf("the page: %w", err)
	}
	defer ln.Close() // for a lab that fails before the server, which closes it too
	rig, err := l.openRig(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rig.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	run := live.Start(ctx, live.Config{
		Limit:     l.limit,
		Processes: l.n,
		Demand:    l.load,
		Waiters:   l.waiters,
		Seed:      l.seed,
		Run:       l.runner(),
		Redis:     rig,
		Prefix:    l.prefix,
	})
	defer run.Wait()
	defer cancel()
	host, _, _ := net.SplitHostPort(l.http) // validated before
	fmt.Fprintf(l.out, "%d limiters share %s in front of %v.\nOpen http://%s/ and take Redis away. Ctrl-C ends the lab.\n",
		l.n, report.LimitText(l.limit), rig, openAt(host, ln.Addr()))
	return serveUntil(ctx, ln, page.New(run, host))
}

func (l *lab) openRig(ctx context.Context) (*store.Rig, error) {
	st, err := l.openStore(ctx)
	if err != nil {
		return nil, err
	}
	rig, err := store.NewRig(st)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return rig, nil
}

// openAt returns the host and port for a browser on this machine: the given host,
// or localhost if that stands for all addresses.
func openAt(host string, addr net.Addr) string {
	_, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// serveUntil serves h until ctx ends.
func serveUntil(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	stopped := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stopped()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
