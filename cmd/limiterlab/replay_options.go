package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/time/rate"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/logs"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/replay"
)

// replayOptions are the flags of the subcommand replay.
type replayOptions struct {
	files     []string
	limit     limiter.Limit
	key       logs.Key
	format    string // empty to find out
	timeField string // empty to find out
	processes int
	spread    string
	outage    *replay.Spell
	suggest   float64 // percent; below 0 for no suggestion
	top       int
	maxKeys   int
	html      string // path; empty for no page
}

const (
	defaultKey     = "ip"
	defaultMaxKeys = 1_000_000
	spreadRound    = "round-robin"
	spreadByKey    = "key"
	noSuggestion   = -1
)

// flags returns the subcommand's flags, which write into o.
func (o *replayOptions) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("limiterlab replay", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.Func("limit", "the `limit` of each key, like 100/m or \"10/s burst 50\"; required", o.setLimit)
	fs.Func("key", "`field` to limit by: ip (the client), addr:FIELD, or a field; several with + (default \""+defaultKey+"\")", o.setKey)
	fs.StringVar(&o.format, "format", "", "`format` of the log, one of those above; found out if not given")
	fs.StringVar(&o.timeField, "time-field", "", "`name` of the field or column that holds the time, or date+time; found out if not given")
	fs.IntVar(&o.processes, "processes", 1, "`number` of processes that the requests reach: what would a fleet change?")
	fs.StringVar(&o.spread, "spread", spreadRound, "`way` in which they reach them: "+spreadRound+", or "+spreadByKey+" (all of a key at one)")
	fs.Func("outage", "what would a `spell` without Redis change? 14:00-14:05, 14:00+5m, or from the beginning 1h+5m", o.setOutage)
	fs.Float64Var(&o.suggest, "suggest", noSuggestion, "find the smallest limit of the same period that denies at most this `percent` of requests")
	fs.IntVar(&o.top, "top", 10, "`number` of keys to list that were denied most")
	fs.IntVar(&o.maxKeys, "max-keys", defaultMaxKeys, "`number` of keys to remember at once, the least recently used are forgotten")
	fs.StringVar(&o.html, "html", "", "write the report as a page, too, to this `path`")
	return fs
}

func (o *replayOptions) setLimit(s string) error {
	l, err := limiter.ParseLimit(s)
	if err != nil {
		return err
	}
	if l.Rate == rate.Inf || l.Rate <= 0 {
		return errors.New("a replay needs a limit that is neither unlimited nor nothing")
	}
	o.limit = l
	return nil
}

func (o *replayOptions) setKey(s string) (err error) {
	o.key, err = logs.ParseKey(s)
	return err
}

func (o *replayOptions) setOutage(s string) error {
	sp, err := replay.ParseSpell(s)
	o.outage = &sp
	return err
}

// parseReplayOptions accepts flags before, between and after the files.
func parseReplayOptions(args []string) (replayOptions, error) {
	var o replayOptions
	if err := o.setKey(defaultKey); err != nil {
		return o, err
	}
	fs := o.flags()
	for {
		if err := fs.Parse(args); err != nil {
			return o, err
		}
		if fs.NArg() == 0 {
			err := o.validate()
			return o, err
		}
		o.files, args = append(o.files, fs.Arg(0)), fs.Args()[1:]
	}
}

// validate returns all faults at once.
func (o *replayOptions) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.limit != limiter.Limit{}, "-limit is required: -limit 100/m")
	check(o.format == "" || slices.Contains(logs.Formats, o.format), "-format must be one of %s", strings.Join(logs.Formats, ", "))
	check(o.processes >= 1 && o.processes <= maxProcesses, "-processes must be 1 to %d", maxProcesses)
	check(o.spread == spreadRound || o.spread == spreadByKey, "-spread must be %s or %s", spreadRound, spreadByKey)
	check(o.suggest == noSuggestion || o.suggest >= 0 && o.suggest < 100, "-suggest must be a percentage from 0, below 100")
	check(o.top >= 0, "-top must not be negative")
	check(o.maxKeys >= 1 && o.maxKeys <= math.MaxInt32, "-max-keys must be 1 to %d", math.MaxInt32)
	check(folderExists(o.html), "-html: there is no folder %s", filepath.Dir(o.html))
	stdin := slices.Index(o.files, logs.Stdin)
	check(stdin < 0 || !slices.Contains(o.files[stdin+1:], logs.Stdin), "stdin can be read only once")
	return errors.Join(errs...)
}
