package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/worker"
)

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // as a shell reports Ctrl-C
)

// command runs one subcommand with its arguments.
type command func(ctx context.Context, args []string, stdout, stderr io.Writer) int

// commands are the subcommands. Without one the lab runs its demonstration.
var commands = map[string]command{
	inspectCommand: inspect,
	replayCommand:  replayLogs,
	worker.Command: work,
}

// run is the whole program except its process. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return demo(ctx, args, stdout, stderr)
	}
	c, ok := commands[args[0]]
	if !ok {
		return usageError(stderr, fmt.Errorf("there is no subcommand %q", args[0]))
	}
	return c(ctx, args[1:], stdout, stderr)
}

// demo runs the lab.
func demo(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage())
		return exitOK
	case err != nil:
		return usageError(stderr, err)
	}
	l := newLab(o, stdout)
	if o.http != "" {
		return servePage(ctx, l, stderr)
	}
	code, err := l.run(ctx)
	if err != nil {
		fmt.Fprintln(stderr, "limiterlab:", err)
	}
	return code
}

// servePage runs the page, which ends with Ctrl-C.
func servePage(ctx context.Context, l *lab, stderr io.Writer) int {
	if err := l.serve(ctx); err != nil {
		fmt.Fprintln(stderr, "limiterlab:", err)
		return exitFailed
	}
	return exitOK
}

// work is one process of a fleet (see [worker.Spawn]).
func work(ctx context.Context, _ []string, stdout, stderr io.Writer) int {
	signal.Ignore(os.Interrupt) // Ctrl-C reaches the whole fleet; the parent ends it
	if err := worker.Serve(ctx, os.Stdin, stdout); err != nil {
		fmt.Fprintln(stderr, "limiterlab:", err)
		return exitFailed
	}
	return exitOK
}

func usageError(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "limiterlab: %v\nlimiterlab -h lists the flags.\n", err)
	return exitUsage
}
