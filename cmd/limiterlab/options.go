package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/live"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/store"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/traffic"
)

// options are the lab's flags.
type options struct {
	duration  time.Duration
	limit     limiter.Limit
	n         int
	load      float64
	waiters   int // workers of each process that Wait; 0 for traffic by Allow
	seed      uint64
	server    string // redis-server to start; empty for none
	redis     string // URL of a running Redis; empty for none
	processes bool
	stop      time.Duration // time of the last process's SIGTERM; 0 for never
	svg       string        // path; empty for no chart
	quiet     bool
	http      string // host:port of the page; empty for none
}

const (
	defaultLimit = "1000/s burst 100"
	redisServer  = "redis-server"
	maxProcesses = live.MaxProcesses
	maxPageRate  = 100_000 // calls per second at the largest demand of the page
	maxRequests  = 50e6    // they are kept in memory, 24 bytes each
	minDuration  = 3 * time.Second
	minPressure  = 2 // demand of waiting workers in times the limit: enough for a queue at all times
)

// flags returns the lab's flags, which write into o.
func (o *options) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("limiterlab", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.DurationVar(&o.duration, "for", 30*time.Second, "length of the run; Redis is away in its middle third")
	fs.Func("limit", "the fleet's `limit` (default \""+defaultLimit+"\")", o.setLimit)
	fs.IntVar(&o.n, "n", 5, "number of `processes` that share the limit")
	fs.Float64Var(&o.load, "load", 3, "demand of the traffic, in `times` the limit")
	fs.IntVar(&o.waiters, "waiters", 0, "`workers` of each process that wait for tokens, in place of traffic")
	fs.Uint64Var(&o.seed, "seed", 1, "seed of the traffic")
	fs.StringVar(&o.server, "server", "", "start a `redis-server` (on the PATH), kill it, start it again")
	fs.StringVar(&o.redis, "redis", "", "use a Redis that runs, at this `URL`, and cut it off by a proxy; it is not harmed")
	fs.BoolVar(&o.processes, "processes", false, "run every limiter as an operating-system process of its own")
	fs.DurationVar(&o.stop, "stop", 0, "end the last of the -processes by SIGTERM after this `time`")
	fs.StringVar(&o.svg, "svg", "limiterlab.svg", "`path` of the chart; empty for none")
	fs.StringVar(&o.http, "http", "", "serve a live page at this `address`; :8080 is localhost only, 0.0.0.0:8080 is for all")
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
	if o.http != "" {
		if err := o.forPage(fs); err != nil {
			return o, err
		}
	} else if err := o.forWaiting(fs); err != nil {
		return o, err
	}
	if err := o.validate(); err != nil {
		return o, err
	}
	return o, nil
}

// validate returns all faults at once.
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
	check(o.waiters >= 0 && o.n*o.waiters <= live.MaxWorkers, "-waiters must be 0 to %d in all processes together", live.MaxWorkers)
	check(o.stop == 0 || o.processes && o.stop > 0 && o.stop < o.duration, "-stop needs -processes, and an instant within the run")
	check(o.server == "" || o.server == redisServer, "-server can only be %q, which must be on the PATH", redisServer)
	check(o.server == "" || o.redis == "", "-server and -redis exclude each other")
	if o.redis != "" {
		_, err := store.ParseURL(o.redis)
		check(err == nil, "-redis: %w", err)
	}
	check(folderExists(o.svg), "-svg: there is no folder %s", filepath.Dir(o.svg))
	if requests := o.rate() * o.duration.Seconds(); len(errs) == 0 && o.http == "" {
		check(requests <= maxRequests, "that would be %.0f million requests, more than the %.0f million that the lab keeps: lower %s or -for",
			requests/1e6, maxRequests/1e6, o.sizeFlags())
	}
	return errors.Join(errs...)
}

// forPage completes the address of the page. It returns an error for flags that
// have no use with it.
func (o *options) forPage(fs *flag.FlagSet) error {
	var errs []error
	fs.Visit(func(f *flag.Flag) {
		if f.Name == "for" || f.Name == "svg" || f.Name == "q" || f.Name == "stop" {
			errs = append(errs, fmt.Errorf("-%s is not for a run with -http, which has no end and draws its own chart", f.Name))
		}
	})
	host, port, err := net.SplitHostPort(o.http)
	if err != nil {
		errs = append(errs, fmt.Errorf("-http: want :8080 or host:8080: %w", err))
	}
	if host == "" {
		host = "localhost"
	}
	o.http = net.JoinHostPort(host, port)
	if most := float64(o.limit.Rate) * max(o.load, live.MaxDemand); most > maxPageRate {
		errs = append(errs, fmt.Errorf("that could be %.0f calls per second, more than the %d that the page can follow: lower -limit or -load", most, maxPageRate))
	}
	return errors.Join(errs...)
}

// forWaiting returns an error for a run of waiting workers that would not show a
// queue, and for a flag that has no use with them.
func (o *options) forWaiting(fs *flag.FlagSet) error {
	if o.waiters == 0 {
		return nil
	}
	var errs []error
	fs.Visit(func(f *flag.Flag) {
		if f.Name == "load" {
			errs = append(errs, errors.New("-load is not for a run with -waiters, whose workers ask as often as they may"))
		}
	})
	if least := int(math.Ceil(minPressure * float64(o.limit.Rate) / traffic.Demand(o.n))); o.n > 0 && o.waiters > 0 && o.waiters < least {
		errs = append(errs, fmt.Errorf("-waiters: %d workers use at most %.0f tokens per second, and few would wait: -waiters must be at least %d",
			o.n*o.waiters, traffic.Demand(o.n*o.waiters), least))
	}
	return errors.Join(errs...)
}

// rate returns the demand in calls per second: of the traffic, or of waiting
// workers without a limit.
func (o *options) rate() float64 {
	if o.waiters > 0 {
		return traffic.Demand(o.n * o.waiters)
	}
	return float64(o.limit.Rate) * o.load
}

// sizeFlags are the flags that rate depends on.
func (o *options) sizeFlags() string {
	if o.waiters > 0 {
		return "-n, -waiters"
	}
	return "-limit, -load"
}

func folderExists(svg string) bool {
	if svg == "" {
		return true
	}
	info, err := os.Stat(filepath.Dir(svg))
	return err == nil && info.IsDir()
}
