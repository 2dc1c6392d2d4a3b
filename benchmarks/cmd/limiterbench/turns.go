package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// suite runs the compiled benchmarks.
type suite struct {
	binary string
	time   string       // of every benchmark, for -test.benchtime; empty: the plan's
	raw    bytes.Buffer // the output as it is
	log    io.Writer    // gets a line for each turn
}

// usualTime is enough for a decision: the number of turns matters, not their length.
const usualTime = "100ms"

// compile builds the benchmarks in this folder into dir.
func compile(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "benchmarks.test")
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, "github.com/seed-e56e777b/limiter/benchmarks")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("limiterbench: compiling the benchmarks (is this their folder?): %w", err)
	}
	return binary, nil
}

// turns runs all jobs in turns, each turn in a random order, so that the noise of the
// machine affects all jobs equally.
func (s *suite) turns(ctx context.Context, jobs []job, n int, into *results) error {
	start := time.Now()
	for i := range n {
		turn := inTurn(jobs, i)
		rand.Shuffle(len(turn), func(a, b int) { turn[a], turn[b] = turn[b], turn[a] })
		for _, j := range turn {
			if err := s.run(ctx, j, into); err != nil {
				return err
			}
		}
		fmt.Fprintf(s.log, "turn %d of %d done after %v\n", i+1, n, time.Since(start).Round(time.Second))
	}
	return nil
}

func (s *suite) run(ctx context.Context, j job, into *results) error {
	duration := cmp.Or(s.time, j.time, usualTime)
	cmd := exec.CommandContext(ctx, s.binary, "-test.run=^$", "-test.bench="+j.pattern(), "-test.benchtime="+duration)
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("limiterbench: %s: %w: %s", j.bench, err, output)
	}
	n, err := into.read(output)
	if err == nil && n == 0 {
		err = fmt.Errorf("limiterbench: %s: no such benchmark", j.bench)
	}
	s.raw.Write(output)
	return err
}
