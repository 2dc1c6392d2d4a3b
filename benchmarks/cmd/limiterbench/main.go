// Command limiterbench measures limiter beside its peers and writes
// docs/benchmarks.md. It runs in the folder of the benchmarks and needs the go
// command and redis-server.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(args) == 2 && args[0] == workerArg {
		return work(ctx, args[1], os.Stdin, os.Stdout)
	}
	opts, err := parseOptions(args)
	if err != nil {
		return err
	}
	return bench(ctx, opts)
}

// options is the options of the command line.
type options struct {
	turns int
	quick bool
	dir   string
}

func parseOptions(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("limiterbench", flag.ContinueOnError)
	flags.IntVar(&o.turns, "turns", 10, "how often each subject is measured; a median needs some")
	flags.BoolVar(&o.quick, "quick", false, "one turn of short benchmarks, to see that everything runs: the figures mean nothing")
	flags.StringVar(&o.dir, "o", "../docs", "folder for benchmarks.md and benchmarks.txt")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.turns < 1 || flags.NArg() > 0 {
		return o, fmt.Errorf("limiterbench: %d turns, %d arguments: want at least one turn and nothing but flags", o.turns, flags.NArg())
	}
	return o, nil
}

// bench runs the benchmarks and writes the page.
func bench(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "limiterbench-")
	if err != nil {
		return fmt.Errorf("limiterbench: %w", err)
	}
	defer os.RemoveAll(dir)
	binary, err := compile(ctx, dir)
	if err != nil {
		return err
	}
	return measure(ctx, o, binary)
}

// times of fleets.
var (
	oursMeasured = phases{warmUp: 16 * time.Second, measured: 30 * time.Second}
	restMeasured = phases{warmUp: 3 * time.Second, measured: 10 * time.Second}
	quickly      = phases{warmUp: time.Second, measured: time.Second}
)

func measure(ctx context.Context, o options, binary string) (err error) {
	s := &suite{binary: binary, log: os.Stderr}
	p := &page{results: newResults(), Turns: o.turns, phases: oursMeasured}
	theirs := restMeasured
	if o.quick {
		p.Turns, s.time = 1, "10ms"
		p.phases, theirs = quickly, quickly
	}
	start := time.Now()
	if err := s.turns(ctx, plan(), p.Turns, p.results); err != nil {
		return err
	}
	if p.fleets, err = runFleets(ctx, p.phases, theirs); err != nil {
		return err
	}
	p.took = time.Since(start)
	if p.Machine, err = describe(ctx, p.results); err != nil {
		return err
	}
	return save(o.dir, p, s.raw.Bytes())
}

// save writes the page and the raw figures.
func save(dir string, p *page, raw []byte) error {
	var text bytes.Buffer
	if err := p.write(&text); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "benchmarks.md"), text.Bytes(), 0o644),
		os.WriteFile(filepath.Join(dir, "benchmarks.txt"), onceEach(raw), 0o644),
	)
}

// onceEach drops the lines about the machine that every run repeats, except the first
// of each, and the lines PASS and ok.
func onceEach(raw []byte) []byte {
	var kept []byte
	seen := map[string]bool{"PASS\n": true}
	for line := range bytes.Lines(raw) {
		if bytes.HasPrefix(line, []byte("Benchmark")) || !seen[string(line)] {
			seen[string(line)] = true
			kept = append(kept, line...)
		}
	}
	return kept
}
