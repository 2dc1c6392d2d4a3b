package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/logs"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/replay"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/summary"
)

const replayCommand = "replay"

// replayLogs applies a limit to the requests of logs, and prints a summary.
func replayLogs(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseReplayOptions(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, replayUsage())
		return exitOK
	case err != nil:
		return replayUsageError(stderr, err)
	}
	if len(o.files) == 0 && isTerminal(os.Stdin) {
		return replayUsageError(stderr, errors.New("no log was given, neither a file nor on stdin"))
	}
	inputs, err := logs.Find(o.files, os.Stdin)
	if err != nil {
		fmt.Fprintln(stderr, "limiterlab:", err)
		return exitFailed
	}
	r := &replayer{replayOptions: o, inputs: inputs, progress: newProgress(stderr, inputs)}
	return r.run(ctx, stdout, stderr)
}

func replayUsageError(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "limiterlab replay: %v\nlimiterlab replay -h lists the flags.\n", err)
	return exitUsage
}

// replayer is one run of the subcommand.
type replayer struct {
	replayOptions
	inputs   []logs.Input
	progress *progress
}

// run returns the exit code. It reports the readable part of the logs even if
// another part is not readable.
func (r *replayer) run(ctx context.Context, stdout, stderr io.Writer) int {
	s, err := r.read(ctx)
	r.progress.end()
	if field := (*logs.FieldError)(nil); errors.As(err, &field) {
		return replayUsageError(stderr, err)
	}
	if s.Requests > 0 {
		summary.Text(stdout, s)
		for _, doubt := range s.Doubts() {
			fmt.Fprintln(stderr, "limiterlab: note:", doubt)
		}
		err = errors.Join(err, r.page(stdout, s))
	} else if err == nil && ctx.Err() == nil {
		err = fmt.Errorf("no request with the key %q was found", r.key)
	}
	switch {
	case err != nil:
		fmt.Fprintln(stderr, "limiterlab:", err)
		return exitFailed
	case s.Cut:
		return exitInterrupted
	}
	return exitOK
}

// read reads the logs: once, and for a suggestion as often as necessary.
func (r *replayer) read(ctx context.Context) (summary.Summary, error) {
	re := replay.New(r.config())
	counts, err := r.pass(ctx, re.Add)
	s := summary.Summary{Result: re.Result(r.top, r.suggest/100), Key: r.key.String(), Read: counts}
	for _, in := range r.inputs {
		s.Names = append(s.Names, in.Name)
	}
	if s.Suggestion != nil && logs.Again(r.inputs) {
		err = errors.Join(err, r.refine(ctx, s.Suggestion, err != nil))
	}
	s.Cut = ctx.Err() != nil
	return s, err
}

// refine reads the logs again, unless ctx is done. Unreadable logs were reported
// by the first pass.
func (r *replayer) refine(ctx context.Context, s *replay.Suggestion, said bool) error {
	err := s.Refine(r.maxKeys, func(each func(*logs.Entry)) error {
		_, err := r.pass(ctx, each)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case said:
			return nil
		}
		return err
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (r *replayer) config() replay.Config {
	c := replay.Config{
		Limit:     r.limit,
		MaxKeys:   r.maxKeys,
		Processes: r.processes,
		ByKey:     r.spread == spreadByKey,
		Outage:    r.outage,
	}
	if r.suggest != noSuggestion {
		c.Suggest = r.candidates()
	}
	return c
}

// candidates returns the first candidates: a coarse range of all, if a closer look
// is possible.
func (r *replayer) candidates() []limiter.Limit {
	if logs.Again(r.inputs) {
		return replay.Coarse(r.limit)
	}
	return replay.Around(r.limit)
}

// pass reads the logs once.
func (r *replayer) pass(ctx context.Context, each func(*logs.Entry)) (logs.Counts, error) {
	r.progress.begin()
	return logs.Read(ctx, r.inputs, logs.Options{Format: r.format, TimeField: r.timeField, Key: r.key}, each, r.progress.tick)
}

// page writes the page, if the flags ask for one.
func (r *replayer) page(stdout io.Writer, s summary.Summary) error {
	if r.html == "" {
		return nil
	}
	page, err := summary.Page(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(r.html, page, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "\nPage: %s\n", r.html)
	return nil
}
