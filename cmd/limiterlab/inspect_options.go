package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
)

// inspectOptions are the flags of the subcommand inspect.
type inspectOptions struct {
	redis    string // URL
	cluster  bool
	sentinel string // name of the primary; empty if the URL is not a Sentinel's
	prefix   string
	limit    limiter.Limit
	interval time.Duration
	key      string
}

func (o *inspectOptions) flags() *flag.FlagSet {
	fs := flag.NewFlagSet(inspectCommand, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.StringVar(&o.redis, "redis", "redis://localhost:6379", "`URL` of Redis")
	fs.BoolVar(&o.cluster, "cluster", false, "the URL is of a node of a Redis Cluster")
	fs.StringVar(&o.sentinel, "sentinel", "", "the URL is of a Sentinel that watches the primary of this `name`")
	fs.StringVar(&o.prefix, "prefix", "limiter", "the fleet's Config.Prefix")
	fs.Func("limit", "the `limit` to see the key by (default: that of the last report)", o.setLimit)
	fs.DurationVar(&o.interval, "interval", 100*time.Millisecond, "the fleet's Config.SyncInterval")
	return fs
}

func (o *inspectOptions) setLimit(s string) error {
	l, err := limiter.ParseLimit(s)
	if err != nil {
		return err
	}
	if l.Rate == rate.Inf || l.Rate <= 0 {
		return errors.New("a limit that is unlimited or nothing has no state")
	}
	o.limit = l
	return nil
}

func parseInspectOptions(args []string) (*inspectOptions, error) {
	o := &inspectOptions{}
	fs := o.flags()
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	var errs []error
	if o.interval <= 0 {
		errs = append(errs, errors.New("-interval must be above 0"))
	}
	if o.cluster && o.sentinel != "" {
		errs = append(errs, errors.New("-cluster and -sentinel exclude each other"))
	}
	if _, err := redis.ParseURL(o.redis); err != nil {
		errs = append(errs, fmt.Errorf("-redis: %w", err))
	}
	if fs.NArg() != 1 {
		errs = append(errs, fmt.Errorf("want one key after the flags, but %d were given", fs.NArg()))
	}
	o.key = fs.Arg(0)
	return o, errors.Join(errs...)
}
