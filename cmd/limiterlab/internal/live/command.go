package live

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/store"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/traffic"
)

// Command is what somebody wishes. What only some commands need is 0 elsewhere.
type Command struct {
	Do      string  // one of the names in commands
	Process int     // from 1: which one to stop
	Load    Load    // how to spread the load
	Demand  float64 // in times the limit
	Calls   Calls   // how to ask
}

// ErrUnknown says that there is no such command, or not of this kind.
var ErrUnknown = errors.New("unknown command")

// commands by their names; each says what it did, or why it did nothing.
var commands = map[string]func(*Lab, context.Context, Command) (string, error){
	"kill":    func(l *Lab, ctx context.Context, _ Command) (string, error) { return l.setRedis(ctx, store.Dead) },
	"freeze":  func(l *Lab, ctx context.Context, _ Command) (string, error) { return l.setRedis(ctx, store.Frozen) },
	"slow":    func(l *Lab, ctx context.Context, _ Command) (string, error) { return l.setRedis(ctx, store.Slow) },
	"restore": func(l *Lab, ctx context.Context, _ Command) (string, error) { return l.setRedis(ctx, store.Up) },
	"wipe":    (*Lab).wipe,
	"add":     (*Lab).addProcess,
	"stop":    (*Lab).stopProcess,
	"move":    (*Lab).moveLoad,
	"demand":  (*Lab).setDemand,
	"calls":   (*Lab).setCalls,
}

// Do does what a command says and returns a sentence about it; an error is a
// sentence too: why it did nothing.
func (l *Lab) Do(ctx context.Context, c Command) (string, error) {
	do, ok := commands[c.Do]
	if !ok {
		return "", fmt.Errorf("%w %q", ErrUnknown, c.Do)
	}
	l.commands.Lock()
	defer l.commands.Unlock()
	said, err := do(l, ctx, c)
	if err != nil {
		return "", err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sayLocked(l.now(), said)
	return said, nil
}

// setRedis changes how Redis behaves.
func (l *Lab) setRedis(ctx context.Context, to store.Mode) (string, error) {
	was := l.cfg.Redis.Mode()
	switch {
	case was == to:
		return "", fmt.Errorf("redis is %s already", to)
	case was == store.Dead && to != store.Up:
		return "", errors.New("redis is dead: restore it first")
	}
	if away(to) && !away(was) {
		l.noteOutage(true)
	}
	err := l.cfg.Redis.Set(ctx, to)
	is := l.cfg.Redis.Mode()
	if !away(is) && (away(was) || away(to)) {
		l.noteOutage(false)
	}
	l.noteMode(is)
	return l.fate(was, is), err
}

// away says whether nobody gets an answer.
func away(m store.Mode) bool { return m == store.Dead || m == store.Frozen }

func (l *Lab) noteOutage(begins bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.account.outage(l.now(), begins)
}

func (l *Lab) noteMode(m store.Mode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mode, l.since = m, l.now()
}

// fate is a sentence about what became of Redis.
func (l *Lab) fate(was, is store.Mode) string {
	dies, returns := l.cfg.Redis.Fate()
	switch {
	case is == store.Dead:
		return "Redis " + dies + "."
	case is == store.Frozen:
		return "Redis is frozen: its connections stay open, nothing is answered."
	case is == store.Slow:
		return fmt.Sprintf("Redis is slow: every answer takes %v more.", store.Delay)
	case was == store.Dead:
		return "Redis " + returns + "."
	case was == store.Frozen:
		return "Redis answers again, with all its data."
	}
	return "Redis is as quick as before."
}

func (l *Lab) wipe(ctx context.Context, _ Command) (string, error) {
	if l.cfg.Redis.Mode() == store.Dead {
		return "", errors.New("redis is dead: there is nothing to wipe")
	}
	if err := l.cfg.Redis.Wipe(ctx); err != nil {
		return "", err
	}
	return "Redis is wiped: all that the fleet has told it is gone.", nil
}

func (l *Lab) addProcess(context.Context, Command) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.runningLocked()) + 1
	switch {
	case l.ctx.Err() != nil:
		return "", errors.New("the lab has ended")
	case len(l.fleet) >= MaxProcesses:
		return "", fmt.Errorf("there are %d processes, and that is the most", MaxProcesses)
	case l.calls == Wait && n*l.workers > MaxWorkers:
		return "", fmt.Errorf("%d processes of %d workers would be more workers than %d", n, l.workers, MaxWorkers)
	}
	return fmt.Sprintf("Process %d starts: the load goes to %d.", l.startLocked(n).number+1, n), nil
}

