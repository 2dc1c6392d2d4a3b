package live

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/store"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/traffic"
)

// Command steers a run. Fields that the command does not use are zero.
type Command struct {
	Do      string  // one of the names in commands
	Process int     // to stop, counted from 1
	Load    Load    // of move
	Demand  float64 // in times the limit
	Calls   Calls   // of calls
}

// ErrUnknown is returned if there is no such command, or none with this argument.
var ErrUnknown = errors.New("unknown command")

// commands are the commands by name. Each returns a sentence about its effect, or
// an error if it did nothing.
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

// Do executes a command and returns a sentence about its effect. An error is the
// reason for which it did nothing.
func (l *Lab) Do(ctx context.Context, c Command) (string, error) {
	do, ok := commands[c.Do]
	if !ok {
		return "", fmt.Errorf("%w %q", ErrUnknown, c.Do)
	}
	l.commands.Lock()
	defer l.commands.Unlock()
	at := l.now() // its consequences come after it in the news
	said, err := do(l, ctx, c)
	if err != nil {
		return "", err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.news.say(at, said)
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

// away reports whether Redis gives no answer in this mode.
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

// fate returns a sentence about a change of Redis.
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
	return "Redis is wiped: it has lost all data of the fleet.", nil
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
		return fmt.Sprintf("Process %d stops: its load goes to the remaining %d.", c.Process, left), nil
	}
	return fmt.Sprintf("Process %d stops, the last one: there are no more requests.", c.Process), nil
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
		said = fmt.Sprintf("%v gets the most, the k-th process 1/k of that.", running[0])
	case Even:
		said = fmt.Sprintf("all %d processes get the same.", len(running))
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

// nextHeavyLocked returns the number of the process that gets all the load next:
// another one each time.
func (l *Lab) nextHeavyLocked(running []*process) int {
	if l.load != One {
		return running[len(running)-1].number // it had the least
	}
	k := l.heavyLocked(running)
	return running[(k+1)%len(running)].number
}

// demands are the demands to choose from, in times the limit, beside the first one.
var demands = map[float64]bool{0.5: true, 1: true, 3: true, 10: true}

// MaxDemand is the largest demand, in times the limit.
const MaxDemand = 10

func (l *Lab) setDemand(_ context.Context, c Command) (string, error) {
	if !demands[c.Demand] && c.Demand != l.cfg.Demand {
		return "", fmt.Errorf("%w: demand %v", ErrUnknown, c.Demand)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == Wait {
		return "", errors.New("waiting workers set their own demand: choose Allow first")
	}
	l.demand = c.Demand
	l.spreadLocked()
	return fmt.Sprintf("The demand is %v times the limit.", c.Demand), nil
}

// setCalls changes the kind of the fleet's calls.
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
		said = fmt.Sprintf("Callers wait: %d workers in each process on average. Each waits for a token, works for %v, and waits again.", l.workers, traffic.Work)
	default:
		said = fmt.Sprintf("Callers do not wait: the demand is %v times the limit.", l.demand)
	}
	l.calls = c.Calls
	l.spreadLocked()
	return said, nil
}
