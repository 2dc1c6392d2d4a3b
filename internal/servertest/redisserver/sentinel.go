package redisserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

const sentinels = 3

// MasterName is the name of the primary of a Sentinel.
const MasterName = "mymaster"

// Sentinel is a primary with one replica, watched by three Redis Sentinels.
type Sentinel struct {
	Primary   *Server // at first
	Replica   *Server // at first
	Sentinels []*Server
}

// StartSentinel starts a Sentinel and waits until its Sentinels know each other and the
// replica. They declare a primary dead after a second.
func StartSentinel(opts Options) (*Sentinel, error) {
	s := &Sentinel{}
	if err := s.start(opts); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Addrs returns the addresses of the Sentinels.
func (s *Sentinel) Addrs() []string {
	addrs := make([]string, len(s.Sentinels))
	for i, n := range s.Sentinels {
		addrs[i] = n.Addr()
	}
	return addrs
}

// Close kills all servers.
func (s *Sentinel) Close() error {
	all := s.Sentinels
	for _, n := range []*Server{s.Primary, s.Replica} {
		if n != nil {
			all = append(all, n)
		}
	}
	return closeAll(all)
}

func (s *Sentinel) start(opts Options) (err error) {
	if s.Primary, err = start(opts, []string{"--repl-diskless-sync-delay", "0"}); err != nil {
		return err
	}
	follow := []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(s.Primary.Port())}
	if s.Replica, err = start(opts, follow); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	replica, done := clients([]*Server{s.Replica})
	defer done()
	if err := all(ctx, replica, linked); err != nil {
		return err
	}
	for range sentinels {
		n, err := startSentinel(s.Primary)
		if err != nil {
			return err
		}
		s.Sentinels = append(s.Sentinels, n)
	}
	return s.ready(ctx)
}

func (s *Sentinel) ready(ctx context.Context) error {
	rdbs, done := clients(s.Sentinels)
	defer done()
	return all(ctx, rdbs, watching)
}

// watching reports whether a Sentinel knows the others and the replica.
func watching(ctx context.Context, rdb *redis.Client) bool {
	info, err := rdb.Info(ctx, "sentinel").Result()
	return err == nil && strings.Contains(info, "status=ok,address=") &&
		strings.Contains(info, fmt.Sprintf("slaves=1,sentinels=%d", sentinels))
}

// startSentinel runs redis-server in its Sentinel mode: no other program is
// needed.
func startSentinel(primary *Server) (*Server, error) {
	return startWith(func(s *Server) error {
		s.opts.Password = primary.opts.Sentinel
		file := filepath.Join(s.dir, "sentinel.conf") // a Sentinel keeps its state in its configuration
		s.conf = []string{file, "--sentinel"}
		return os.WriteFile(file, []byte(sentinelConf(s, primary)), 0o600)
	})
}

func sentinelConf(s, primary *Server) string {
	var b strings.Builder
	fmt.Fprintf(&b, "port %d\nbind 127.0.0.1\ndir %s\nlogfile %s\n", s.port, s.dir, logFile)
	fmt.Fprintf(&b, "sentinel monitor %s 127.0.0.1 %d 2\n", MasterName, primary.Port())
	fmt.Fprintf(&b, "sentinel down-after-milliseconds %s 1000\n", MasterName)
	fmt.Fprintf(&b, "sentinel failover-timeout %s 3000\n", MasterName)
	if s.opts.Password != "" { // the Sentinels use it among each other too
		fmt.Fprintf(&b, "requirepass %s\n", s.opts.Password)
	}
	if primary.opts.Password != "" {
		fmt.Fprintf(&b, "sentinel auth-pass %s %s\n", MasterName, primary.opts.Password)
	}
	return b.String()
}
