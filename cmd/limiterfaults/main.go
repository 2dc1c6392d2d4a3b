// Limiterfaults makes faults happen to real Redis servers that serve two fleets of
// operating-system processes, and writes the tables of docs/faults.md.
//
//	go run ./cmd/limiterfaults -h
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9/logging"

	"github.com/seed-e56e777b/limiter/internal/servertest/faultmatrix"
)

// pace is the pace of a run whose figures are kept.
var pace = faultmatrix.Pace{Settle: 2 * time.Second, Before: 4 * time.Second, After: 3 * time.Second, Patience: 90 * time.Second}

var kinds = []faultmatrix.Kind{faultmatrix.Tuned, faultmatrix.Default}

type options struct {
	pattern *regexp.Regexp
	list    bool
	long    bool
	stories bool
	out     string
}

func main() {
	if faultmatrix.Serve() {
		return
	}
	logging.Disable() // the client with which this program looks at its servers is no news; its fleets' are counted
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second Ctrl-C ends the program at once
	if err := run(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	fs := flag.NewFlagSet("limiterfaults", flag.ContinueOnError)
	pattern := fs.String("run", "", "only the faults and situations whose names match this regular `expression`")
	fs.BoolVar(&o.list, "list", false, "name the faults and situations, and end")
	fs.BoolVar(&o.long, "long", false, "with those that take long")
	fs.BoolVar(&o.stories, "v", false, "print what a process of each fleet said, and when")
	fs.StringVar(&o.out, "o", "", "write the page to this `file`, and the logs to one beside it, .txt")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	o.pattern, err = regexp.Compile(*pattern)
	return o, err
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	p := newPage()
	for _, f := range faultmatrix.Faults(o.long) {
		switch {
		case !o.pattern.MatchString(f.Name):
			continue
		case o.list:
			fmt.Println(f.Name)
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		}
		fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), f.Name)
		found, err := faultmatrix.Run(ctx, f, kinds, pace)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			p.notRun = append(p.notRun, err)
			continue
		}
		p.add(found)
		tell(os.Stderr, found, o.stories)
	}
	if err := observe(ctx, o, p); err != nil {
		return err
	}
	if o.list {
		return nil
	}
	return write(p, o.out)
}

// observe runs the situations.
func observe(ctx context.Context, o options, p *page) error {
	for _, st := range faultmatrix.Situations(false) {
		switch {
		case !o.pattern.MatchString(st.Name):
			continue
		case o.list:
			fmt.Println(st.Name)
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		}
		fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), st.Name)
		found, err := faultmatrix.Observe(ctx, st, kinds)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			p.notRun = append(p.notRun, err)
			continue
		}
		p.observed = append(p.observed, found...)
		for _, f := range found {
			tellFailed(os.Stderr, f.Kind, f.Failed())
			if o.stories {
				fmt.Fprintf(os.Stderr, "  %s, in each second: %.2f\n", f.Kind, f.Seconds)
			}
		}
	}
	return nil
}

func tell(w io.Writer, found []*faultmatrix.Measured, stories bool) {
	for _, m := range found {
		tellFailed(w, m.Kind, m.Failed())
		if stories {
			fmt.Fprintf(w, "  %s:\n%s", m.Kind, m.Story())
		}
	}
}

func tellFailed(w io.Writer, k faultmatrix.Kind, failed []faultmatrix.Mark) {
	for _, mark := range failed {
		fmt.Fprintf(w, "  %s: not as required: %s: %s\n", k, mark.What, mark.Note)
	}
}

// write writes the page to a file, and the logs to one beside it; without a name the page
// alone, to standard output.
func write(p *page, name string) error {
	if name == "" {
		p.write(os.Stdout)
		return nil
	}
	logs := strings.TrimSuffix(name, filepath.Ext(name)) + ".txt"
	return errors.Join(writeFile(name, p.write), writeFile(logs, p.writeStories))
}

func writeFile(name string, write func(io.Writer)) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	write(file)
	return file.Close()
}
