package main

import (
	"flag"
	"fmt"
	"strings"
)

const usageHead = `Usage: limiterlab [flags]

A fleet of limiters, each with its own Redis client, shares one limit while
skewed traffic (the k-th process gets 1/k of what the first gets) asks for more.
A third of the way into the run Redis dies; after two thirds it comes back. At
the end a table and a chart compare what the fleet admitted with what one
central bucket, failing open, failing closed and private buckets would have
admitted of the very same requests.

The exit code is 0 if the fleet was within 10 % of the central bucket in every
phase, 1 if it was not or the lab could not run, 2 for wrong flags, 130 after
Ctrl-C (which still prints the table for what has run).

Flags:
`

const usageTail = `
Examples:
  limiterlab                              with nothing installed
  limiterlab -server redis-server         with a real Redis that is really killed
  limiterlab -processes -n 10 -for 1m     ten operating-system processes
  limiterlab -redis redis://localhost:6379 -limit "100/s burst 10"
`

// usage is what -h prints.
func usage() string {
	var b strings.Builder
	b.WriteString(usageHead)
	(&options{}).flags().VisitAll(func(f *flag.Flag) {
		name, text := flag.UnquoteUsage(f)
		fmt.Fprintf(&b, "  %-22s %s\n", strings.TrimSpace("-"+f.Name+" "+name), withDefault(text, f.DefValue))
	})
	b.WriteString(usageTail)
	return b.String()
}

func withDefault(text, value string) string {
	if value == "" || value == "false" {
		return text
	}
	return fmt.Sprintf("%s (default %s)", text, value)
}
