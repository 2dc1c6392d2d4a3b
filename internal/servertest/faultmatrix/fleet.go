package faultmatrix

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"
)

// process is a process of a fleet, as its parent sees it.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser

	mu      sync.Mutex
	events  []Event
	foreign int // lines on its standard error: go-redis's
	ended   sync.WaitGroup
}

// fleet is the processes of one kind of clients.
type fleet struct {
	kind Kind
	all  []*process
}

func startFleet(j Job) (*fleet, error) {
	f := &fleet{kind: j.Kind}
	for range processes {
		p, err := startProcess(j)
		if err != nil {
			f.stop()
			return nil, err
		}
		f.all = append(f.all, p)
	}
	return f, nil
}

func startProcess(j Job) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(exe)}
	p.cmd.Env = append(os.Environ(), jobVariable+"="+string(text))
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.ended.Go(func() { p.listen(out) })
	p.ended.Go(func() { p.count(stderr) })
	return p, nil
}

func (p *process) listen(out io.Reader) {
	for dec := json.NewDecoder(out); ; {
		var e Event
		if dec.Decode(&e) != nil {
			return
		}
		p.mu.Lock()
		p.events = append(p.events, e)
		p.mu.Unlock()
	}
}

func (p *process) count(stderr io.Reader) {
	for s := bufio.NewScanner(stderr); s.Scan(); {
		p.mu.Lock()
		p.foreign++
		p.mu.Unlock()
	}
}

// allEvents returns the events so far.
func (p *process) allEvents() []Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clip(p.events)
}

func (p *process) state() string {
	state := ""
	for _, e := range p.allEvents() {
		if e.State != "" {
			state = e.State
		}
	}
	return state
}

func (p *process) phase(name string) *Phase {
	for _, e := range p.allEvents() {
		if e.Phase != nil && e.Phase.Name == name {
			return e.Phase
		}
	}
	return nil
}

func (p *process) drained() *int {
	for _, e := range p.allEvents() {
		if e.Drained != nil {
			return e.Drained
		}
	}
	return nil
}

// send sends a command to all processes.
func (f *fleet) send(command string) error {
	var errs []error
	for _, p := range f.all {
		_, err := fmt.Fprintln(p.in, command)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// every waits until a condition holds for every process, and reports whether it does.
func (f *fleet) every(patience time.Duration, holds func(*process) bool) bool {
	end := time.Now().Add(patience)
	for _, p := range f.all {
		for !holds(p) {
			if time.Now().After(end) {
				return false
			}
			<-time.After(5 * time.Millisecond)
		}
	}
	return true
}

func isSynced(p *process) bool { return p.state() == "synced" }

// stop ends all processes, by the end of their input or, if a client hangs, by force.
func (f *fleet) stop() {
	for _, p := range f.all {
		_ = p.in.Close()
	}
	for _, p := range f.all {
		timer := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
		p.ended.Wait()
		_ = p.cmd.Wait() // its error is that it was killed
		timer.Stop()
	}
}
