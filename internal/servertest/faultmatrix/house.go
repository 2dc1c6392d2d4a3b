package faultmatrix

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// House is the Redis of a fault, and the network to it.
type House struct {
	Topology string
	Job      Job           // addresses for the processes
	Admin    *redis.Client // client of the server with the fault
	Struck   time.Time     // begin of the fault, if later than Inject
	Back     time.Time     // end of the fault, if later than Heal

	server   *redisserver.Server // the only one, or the first master
	sentinel *redisserver.Sentinel
	cluster  *redisserver.Cluster
	proxy    *proxy
	names    *nameServer
	patient  chan error // result of a call that runs while the fault lasts
	move     *move
	closers  []interface{ Close() error }
}

// Close ends all servers and proxies.
func (h *House) Close() error {
	var errs []error
	for _, c := range slices.Backward(h.closers) {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (h *House) closeLater(c interface{ Close() error }) { h.closers = append(h.closers, c) }

// administer makes Admin a client of the server.
func (h *House) administer(s *redisserver.Server) {
	h.server, h.Admin = s, s.Client()
	h.closeLater(h.Admin)
}

// standalone returns one server.
func standalone(opts redisserver.Options) func() (*House, error) {
	return func() (*House, error) {
		s, err := redisserver.Start(opts)
		if err != nil {
			return nil, err
		}
		h := &House{Topology: "standalone", server: s, Job: Job{Addrs: []string{s.Addr()}, Password: opts.Password}}
		h.closeLater(s)
		h.administer(s)
		return h, nil
	}
}

var plain = standalone(redisserver.Options{})

// appending returns a server that keeps its data after its own crash, but not after the
// machine's: with fsync it would stall whenever the disk does.
var appending = standalone(redisserver.Options{AppendOnly: true, Args: []string{"--appendfsync", "no"}})

// proxied returns one server behind a proxy.
func proxied() (*House, error) {
	h, err := plain()
	if err != nil {
		return nil, err
	}
	if h.proxy, err = newProxy(h.server.Addr()); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	h.closeLater(h.proxy)
	h.Job.Addrs = []string{h.proxy.addr()}
	return h, nil
}

// named returns one server with a name that has to be looked up.
func named() (*House, error) {
	h, err := plain()
	if err != nil {
		return nil, err
	}
	if h.names, err = newNameServer(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	h.closeLater(h.names)
	h.Job.Addrs = []string{net.JoinHostPort("redis.test", strconv.Itoa(h.server.Port()))}
	h.Job.Resolver = h.names.addr()
	return h, nil
}

// withUser returns one server whose clients log in as the user that docs/design.md
// recommends.
func withUser() (*House, error) {
	h, err := plain()
	if err != nil {
		return nil, err
	}
	h.Job.Username, h.Job.Password = aclUser, aclPassword
	if err := allowUser(context.Background(), h); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

const (
	aclUser     = "limiter"
	aclPassword = "pw"
)

func allowUser(ctx context.Context, h *House) error {
	return h.Admin.Do(
		ctx, "acl", "setuser", aclUser, "reset", "on", ">"+aclPassword, "~tuned*", "~default*",
		"+evalsha", "+eval", "+time", "+hmget", "+hset", "+hscan", "+hdel", "+pexpireat",
	).Err()
}

// watched returns a primary and a replica with three Sentinels.
func watched() (*House, error) {
	s, err := redisserver.StartSentinel(redisserver.Options{})
	if err != nil {
		return nil, err
	}
	h := &House{Topology: "Sentinel", sentinel: s, Job: Job{Addrs: s.Addrs(), MasterName: redisserver.MasterName}}
	h.closeLater(s)
	h.administer(s.Primary)
	return h, nil
}

// clustered returns three masters with a replica each.
func clustered() (*House, error) {
	c, err := redisserver.StartCluster(redisserver.Options{Args: []string{"--cluster-node-timeout", "5000"}})
	if err != nil {
		return nil, err
	}
	h := &House{Topology: "Cluster", cluster: c, Job: Job{Addrs: c.Addrs()}}
	h.closeLater(c)
	h.administer(c.Nodes[0])
	return h, nil
}

// reader returns a client that follows the data to its present server.
func (h *House) reader() redis.UniversalClient {
	j := h.Job
	j.Kind, j.Resolver = Tuned, ""
	if j.Username != "" {
		j.Username, j.Password = "", ""
	}
	if h.server != nil && h.cluster == nil && h.sentinel == nil {
		j.Addrs = []string{h.server.Addr()}
	}
	return j.client()
}
