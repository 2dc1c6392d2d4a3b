package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/redisstore"
)

// mostTop is the largest number of keys that -top lists.
const mostTop = 10_000

// inspectOptions are the flags of the subcommand inspect.
type inspectOptions struct {
	redis    string                  // URL
	options  *redis.UniversalOptions // of the client
	cluster  bool
	sentinel string // name of the primary; empty if the URL is not a Sentinel's
	prefix   string
	limit    limiter.Limit
	interval time.Duration
	top      int  // number of keys to list; 0: none
	json     bool // of the list
	key      string
}

func (o *inspectOptions) flags() *flag.FlagSet {
	fs := flag.NewFlagSet(inspectCommand, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.StringVar(&o.redis, "redis", "", "`URL` of Redis, as limiter.ClientFromURL takes it, or host:port (default: that in the environment's REDIS_URL, or redis://localhost:6379)")
	fs.BoolVar(&o.cluster, "cluster", false, "the URL is of a node of a Redis Cluster")
	fs.StringVar(&o.sentinel, "sentinel", "", "the URL is of a Sentinel that watches the primary of this `name`")
	fs.StringVar(&o.prefix, "prefix", "limiter", "the fleet's Config.Prefix")
	fs.Func("limit", "the `limit` to see the key by (default: that of the last report)", o.setLimit)
	fs.DurationVar(&o.interval, "interval", 100*time.Millisecond, "the fleet's Config.SyncInterval")
	fs.Func("top", "list the `number` of keys that the fleet denies most, or uses most, in place of one KEY", o.setTop)
	fs.BoolVar(&o.json, "json", false, "print the list of -top as JSON")
	return fs
}

func (o *inspectOptions) setTop(s string) (err error) {
	if o.top, err = strconv.Atoi(s); err != nil || o.top < 1 || o.top > mostTop {
		return fmt.Errorf("want a number from 1 to %d", mostTop)
	}
	return nil
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
	source := "-redis"
	if o.redis == "" { // a password in the environment is in no list of processes
		source, o.redis = "REDIS_URL", cmp.Or(os.Getenv("REDIS_URL"), "redis://localhost:6379")
	}
	if err := o.setOptions(); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", source, err))
	}
	switch {
	case o.top > 0 && fs.NArg() != 0:
		errs = append(errs, errors.New("-top lists keys: leave the key out"))
	case o.top > 0 && o.limit != limiter.Limit{}:
		errs = append(errs, errors.New("-limit is for one key: -top shows each by the limit of its last report"))
	case o.top == 0 && o.json:
		errs = append(errs, errors.New("-json is for -top"))
	case o.top == 0 && fs.NArg() != 1:
		errs = append(errs, fmt.Errorf("want one key after the flags, but %d were given", fs.NArg()))
	}
	o.key = fs.Arg(0)
	return o, errors.Join(errs...)
}

// setOptions sets the options of the client from the URL, and the flags that say more of
// its server.
func (o *inspectOptions) setOptions() (err error) {
	if o.options, err = redisstore.OptionsFromURL(o.redis); err != nil {
		return err
	}
	c := o.options
	switch {
	case o.cluster && c.MasterName != "":
		return errors.New("-cluster is not for the URL of Sentinels")
	case o.cluster && strings.HasPrefix(c.Addrs[0], "/"):
		return errors.New("-cluster is not for a socket")
	case o.cluster:
		c.IsClusterMode = true
	case o.sentinel != "" && c.MasterName == "":
		c.MasterName, c.IsClusterMode = o.sentinel, false
		c.SentinelUsername, c.SentinelPassword = c.Username, c.Password
		if c.TLSConfig != nil {
			c.TLSConfig.ServerName = "" // the primary has another
		}
	case o.sentinel != "":
		c.MasterName = o.sentinel
	}
	o.cluster = c.IsClusterMode
	return nil
}
