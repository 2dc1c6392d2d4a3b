package faultmatrix

import (
	"encoding/json"
	"io"
	"slices"
	"sync"
	"time"
)

// Event is a line of output of a process.
type Event struct {
	At      time.Time
	State   string `json:",omitempty"` // new state of the limiter
	Err     string `json:",omitempty"` // reason of the state
	Log     string `json:",omitempty"` // a line of the limiter's log
	Drained *int   `json:",omitempty"` // tokens of the exact key admitted, once all are exchanged
	Phase   *Phase `json:",omitempty"` // phase that has ended

	Admitted int `json:",omitempty"` // tokens of a Service since the count before
}

// Phase is the work of a process between two commands.
type Phase struct {
	Name     string
	Took     time.Duration
	Admitted int  // of the shared key
	Allow    Tail // durations of Allow
	Bare     Tail // durations of a bare rate.Limiter in the same loop
}

// Tail is the longest of many durations.
type Tail struct {
	Of      int
	Longest []time.Duration // falling
}

const tailLength = 64

func tailOf(d []time.Duration) Tail {
	slices.Sort(d)
	slices.Reverse(d)
	return Tail{Of: len(d), Longest: slices.Clone(d[:min(len(d), tailLength)])}
}

func (t Tail) merge(o Tail) Tail {
	m := tailOf(slices.Concat(t.Longest, o.Longest))
	m.Of = t.Of + o.Of
	return m
}

// Slowest returns the longest duration.
func (t Tail) Slowest() time.Duration { return t.at(0) }

// P9999 returns the 99.99th percentile.
func (t Tail) P9999() time.Duration { return t.at(t.Of / 10000) }

func (t Tail) at(i int) time.Duration {
	if len(t.Longest) == 0 {
		return 0
	}
	return t.Longest[min(i, len(t.Longest)-1)]
}

// reporter writes events.
type reporter struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func newReporter(w io.Writer) *reporter { return &reporter{enc: json.NewEncoder(w)} }

func (t *reporter) report(e Event) {
	e.At = time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.enc.Encode(e) // fails if the parent has ended
}
