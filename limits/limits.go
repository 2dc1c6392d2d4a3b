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

// Options is the options of [Open]. Zero fields have defaults.
type Options struct {
	// Interval is the time between two reads of the source. Default: 5 s.
	Interval time.Duration
	// Logger receives changes, and errors, each once until it changes. It may
	// block: the newest 64 lines wait for it, and the next line has the number
	// of dropped ones. Default: [slog.Default].
	Logger *slog.Logger
}

const (
	defaultInterval = 5 * time.Second
	longestRead     = 10 * time.Second       // time after which the ctx of a read is cancelled
	lastWords       = time.Second            // time from then on for the source's own error
	closeLines      = 100 * time.Millisecond // time for the last log lines, in Close
)

// Limits is a set of limits that follows its source. Its methods may be called from
// any goroutine. Looking up a key takes no lock.
type Limits struct {
	source Source
	opts   Options
	log    *notify.Log
	table  atomic.Pointer[table]
	fault  atomic.Pointer[error] // error of the last read; never nil
	out    chan struct{}         // full while the source is being read

	stop    context.CancelFunc
	ctx     context.Context
	watcher sync.WaitGroup

	mu       sync.Mutex // one change at a time
	limiters []*limiter.Limiter
}

// Open reads the limits of a source, or returns their errors. [Limits.Watch] follows
// their changes.
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

// Default returns the limit of all keys without another rule, for
// [limiter.Config.Limit].
func (ls *Limits) Default() limiter.Limit { return ls.table.Load().beginnings[""].limit }

// LimitFor returns the limit of a key, for [limiter.Config.LimitFor]. It returns
// false if the default applies.
func (ls *Limits) LimitFor(key string) (lim limiter.Limit, ok bool) {
	t := ls.table.Load()
	lim = t.of(key).limit
	return lim, lim != t.beginnings[""].limit
}

// Shadow reports whether a key's limit is in shadow mode, for
// [limiter.Config.Shadow].
func (ls *Limits) Shadow(key string) bool { return ls.table.Load().of(key).shadow }

// Err returns the error of the last read of the source, or nil if the limits are its
// present ones.
func (ls *Limits) Err() error { return *ls.fault.Load() }

// Watch makes a limiter follow the limits until Close. One goroutine serves all
// limiters that follow them.
func (ls *Limits) Watch(l *limiter.Limiter) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.apply(l)
	ls.limiters = append(ls.limiters, l)
	if len(ls.limiters) == 1 && ls.ctx.Err() == nil {
		ls.watcher.Go(ls.watch)
	}
}

// Close ends the watch. The limits stay. Close does not wait for a hung source. It
// waits at most a second for a limiter whose LimitFor blocks, and a tenth of a second
// for the Logger.
func (ls *Limits) Close() {
	ls.mu.Lock()
	ls.stop() // no watcher starts after this
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

// look reads the source, and applies its rules if they are new and without error.
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

// lasting returns the text of an error without the local address of a connection,
// whose port differs each time.
func lasting(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Source != nil {
		return strings.ReplaceAll(err.Error(), op.Source.String(), "")
	}
	return err.Error()
}

// apply makes a limiter look up all limits again.
func (ls *Limits) apply(l *limiter.Limiter) {
	if err := l.SetLimit(ls.Default()); err != nil {
		ls.log.Error("limits: the default stays", "err", err)
	}
	l.Reload()
}

// read calls the source on another goroutine, because a file on a hung mount ignores
// ctx. It starts no second call before the first returns.
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
