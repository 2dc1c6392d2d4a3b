package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
)

// options is what the flags say.
type options struct {
	duration  time.Duration
	limit     limiter.Limit
	n         int
	load      float64
	seed      uint64
	server    string // redis-server to start; empty: none
	redis     string // URL of one that runs; empty: none
	processes bool
	svg       string // path; empty: no chart
	quiet     bool
}

const (
	defaultLimit = "1000/s burst 100"
	redisServer  = "redis-server"
	maxProcesses = 200
	maxRequests  = 50e6 // they are kept in memory, 24 bytes each
	minDuration  = 3 * time.Second
)

// flags are the lab's flags, which write into o.
func (o *options) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("limiterlab", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.DurationVar(&o.duration, "for", 30*time.Second, "how long the run takes; Redis is away in its middle third")
	fs.Func("limit", "the fleet's `limit` (default \""+defaultLimit+"\")", o.setLimit)
	fs.IntVar(&o.n, "n", 5, "number of `processes` that share the limit")
	fs.Float64Var(&o.load, "load", 3, "how many `times` the limit the traffic asks for")
	fs.Uint64Var(&o.seed, "seed", 1, "seed of the traffic")
	fs.StringVar(&o.server, "server", "", "start a `redis-server` (on the PATH), kill it, start it again")
	fs.StringVar(&o.redis, "redis", "", "use a Redis that runs, at this `URL`, and cut it off by a proxy; it is not harmed")
	fs.BoolVar(&o.processes, "processes", false, "run every limiter as an operating-system process of its own")
	fs.StringVar(&o.svg, "svg", "limiterlab.svg", "`path` of the chart; empty for none")
	fs.BoolVar(&o.quiet, "q", false, "no line a second, only the report at the end")
	return fs
}

// setLimit is the flag -limit.
func (o *options) setLimit(s string) error {
	l, err := limiter.ParseLimit(s)
	if err != nil {
		return err
	}
	if l.Rate == rate.Inf || l.Rate <= 0 {
		return errors.New("the lab needs a limit that is neither unlimited nor nothing")
	}
	o.limit = l
	return nil
}

func parseOptions(args []string) (options, error) {
	var o options
	if err := o.setLimit(defaultLimit); err != nil {
		return o, err
	}
	fs := o.flags()
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("there is no argument beside flags, but %q was given", fs.Arg(0))
	}
	if err := o.validate(); err != nil {
		return o, err
	}
	return o, nil
}

// validate names all faults at once.
func (o *options) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.duration >= minDuration, "-for must be at least %v", minDuration)
	check(o.n >= 1 && o.n <= maxProcesses, "-n must be 1 to %d", maxProcesses)
	check(o.load > 0 && !math.IsInf(o.load, 0), "-load must be above 0")
	check(o.server == "" || o.server == redisServer, "-server can only be %q, which must be on the PATH", redisServer)
	check(o.server == "" || o.redis == "", "-server and -redis exclude each other")
	if o.redis != "" {
		_, err := redis.ParseURL(o.redis)
		check(err == nil, "-redis: %w", err)
	}
	check(folderExists(o.svg), "-svg: there is no folder %s", filepath.Dir(o.svg))
	if requests := o.rate() * o.duration.Seconds(); len(errs) == 0 {
		check(requests <= maxRequests, "that would be %.0f million requests, more than the %.0f million that the lab keeps: lower -limit, -load or -for",
			requests/1e6, maxRequests/1e6)
	}
	return errors.Join(errs...)
}

// rate is what the traffic asks for, in calls per second.
func (o *options) rate() float64 { return float64(o.limit.Rate) * o.load }

func folderExists(svg string) bool {
	if svg == "" {
		return true
	}
	info, err := os.Stat(filepath.Dir(svg))
	return err == nil && info.IsDir()
}