func (l *Lab) stopProcess(_ context.Context, c Command) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.findLocked(c.Process)
	if err != nil {
		return "", err
	}
	p.stopping = true
	p.cancel()
	l.spreadLocked()
	if left := len(l.runningLocked()); left > 0 {
		return fmt.Sprintf("Process %d stops: its load goes to those that are left, %d.", c.Process, left), nil
	}
	return fmt.Sprintf("Process %d stops, the last one: nobody is asked any more.", c.Process), nil
}

func (l *Lab) moveLoad(_ context.Context, c Command) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	running := l.runningLocked()
	if len(running) == 0 {
		return "", errors.New("no process runs: add one first")
	}
	var said string
	switch c.Load {
	case Skewed:
		said = fmt.Sprintf("%v gets the most, the k-th after it 1/k of that.", running[0])
	case Even:
		said = fmt.Sprintf("all %d processes get as much.", len(running))
	case One:
		l.heavy = l.nextHeavyLocked(running)
		said = fmt.Sprintf("%v gets all of it.", running[l.heavyLocked(running)])
	default:
		return "", fmt.Errorf("%w: load %q", ErrUnknown, c.Load)
	}
	l.load = c.Load
	l.spreadLocked()
	return "The load moves: " + said, nil
}

// nextHeavyLocked is who gets all the load next: each time another one.
func (l *Lab) nextHeavyLocked(running []*process) int {
	if l.load != One {
		return running[len(running)-1].number // it had the least
	}
	k := l.heavyLocked(running)
	return running[(k+1)%len(running)].number
}

// demands are what the load may be, in times the limit, beside what it began with.
var demands = map[float64]bool{0.5: true, 1: true, 3: true, 10: true}

// MaxDemand is the largest demand that can be wished.
const MaxDemand = 10

func (l *Lab) setDemand(_ context.Context, c Command) (string, error) {
	if !demands[c.Demand] && c.Demand != l.cfg.Demand {
		return "", fmt.Errorf("%w: demand %v", ErrUnknown, c.Demand)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == Wait {
		return "", errors.New("workers that wait ask as often as they may: choose Allow first")
	}
	l.demand = c.Demand
	l.spreadLocked()
	return fmt.Sprintf("The fleet is asked for %v times the limit.", c.Demand), nil
}

// setCalls has the fleet asked in another way.
func (l *Lab) setCalls(_ context.Context, c Command) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var said string
	switch n := len(l.runningLocked()); {
	case c.Calls != Allow && c.Calls != Wait:
		return "", fmt.Errorf("%w: calls %q", ErrUnknown, c.Calls)
	case c.Calls == Wait && n*l.workers > MaxWorkers:
		return "", fmt.Errorf("%d processes of %d workers would be more workers than %d", n, l.workers, MaxWorkers)
	case c.Calls == Wait:
		said = fmt.Sprintf("Callers wait: %d workers a process on average, each of which waits for a token, works for %v, and waits again.", l.workers, traffic.Work)
	default:
		said = fmt.Sprintf("Callers do not wait: the fleet is asked for %v times the limit.", l.demand)
	}
	l.calls = c.Calls
	l.spreadLocked()
	return said, nil
}
