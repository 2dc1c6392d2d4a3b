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

const head = `# Faults

What faults of a real Redis do to fleets of processes that share a limit, and what
deploys, brownouts and waiting workers do to them. Written by ` + "`make faults`" + `, in
about 15 minutes; ` + "`go run ./cmd/limiterfaults -h`" + ` runs a part of it.

`

const method = `
What is not as required is named in the last column of each table. [faults.txt](faults.txt)
has the log lines of each fault, and what OnChange was given.

## How to read it

Every fault happens to a real Redis with two fleets on it: three operating-system
processes with clients of ` + "`limiter.Tune`" + `, and three with go-redis's defaults. Each
fleet requests three times its limit (300/s, burst 30) of one key, and 16 other
keys, in rounds of 100 ms.

- **admitted**: over the limit, before the fault, during it, and after the return.
  Required: 0.95 to 1.1 in an outage, 0.9 to 1.1 after it.
- **p99.99** and **slowest**: of all calls of Allow, beside a bare ` + "`rate.Limiter`" + ` in the
  same loop, which shows the machine's part. Required: within twice the fault-free
  p99.99, or 1 ms.
- **Synced again**: from the end of the cause until the last process is synced for
  good. With Sentinel from the new primary's announcement, on a Cluster from the
  failure. Required of tuned clients: 1 s, 1 s, 10 s.
- **lost / doubled**: tokens of a key whose bucket is never full, in Redis against
  the processes' own count. A Redis that lost data may lose or double 0.3 s of the
  key's 90 tokens/s.
- **log lines / changes / go-redis**: of the process that wrote most: lines of the
  limiter, changes of state, lines of go-redis on standard error. Required: a line
  for each change, one a minute, with the fault's name.

Network faults are those of a proxy: what it drops is accepted by the kernel and goes
no farther, so connections hang and are not reset. A library preloaded into the
server steps its clock.

`

const situations = `
## As services run it

Two fleets as above go through each situation. Each process reaches Redis through a
proxy of its own. Requests come at random instants, spread over the processes that
are alive. Workers call Wait, work for 10 ms and call again, on 50/s, burst 5.

| situation | during | after | required |
| --- | --- | --- | --- |
| late packets | from the second second on | 10 s after its end | 0.95 to 1.08 during, 0.9 to 1.1 after, no second below 0.5 after |
| Redis stopped | 10 s | 5 s after its end | 0.9 to 1.1 during |
| all replaced | the first 5 s after the kill | the 15 s after that | 0.9 to 1.1 after |
| in turn | from 1 s after the last loses it, 11 s: then they get it back, 1 s apart | from 1 s after the last has it back, 10 s | 0.92 to 1.08 during, 0.9 to 1.1 after |
| workers wait | from 2 s after the kill, until Redis is back | from 2 s after that, 8 s | 0.9 to 1.1 always, no second above 1.5 times what the rate and the burst give |

`

func (p *page) write(w io.Writer) {
	fmt.Fprint(w, head)
	faultmatrix.WriteSummary(w, p.measured)
	fmt.Fprint(w, method)
	fmt.Fprintln(w, p.machine())
	fmt.Fprintln(w)
	faultmatrix.WriteTable(w, p.measured)
	fmt.Fprint(w, situations)
	faultmatrix.WriteSituations(w, p.observed)
	if len(p.notRun) > 0 {
		fmt.Fprint(w, "\nNot run:\n\n")
	}
	for _, err := range p.notRun {
		fmt.Fprintf(w, "- %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

// writeStories writes the events and log lines of the runs, for faults.txt.
func (p *page) writeStories(w io.Writer) {
	fmt.Fprint(w, "By the process of each fleet that logged most: its log, and what OnChange was given, in seconds from the fault's begin.\n\n")
	for _, m := range p.measured {
		fmt.Fprintf(w, "%s (%s client)\n%s\n", m.Fault.Name, m.Kind, m.Story())
	}
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
