package faultmatrix

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/seed-e56e777b/limiter"
)

// jobVariable is the environment variable with which a program that calls Serve is a
// process of a fleet.
const jobVariable = "LIMITER_FAULT_JOB"

const drainCommand = "drain"

// Serve runs the job of a process of a fleet, and returns true if this process is one.
func Serve() bool {
	text := os.Getenv(jobVariable)
	if text == "" {
		return false
	}
	var job Job
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		panic(err)
	}
	run := job.run
	if job.Service != nil {
		run = job.serve
	}
	if err := run(os.Stdin, newReporter(os.Stdout)); err != nil {
		panic(err)
	}
	return true
}

// run makes requests until its input ends. Its input is names of phases, and the
// command to report all admissions.
func (j *Job) run(in io.Reader, t *reporter) error {
	client, exactClient := j.client(), j.client()
	defer client.Close()
	defer exactClient.Close()
	watched, err := limiter.New(limiter.Config{
		Limit: sharedLimit, Redis: client, Prefix: j.Kind.prefix(), Processes: processes,
		Logger:   slog.New(slog.NewTextHandler(&logLines{t: t}, nil)),
		OnChange: t.change,
	})
	if err != nil {
		return err
	}
	defer watched.Close()
	exact, err := limiter.New(limiter.Config{
		Limit: exactLimit, Redis: exactClient, Prefix: j.Kind.exactPrefix(), Processes: processes,
		SyncInterval: exactInterval, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer exact.Close()
	a := requester{watched: watched, exact: exact, bare: bareLimiter(), t: t}
	a.run(lines(in))
	return nil
}

func (t *reporter) change(st limiter.Status) {
	e := Event{State: st.State.String()}
	if st.Err != nil {
		e.Err = st.Err.Error()
	}
	t.report(e)
}

// logLines writes log lines as events.
type logLines struct{ t *reporter }

func (l *logLines) Write(p []byte) (int, error) {
	l.t.report(Event{Log: strings.TrimSpace(string(p))})
	return len(p), nil
}

func lines(in io.Reader) <-chan string {
	c := make(chan string)
	go func() {
		defer close(c)
		for s := bufio.NewScanner(in); s.Scan(); {
			c <- s.Text()
		}
	}()
	return c
}

// requester makes the requests of one process.
type requester struct {
	watched, exact *limiter.Limiter
	bare           interface{ Allow() bool }
	t              *reporter
	ticks, counted int
	drained        bool
}

// syncEvery is the interval of the exact limiter's syncs: that of other limiters, though
// its own is long.
const syncEvery = 100 * time.Millisecond

func (a *requester) run(commands <-chan string) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go a.syncAgainAndAgain(ctx)
	tick := time.NewTicker(period())
	defer tick.Stop()
	rec := newRecorder("start")
	for {
		select {
		case command, ok := <-commands:
			switch {
			case !ok:
				return
			case command == drainCommand:
				a.drain(ctx)
			default:
				rec.report(a.t)
				rec = newRecorder(command)
			}
		case <-tick.C:
			a.request(rec)
		}
	}
}

func (a *requester) syncAgainAndAgain(ctx context.Context) {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = a.exact.Sync(ctx) // fails during faults
		}
	}
}

func (a *requester) request(rec *recorder) {
	a.ticks++
	if rec.request(a.watched, a.bare, sharedKey) {
		rec.admitted++
	}
	for i := range perTick {
		rec.request(a.watched, a.bare, spareKeys[(a.ticks*perTick+i)%spares])
	}
	if a.ticks%10 == 0 && !a.drained && a.exact.Allow(exactKey) {
		a.counted++
	}
}

// drain reports all usage of the exact key, in the background, and ends its requests.
func (a *requester) drain(ctx context.Context) {
	a.drained = true
	go func() {
		for ctx.Err() == nil && a.exact.Sync(ctx) != nil {
			<-time.After(syncEvery)
		}
		a.t.report(Event{Drained: &a.counted})
	}()
}

var spareKeys = func() (keys [spares]string) {
	for i := range keys {
		keys[i] = fmt.Sprint("spare ", i)
	}
	return keys
}()

// recorder records one phase.
type recorder struct {
	name        string
	begin       time.Time
	admitted    int
	allow, bare []time.Duration
}

func newRecorder(name string) *recorder { return &recorder{name: name, begin: time.Now()} }

func (r *recorder) request(l *limiter.Limiter, bare interface{ Allow() bool }, key string) bool {
	t0 := time.Now()
	ok := l.Allow(key)
	t1 := time.Now()
	bare.Allow()
	r.allow, r.bare = append(r.allow, t1.Sub(t0)), append(r.bare, time.Since(t1))
	return ok
}

func (r *recorder) report(t *reporter) {
	p := Phase{Name: r.name, Took: time.Since(r.begin), Admitted: r.admitted}
	go func() { // so that sorting does not delay the next phase
		p.Allow, p.Bare = tailOf(r.allow), tailOf(r.bare)
		t.report(Event{Phase: &p})
	}()
}
