package main

import (
	"flag"
	"fmt"
	"strings"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/logs"
)

const usageHead = `Usage: limiterlab [flags]
       limiterlab replay -limit 100/m [flags] [access.log ...]
       limiterlab inspect [flags] KEY

A fleet of limiters, each with its own Redis client, shares one limit. Skewed
traffic requests more: the k-th process gets 1/k of the first one's requests.
Redis dies after a third of the run and comes back after two thirds. At the end
a table and a chart compare the fleet with one central bucket, failing open,
failing closed and private buckets, all fed the very same requests.

The exit code is 0 if the fleet was within 10 % of the central bucket in every
phase, 1 if it was not or the lab could not run, 2 for wrong flags, 130 after
Ctrl-C (which still prints the table up to then).

With -waiters each process has workers in place of traffic: each waits for a
token, works for 10 ms, and waits again. The number of a worker's requests then
depends on the limiter, so that the others get as many workers instead of the
very same requests. Those of the central bucket queue. The other three have no
Wait: their workers call Allow, and pause for 10 ms where they are denied.

With -http the run has no end and a page shows it live. Its buttons kill Redis,
freeze it, wipe it, slow it down and bring it back, add and stop processes, move
the load, and let callers wait (docs/lab.md). -limit, -n, -load, -waiters, -seed,
-server, -redis and -processes mean the same.

The subcommand replay applies a limit to the requests of real logs: limiterlab
replay -h. The subcommand inspect prints the state of a key of a real fleet in
Redis: limiterlab inspect -h.

Flags:
`

const usageTail = `
Examples:
  limiterlab                              with nothing installed
  limiterlab -http :8080                  a live page; open http://localhost:8080/
  limiterlab -waiters 20                  twenty workers in each process, which wait
  limiterlab -server redis-server         with a real Redis that is really killed
  limiterlab -processes -n 10 -for 1m     ten operating-system processes
  limiterlab -redis redis://localhost:6379 -limit "100/s burst 10"
`

var replayUsageHead = `Usage: limiterlab replay -limit 100/m [flags] [access.log ...]

Reads logs, packed with gzip or not, in the order given (none, or -, is stdin),
applies a limit to their requests, and prints the denials, their keys and times.
The format is one of these, and need not be named:

` + logs.FormatsHelp + `
Each may be inside the lines of syslog, journald, Docker, Kubernetes or compose.

The key ip is the client: the address of the connection or, behind a balancer,
the first of X-Forwarded-For. Where both may be right, name the field of the
client with -key addr:FIELD. It cuts the port, and takes the first of a list.

The exit code is 0 if all was read, 1 if a log or more than one in ten of its
lines could not be, 2 for wrong flags or an unclear client, 130 after Ctrl-C
(which still prints the findings up to then). Notes on keys that do not look
like clients are on stderr.

Flags:
`

const replayUsageTail = `
Examples:
  limiterlab replay -limit 100/m access.log.1 access.log
  limiterlab replay -limit 100/m -suggest 0.1 -html report.html access.log.gz
  limiterlab replay -limit 10/s -processes 10 -outage 14:00-14:05 access.log
  zcat *.json.gz | limiterlab replay -limit 5/m -key user+path -time-field ts
  limiterlab replay -limit 5/m -key addr:edge.client app.json
`

// usage returns the text of -h.
func usage() string {
	return usageHead + listFlags((&options{}).flags()) + usageTail
}

const inspectUsageHead = `Usage: limiterlab inspect [flags] KEY
       limiterlab inspect [flags] -top N

Prints the state of a key in the Redis of a fleet: its level or debt, the time
until it is full again, the fleet's demand, and the processes of the fleet. It
only reads (TIME, HMGET, HSCAN, INFO).

With -top it lists the N keys that the fleet denies most and, after those, the
ones with the most requests for their limit. It reads every key for that.

The exit code is 0 if Redis answered, even if it does not know the key; 1 if it
did not or nothing is stored under the prefix; 2 for wrong flags.

Flags:
`

const inspectUsageTail = `
Examples:
  limiterlab inspect user:42
  limiterlab inspect -top 20
  REDIS_URL=rediss://:secret@10.0.0.7 limiterlab inspect -prefix api user:42
  limiterlab inspect -redis redis://10.0.0.7:7000,10.0.0.8:7000 user:42
  limiterlab inspect -cluster -redis redis://10.0.0.7:7000 user:42
  limiterlab inspect -redis sentinel://10.0.0.7,10.0.0.8/mymaster -limit "10/s burst 50" user:42
`

// inspectUsage returns the text of inspect -h.
func inspectUsage() string {
	return inspectUsageHead + listFlags((&inspectOptions{}).flags()) + inspectUsageTail
}

// replayUsage returns the text of replay -h.
func replayUsage() string {
	return replayUsageHead + listFlags((&replayOptions{}).flags()) + replayUsageTail
}

func listFlags(fs *flag.FlagSet) string {
	var b strings.Builder
	fs.VisitAll(func(f *flag.Flag) {
		name, text := flag.UnquoteUsage(f)
		fmt.Fprintf(&b, "  %-22s %s\n", strings.TrimSpace("-"+f.Name+" "+name), withDefault(text, f.DefValue))
	})
	return b.String()
}

func withDefault(text, value string) string {
	if value == "" || value == "false" || value == fmt.Sprint(noSuggestion) {
		return text
	}
	return fmt.Sprintf("%s (default %s)", text, value)
}
