package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/traffic"
)

// Facts describe a run before it begins.
type Facts struct {
	Limit    limiter.Limit
	Rates    []float64 // requests of each process per second
	Workers  int       // of each process, which wait, in place of traffic; 0 for none
	Separate bool      // true if each is an operating-system process of its own
	For      time.Duration

	Store         string // name of the Redis
	Prefix        string // of all its keys
	Dies, Returns string // of Redis, as verbs
	Outage        trace.Span
}

// Intro prints the facts.
func Intro(w io.Writer, f Facts) {
	fleet := "limiters, each with its own Redis client,"
	if f.Separate {
		fleet = "limiters, each an operating-system process,"
	}
	fmt.Fprintf(w, "%d %s share %s.\n", len(f.Rates), fleet, LimitText(f.Limit))
	fmt.Fprintln(w, f.demand())
	fmt.Fprintf(w, "Redis: %s; every key there begins with %q.\n", f.Store, f.Prefix)
	fmt.Fprintf(w, "After %.1f s it %s, after %.1f s it %s; the run ends after %.1f s.\n\n",
		f.Outage.From.Seconds(), f.Dies, f.Outage.To.Seconds(), f.Returns, f.For.Seconds())
}

// demand returns a sentence on the callers of the fleet.
func (f *Facts) demand() string {
	if f.Workers > 0 {
		return fmt.Sprintf("Each has %d workers: a worker waits for a token, works for %v, and waits again.", f.Workers, traffic.Work)
	}
	sum, each := 0.0, make([]string, len(f.Rates))
	for i, r := range f.Rates {
		sum += r
		each[i] = fmt.Sprintf("%.0f", r)
	}
	return fmt.Sprintf("They get %.0f requests a second: %s.", sum, strings.Join(each, " + "))
}
