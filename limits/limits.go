package limits

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/notify"
)

// Options of [Open]; zero fields have defaults.
type Options struct {
	// Interval is the time between two looks at the source. Default 5 s.
	Interval time.Duration
	// Logger receives changes, and faults, each once until it changes. One that
	// blocks holds up nothing: the newest 64 lines wait for it, and the next one
	// written says how many are missing. Default [slog.Default].
	Logger *slog.Logger
}

const (
	defaultInterval = 5 * time.Second
	longestRead     = 10 * time.Second       // a source that takes longer is told to give up
	lastWords       = time.Second            // and has this long to say why
	closeLines      = 100 * time.Millisecond // for log lines that are still to be written
)

// Limits is a set of limits that follows its source. Its methods may be called
// from any goroutine; looking a key up takes no lock.
type Limits struct {
	source Source
	opts   Options
	log    *notify.Log
	table  atomic.Pointer[table]
	fault  atomic.Pointer[error] // of the last look; never nil
	out    chan struct{}         // full while the source is being read

	stop    context.CancelFunc
	ctx     context.Context
	watcher sync.WaitGroup

	mu       sync.Mutex // one change at a time
	limiters []*limiter.Limiter
}

// Open reads the limits, or says what is wrong with them. It does not watch
// them yet.
func Open(ctx context.Context, source Source, opts Options) (*Limits, error) {
	if opts.Interval < 0 {
		return nil, fmt.Errorf("limits: an interval of %v", opts.Interval)
	}
	if opts.Interval == 0 {
		opts.Interval = defaultInterval
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	ls := &Limits{source: source, opts: opts, log: notify.NewLog(opts.Logger), out: make(chan struct{}, 1)}
	t, err := ls.read(ctx)
	if err != nil {
		return nil, err
	}
	ls.table.Store(t)
	ls.fault.Store(new(error))
	ls.ctx, ls.stop = context.WithCancel(context.Background())
	return ls, nil
}

// Default is the limit of all keys that no other rule fits, for
// [limiter.Config.Limit].
func (ls *Limits) Default() limiter.Limit { return ls.table.Load().beginnings[""].limit }

// LimitFor is for [limiter.Config.LimitFor]: !ok means the default.
func (ls *Limits) LimitFor(key string) (lim limiter.Limit, ok bool) {
	t := ls.table.Load()
	lim = t.of(key).limit
	return lim, lim != t.beginnings[""].limit
}

// Shadow is for [limiter.Config.Shadow].
func (ls *Limits) Shadow(key string) bool { return ls.table.Load().of(key).shadow }

// Err is what was wrong at the last look at the source; nil: nothing, the
// limits are those that it has.
func (ls *Limits) Err() error { return *ls.fault.Load() }

// Watch has a limiter follow the limits, on one goroutine for all limiters that
// follow the same, until Close.
func (ls *Limits) Watch(l *limiter.Limiter) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.apply(l)
	ls.limiters = append(ls.limiters, l)
	if len(ls.limiters) == 1 && ls.ctx.Err() == nil {
		ls.watcher.Go(ls.watch)
	}
}

// Close ends the watch. It does not wait for a source that hangs, at most a
// second for a LimitFor that blocks while its limiter reloads, and a tenth of a
// second for the Logger. Limits stay what they are.
func (ls *Limits) Close() {
	ls.mu.Lock()
	ls.stop() // no watcher starts from here on
	ls.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		ls.watcher.Wait()
		close(ended)
	}()
	late := time.NewTimer(lastWords)
	defer late.Stop()
	select {
	case <-ended:
	case <-late.C:
	}
	ls.log.Wait(closeLines)
}

func (ls *Limits) watch() {
	tick := time.NewTicker(ls.opts.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ls.ctx.Done():
			return
		case <-tick.C:
			ls.look()
		}
	}
}

// look takes over what the source has, if it has something new and all of it is
// good.
func (ls *Limits) look() {
	t, err := ls.read(ls.ctx)
	if ls.ctx.Err() != nil {
		return // Close
	}
	if err != nil {
		if last := ls.Err(); last == nil || lasting(last) != lasting(err) {
			ls.log.Error("limits: the last good ones stay", "err", err)
		}
		ls.fault.Store(&err)
		return
	}
	ls.fault.Store(new(error))
	if reflect.DeepEqual(t, ls.table.Load()) {
		return
	}
	ls.mu.Lock()
	ls.table.Store(t)
	limiters := slices.Clone(ls.limiters)
	ls.mu.Unlock()
	for _, l := range limiters {
		ls.apply(l) // without the lock: LimitFor may block
	}
	ls.log.Info("limits: changed", "rules", len(t.keys)+len(t.beginnings))
}

// lasting is the text of a fault without the address that a connection came
// from, whose port is another one each time.
func lasting(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Source != nil {
		return strings.ReplaceAll(err.Error(), op.Source.String(), "")
	}
	return err.Error()
}

// apply has a limiter ask for all limits again.
func (ls *Limits) apply(l *limiter.Limiter) {
	if err := l.SetLimit(ls.Default()); err != nil {
		ls.log.Error("limits: the default stays", "err", err)
	}
	l.Reload()
}

// read asks the source on a goroutine of its own, since a file on a mount that
// hangs heeds no ctx; until that is back, no other is started.
func (ls *Limits) read(ctx context.Context) (*table, error) {
	ctx, cancel := context.WithTimeout(ctx, longestRead+lastWords)
	defer cancel()
	asking, giveUp := context.WithTimeout(ctx, longestRead)
	defer giveUp()
	var rules []Rule
	var err error
	back := make(chan struct{})
	select {
	case ls.out <- struct{}{}:
		go func() {
			rules, err = ls.source(asking)
			<-ls.out
			close(back)
		}()
	case <-ctx.Done():
	}
	select {
	case <-back:
	case <-ctx.Done():
		return nil, fmt.Errorf("limits: the source is still being read: %w", ctx.Err())
	}
	if err != nil {
		return nil, err
	}
	return newTable(rules)
}
