package redisserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// masters is the number of masters of a Cluster; each has one replica.
const masters = 3

// Cluster is a Redis Cluster of three masters and their replicas.
type Cluster struct {
	Nodes []*Server // the masters, then a replica of each in the same order
}

// StartCluster starts a Cluster and waits until all of it is in order.
func StartCluster(opts Options) (*Cluster, error) {
	c := &Cluster{}
	if err := c.start(opts); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Addrs returns the addresses of all nodes.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		addrs[i] = n.Addr()
	}
	return addrs
}

// Close kills all nodes.
func (c *Cluster) Close() error { return closeAll(c.Nodes) }

func closeAll(servers []*Server) error {
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

func (c *Cluster) start(opts Options) error {
	extra := []string{
		"--cluster-enabled", "yes", "--cluster-config-file", "nodes.dat",
		"--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0",
	}
	for range 2 * masters {
		s, err := start(opts, extra)
		if err != nil {
			return err
		}
		c.Nodes = append(c.Nodes, s)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	rdbs, done := clients(c.Nodes)
	defer done()
	return c.form(ctx, rdbs)
}

// clients returns a client of each server, and a function to close them.
func clients(servers []*Server) (rdbs []*redis.Client, done func()) {
	for _, s := range servers {
		rdbs = append(rdbs, s.Client())
	}
	return rdbs, func() {
		for _, rdb := range rdbs {
			_ = rdb.Close()
		}
	}
}

// form joins the nodes to a Cluster, with slots and replicas.
func (c *Cluster) form(ctx context.Context, rdbs []*redis.Client) error {
	for i, rdb := range rdbs {
		if err := rdb.Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
			return err
		}
		if i < masters {
			if err := rdb.ClusterAddSlotsRange(ctx, i*16384/masters, (i+1)*16384/masters-1).Err(); err != nil {
				return err
			}
		}
		if err := rdb.Do(ctx, "cluster", "meet", "127.0.0.1", c.Nodes[0].Port()).Err(); err != nil {
			return err
		}
	}
	if err := all(ctx, rdbs, acquainted); err != nil {
		return err
	}
	for i, replica := range rdbs[masters:] {
		id, err := rdbs[i].Do(ctx, "cluster", "myid").Text()
		if err != nil {
			return err
		}
		if err := replica.ClusterReplicate(ctx, id).Err(); err != nil {
			return err
		}
	}
	return errors.Join(all(ctx, rdbs, inOrder), all(ctx, rdbs[masters:], linked))
}

// acquainted reports whether a node knows all the others.
func acquainted(ctx context.Context, rdb *redis.Client) bool {
	nodes, err := rdb.ClusterNodes(ctx).Result()
	return err == nil && strings.Count(nodes, " connected") == 2*masters && !strings.Contains(nodes, "handshake")
}

// inOrder reports whether a node sees all slots served and all replicas as such.
func inOrder(ctx context.Context, rdb *redis.Client) bool {
	info, err := rdb.ClusterInfo(ctx).Result()
	if err != nil || !strings.Contains(info, "cluster_state:ok") {
		return false
	}
	nodes, err := rdb.ClusterNodes(ctx).Result()
	return err == nil && strings.Count(nodes, "slave ") == masters
}

// linked reports whether a replica follows its primary.
func linked(ctx context.Context, rdb *redis.Client) bool {
	info, err := rdb.Info(ctx, "replication").Result()
	return err == nil && strings.Contains(info, "master_link_status:up")
}

// all waits until a condition holds for every server.
func all(ctx context.Context, rdbs []*redis.Client, holds func(context.Context, *redis.Client) bool) error {
	for _, rdb := range rdbs {
		for !holds(ctx, rdb) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("redisserver: %v does not get ready: %w", rdb, ctx.Err())
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return nil
}
