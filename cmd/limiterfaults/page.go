package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/seed-e56e777b/limiter/internal/servertest/faultmatrix"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// page is the data of the page.
type page struct {
	began    time.Time
	load     string // of the machine, at first
	measured []*faultmatrix.Measured
	observed []*faultmatrix.Observed
	notRun   []error
}

func newPage() *page { return &page{began: time.Now(), load: load()} }

func (p *page) add(found []*faultmatrix.Measured) { p.measured = append(p.measured, found...) }

const method = `# Faults

Written by ` + "`make faults`" + `, which does all of this again in about 15 minutes; ` + "`go run ./cmd/limiterfaults -h`" + ` has more.

Every fault happens to a real Redis on which two fleets are at work at the same time: three operating-system processes
with clients of ` + "`limiter.Tune`" + `, and three with go-redis's defaults. Each asks for three times the limit (300/s, burst 30) of one
key, and for 16 other keys beside, on 100 ms rounds.

- **admitted** is over the limit, before the fault, while it lasts, and after its end and the return.
- **p99.99** and **slowest** are of all calls of Allow in the fleet, beside those of a bare ` + "`rate.Limiter`" + ` in the same loop: what the two
  have in common is the machine. Required: within the larger of twice the fault-free p99.99 and 1 ms.
- **Synced again** counts from the end of the cause; with Sentinel from the new primary's announcement, on a Cluster from the
  failure, until the last process says so for good. Required of tuned clients: 1 s, 1 s, 10 s.
- **lost / doubled**: a second limiter in each process has a bucket so large that it is never full. What Redis has of its key
  in the end is compared with what the processes admitted. Where Redis itself lost data, what was exchanged in the last
  round or two before, and seen by nobody else, may be lost or told twice: 0.3 s of the key's 90 tokens/s is allowed there.
- **log lines / changes / go-redis**: lines of the limiter's own log from the fault on, changes of state, and lines of go-redis on standard
  error, by the process that wrote most. Required: a line for each change, one a minute, and that the fault's name is in it.
- **not as required**: every requirement that this run did not meet, as judged by the program.

The network's faults are those of a proxy in between: what it drops is accepted by the kernel and goes no farther, so that
connections hang and are not reset. Clocks are stepped for a server that comes back with its data, by a library that is
preloaded into it.

`

const situations = `
## As services run it

Two fleets on one Redis go through each situation: three processes with clients of ` + "`limiter.Tune`" + `,
and three with go-redis's defaults. Each process reaches Redis through a proxy
of its own.

A fleet requests three times its limit (300/s, burst 30) at random instants,
spread over the processes that are alive. Workers call Wait, work for 10 ms and
call again, on 50/s, burst 5. Admitted is over the limit.

| situation | during | after | required |
| --- | --- | --- | --- |
| late packets | from the second second on | 10 s after its end | 0.95 to 1.08 during, 0.9 to 1.1 after, no second below 0.5 after |
| Redis stopped | 10 s | 5 s after its end | 0.9 to 1.1 during |
| all replaced | the first 5 s after the kill | the 15 s after that | 0.9 to 1.1 after |
| in turn | from 1 s after the last loses it, 11 s: then they get it back, 1 s apart | from 1 s after the last has it back, 10 s | 0.92 to 1.08 during, 0.9 to 1.1 after |
| workers wait | from 2 s after the kill, until Redis is back | from 2 s after that, 8 s | 0.9 to 1.1 always, no second above 1.5 times what the rate and the burst give |

`

func (p *page) write(w io.Writer) {
	fmt.Fprint(w, method)
	fmt.Fprintln(w, p.machine())
	fmt.Fprintln(w)
	faultmatrix.WriteTable(w, p.measured)
	fmt.Fprint(w, situations)
	faultmatrix.WriteSituations(w, p.observed)
	p.writeStories(w)
	if len(p.notRun) > 0 {
		fmt.Fprint(w, "\nNot run:\n\n")
	}
	for _, err := range p.notRun {
		fmt.Fprintf(w, "- %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

// writeStories writes the events and log lines of the runs.
func (p *page) writeStories(w io.Writer) {
	fmt.Fprint(w, "\n## What was said\n\nBy the process of each fleet that said most: its log, and what OnChange was given, in seconds from the fault's begin.\n\n```\n")
	for _, m := range p.measured {
		fmt.Fprintf(w, "%s (%s client)\n%s\n", m.Fault.Name, m.Kind, m.Story())
	}
	fmt.Fprint(w, "```\n")
}

// machine returns the machine and versions of the measurement.
func (p *page) machine() string {
	return fmt.Sprintf("Measured on %s in %s: %s/%s, %d cores, load %s at first and %s at the end; %s, go-redis %s, %s.",
		p.began.Format(time.DateOnly), time.Since(p.began).Round(time.Second), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(),
		p.load, load(), runtime.Version(), version("github.com/redis/go-redis/v9"), redisserver.Version())
}

// load returns the mean number of runnable processes in the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

func version(module string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, d := range info.Deps {
		if d.Path == module {
			return d.Version
		}
	}
	return "unknown"
}
