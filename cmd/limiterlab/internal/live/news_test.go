package live

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/worker"
)

// written returns the texts of a fleet's news after some reports, each of one
// process in one state.
func written(reports ...worker.Report) []string {
	var n news
	fleet := map[int]*process{}
	for _, r := range reports {
		p := fleet[r.Process]
		if p == nil {
			p = &process{number: r.Process}
			fleet[r.Process] = p
		}
		p.status = r.Status
		for _, note := range r.Notes {
			n.note(time.Duration(note.Time.UnixNano()), p, note)
		}
	}
	var texts []string
	for _, e := range n.events() {
		texts = append(texts, e.Text)
	}
	return texts
}

// change is a report of a process's state: without a cause it is synced.
func change(process, at int, cause string) worker.Report {
	return worker.Report{Process: process, Notes: []worker.Note{
		{Time: time.Unix(0, int64(ms(at))), Text: "as logged", Change: true, Cause: cause},
	}}
}

// TestSentenceSeparatesGroups: a command stands between the groups before and
// after it, also for a note that arrives late.
func TestSentenceSeparatesGroups(t *testing.T) {
	var n news
	fleet := make([]process, 4)
	note := func(process, at int) {
		n.note(ms(at), &fleet[process], change(process, at, "no answer").Notes[0])
	}
	note(0, 1000)
	n.say(ms(1500), "Redis is stopped.")
	note(1, 1600)
	note(2, 1400)
	note(3, 1700)
	var texts []string
	for _, e := range n.events() {
		texts = append(texts, e.Text)
	}
	require.Equal(t, []string{
		"2 processes degraded in 400 ms: no answer", "Redis is stopped.", "2 processes degraded in 100 ms: no answer",
	}, texts)
}

func TestLikeNotesAreGrouped(t *testing.T) {
	const refused, closed = "connection refused", "connection closed"
	line := func(process, at int, text string) worker.Report {
		return worker.Report{Process: process, Notes: []worker.Note{{Time: time.Unix(0, int64(ms(at))), Text: text}}}
	}
	connecting := change(3, 3200, refused)
	connecting.Status.State = "connecting"
	for name, tt := range map[string]struct {
		reports []worker.Report
		want    []string
	}{
		"one cause": {
			[]worker.Report{change(0, 1000, refused), change(1, 1040, refused), change(2, 1020, refused)},
			[]string{"3 processes degraded in 40 ms: connection refused"},
		},
		"a slow machine": {
			[]worker.Report{change(0, 1000, refused), change(1, 2940, refused)},
			[]string{"2 processes degraded in 1.9 s: connection refused"},
		},
		"two causes, the more frequent first": {
			[]worker.Report{change(0, 1000, refused), change(1, 1040, closed), change(2, 1020, closed)},
			[]string{"3 processes degraded in 40 ms: connection closed (2), connection refused (1)"},
		},
		"one process": {
			[]worker.Report{change(0, 1000, refused)},
			[]string{"process 1 degraded: connection refused"},
		},
		"there and back": {
			[]worker.Report{change(0, 1000, refused), change(1, 1001, refused), change(0, 1500, ""), change(1, 1530, ""), change(0, 1600, refused)},
			[]string{"2 processes degraded in 1 ms: connection refused", "2 processes synced in 30 ms", "process 1 degraded: connection refused"},
		},
		"long after": {
			[]worker.Report{change(0, 1000, refused), change(1, 1000+int(together/time.Millisecond)+1, refused)},
			[]string{"process 1 degraded: connection refused", "process 2 degraded: connection refused"},
		},
		"a warning again": {
			[]worker.Report{change(0, 1000, refused), change(1, 1000, refused), change(0, 61000, refused), change(1, 61010, refused)},
			[]string{"2 processes degraded: connection refused", "2 processes still degraded: connection refused"},
		},
		"never connected": {
			[]worker.Report{connecting},
			[]string{"process 4 without Redis since its start: connection refused"},
		},
		"any other line": {
			[]worker.Report{line(0, 1000, "WARN word"), line(1, 1010, "WARN word"), line(1, 1020, "other")},
			[]string{"2 processes: WARN word", "process 2: other"},
		},
	} {
		require.Equal(t, tt.want, written(tt.reports...), name)
	}
}
