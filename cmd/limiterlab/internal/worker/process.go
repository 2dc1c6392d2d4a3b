package worker

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Command is the subcommand by which a program that calls [Serve] is run as a
// worker. It is not for people.
const Command = "worker"

// grace is the time in which a worker must end after its order to stop.
const grace = 5 * time.Second

// Spawn is a [Runner] in an operating-system process of its own: this program
// again, with the subcommand [Command]. Its configuration and orders go to its
// standard input, reports come from its standard output. It ends at the end of its
// input, so that it does not outlive this process.
func Spawn(ctx context.Context, cfg Config, orders <-chan Order, report func(Report)) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, exe, Command)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Cancel = stdin.Close
	cmd.WaitDelay = grace
	if err := cmd.Start(); err != nil {
		return unlessEnded(ctx, err)
	}
	var sender sync.WaitGroup
	ended := make(chan struct{})
	sender.Go(func() { instruct(stdin, cmd.Process, cfg, orders, ended) })
	received := receive(stdout, report)
	close(ended)
	sender.Wait()
	if err := unlessEnded(ctx, errors.Join(received, cmd.Wait())); err != nil {
		return fmt.Errorf("process %d: %w", cfg.Process+1, err)
	}
	return nil
}

// unlessEnded returns err, or nil if ctx has ended, which explains the error.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// instruct sends a worker its configuration and its orders. It ignores errors of
// writing, because the worker's end shows them.
func instruct(w io.WriteCloser, process *os.Process, cfg Config, orders <-chan Order, ended <-chan struct{}) {
	enc := gob.NewEncoder(w)
	if enc.Encode(cfg) != nil {
		return
	}
	for {
		select {
		case o := <-orders:
			switch {
			case !o.Stop:
				_ = enc.Encode(o)
			case process.Signal(syscall.SIGTERM) != nil: // where there is no such signal
				_ = w.Close()
				return
			}
		case <-ended:
			return
		}
	}
}

// receive passes reports on until there are no more.
func receive(r io.Reader, report func(Report)) error {
	dec := gob.NewDecoder(r)
	for {
		var rep Report
		err := dec.Decode(&rep)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		report(rep)
	}
}

// Serve is the other end of [Spawn].
func Serve(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dec := gob.NewDecoder(stdin)
	var cfg Config
	if err := dec.Decode(&cfg); err != nil {
		return err
	}
	orders := make(chan Order, 1)
	go func() {
		defer cancel()
		handOn(dec, orders)
	}()
	enc := gob.NewEncoder(stdout)
	return Run(ctx, cfg, orders, func(r Report) {
		if enc.Encode(r) != nil {
			cancel() // the reader has gone
		}
	})
}

// handOn passes orders on and returns at the end of the input.
func handOn(dec *gob.Decoder, orders chan Order) {
	for {
		var o Order
		if dec.Decode(&o) != nil {
			return
		}
		Post(orders, o)
	}
}
