package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/demand"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/redisstore"
)

const inspectCommand = "inspect"

// inspectPatience is the time that Redis may take for all answers.
const inspectPatience = 10 * time.Second

// inspect prints a key's state in Redis.
func inspect(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseInspectOptions(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, inspectUsage())
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "limiterlab inspect: %v\nlimiterlab inspect -h lists the flags.\n", err)
		return exitUsage
	}
	text, err := o.look(ctx)
	if err != nil {
		fmt.Fprintln(stderr, "limiterlab inspect:", err)
		return exitFailed
	}
	fmt.Fprint(stdout, text)
	return exitOK
}

// look asks Redis and returns the text to print.
func (o *inspectOptions) look(ctx context.Context) (string, error) {
	patience := inspectPatience
	if o.top > 0 {
		patience = topPatience
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client := redis.NewUniversalClient(limiter.Tune(o.options))
	defer client.Close()
	if o.top > 0 {
		return o.lookAtTop(ctx, client)
	}
	s, err := redisstore.New(client, o.prefix).Inspect(ctx, exchange.FieldOf(o.key), demand.TauIntervals*o.interval)
	if err != nil {
		return "", o.explain(err)
	}
	switch {
	case !o.cluster && ofCluster(ctx, client):
		return "", errCluster
	case !s.Exists && len(s.Fleet) == 0:
		return "", o.errNothing()
	}
	return o.describe(s), nil
}

// errNothing is the error of a prefix under which nothing is stored.
func (o *inspectOptions) errNothing() error {
	return fmt.Errorf("there is nothing under the prefix %q: no process is there, and all keys have been full for a minute; or its prefix is another", o.prefix)
}

// errCluster is returned by a node of a Cluster, which has some of the partitions
// only.
var errCluster = errors.New("this is a node of a Redis Cluster: use -cluster")

// ofCluster reports whether Redis is a node of a Cluster.
func ofCluster(ctx context.Context, client redis.UniversalClient) bool {
	info, err := client.Info(ctx, "cluster").Result()
	return err == nil && strings.Contains(info, "cluster_enabled:1")
}

// explain adds the flags that may be wrong to an error.
func (o *inspectOptions) explain(err error) error {
	switch _, moved := redis.IsMovedError(err); {
	case moved:
		return fmt.Errorf("%w (%w)", errCluster, err)
	case strings.Contains(err.Error(), "cluster support disabled"):
		return fmt.Errorf("this is no Redis Cluster: leave -cluster out (%w)", err)
	}
	return err
}
