package live

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/worker"
)

const (
	maxNews  = 50              // events kept
	together = 5 * time.Second // length of a group of notes, at most
)

// Event is a line of the run's log.
type Event struct {
	At   float64 `json:"at"`
	Text string  `json:"text"`
}

// news is the run's log, in order of time. Like notes of several processes make
// one item: "5 processes degraded in 40 ms: connection refused".
type news []*item

// item is one event: a sentence, or a group of notes of different processes.
type item struct {
	from, to time.Duration
	text     string // with processes: the text of each
	by       []*process
	causes   []string // one for each process; empty where there is none
}

// say adds a sentence.
func (n *news) say(at time.Duration, text string) {
	n.insert(&item{from: at, to: at, text: text})
}

// note adds a note of a process, to a group if there is a like one between the
// same two sentences.
func (n *news) note(at time.Duration, p *process, note worker.Note) {
	text := headline(p, note)
	group := n.group(at, p, text)
	if group == nil {
		n.insert(&item{from: at, to: at, text: text, by: []*process{p}, causes: []string{note.Cause}})
		return
	}
	group.from, group.to = min(group.from, at), max(group.to, at)
	group.by = append(group.by, p)
	group.causes = append(group.causes, note.Cause)
	n.sort()
}

// group returns the group to which a note belongs, nil if there is none.
func (n news) group(at time.Duration, p *process, text string) (found *item) {
	for _, i := range slices.Backward(n) {
		switch {
		case i.by == nil && i.from <= at:
			return found
		case i.by == nil:
			found = nil // the note came late: it is older than this sentence
		case found == nil && i.takes(at, p, text):
			found = i
		}
	}
	return found
}

// headline returns the text of a note's event, without the process and the cause.
// A note of a state is the state alone; a limiter repeats its warning while the
// state lasts.
func headline(p *process, note worker.Note) string {
	if !note.Change {
		return ": " + note.Text
	}
	state := "synced"
	if note.Cause != "" {
		state = "degraded"
		if p.status.State == "connecting" {
			state = "without Redis since its start"
		}
	}
	again := p.told == state
	p.told = state
	if again {
		return " still " + state
	}
	return " " + state
}

// takes reports whether a note belongs to the group.
func (i *item) takes(at time.Duration, p *process, text string) bool {
	return i.by != nil && i.text == text && !slices.Contains(i.by, p) &&
		max(i.to, at)-min(i.from, at) <= together
}

func (n *news) insert(i *item) {
	*n = append(*n, i)
	n.sort()
	*n = (*n)[max(0, len(*n)-maxNews):]
}

func (n *news) sort() {
	slices.SortStableFunc(*n, func(a, b *item) int { return cmp.Compare(a.from, b.from) })
}

func (n news) events() []Event {
	events := []Event{}
	for _, i := range n {
		events = append(events, Event{At: i.from.Seconds(), Text: i.String()})
	}
	return events
}

// String returns the item as a line for a reader.
func (i *item) String() string {
	switch len(i.by) {
	case 0:
		return i.text
	case 1:
		return i.by[0].String() + i.text + i.cause()
	}
	return fmt.Sprintf("%d processes%s%s%s", len(i.by), i.text, i.took(), i.cause())
}

// took returns the time between the first process and the last, for a new state
// alone.
func (i *item) took() string {
	if d := i.to - i.from; d >= time.Millisecond && !strings.HasPrefix(i.text, ": ") && !strings.HasPrefix(i.text, " still") {
		if d >= time.Second {
			return fmt.Sprintf(" in %.1f s", d.Seconds())
		}
		return fmt.Sprintf(" in %d ms", d.Milliseconds())
	}
	return ""
}

// cause returns the causes, the most frequent first, each with its number of
// processes if there are several.
func (i *item) cause() string {
	count := map[string]int{}
	var distinct []string
	for _, c := range i.causes {
		if c != "" && count[c] == 0 {
			distinct = append(distinct, c)
		}
		count[c]++
	}
	if len(distinct) == 0 {
		return ""
	}
	slices.SortStableFunc(distinct, func(a, b string) int { return cmp.Compare(count[b], count[a]) })
	if len(distinct) > 1 {
		for k, c := range distinct {
			distinct[k] = fmt.Sprintf("%s (%d)", c, count[c])
		}
	}
	return ": " + strings.Join(distinct, ", ")
}
