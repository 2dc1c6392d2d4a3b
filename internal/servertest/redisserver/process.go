package redisserver

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const logFile = "redis.log"

// process is one run of the program. A goroutine waits for its end.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

func launch(program, dir string, args, env []string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), env...)
	dieWithParent(p.cmd)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // its error is that it was killed
	}()
	return p, nil
}

// kill ends the process, frozen or not, and returns when it has ended.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return nil
}

// ready waits until the server answers PING.
func (p *process) ready(dial func() (net.Conn, error)) error {
	deadline := time.After(patience)
	for {
		if answers(dial) {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("redisserver: %s ended: %v", p.cmd.Path, p.cmd.ProcessState)
		case <-deadline:
			return fmt.Errorf("redisserver: %s does not answer", p.cmd.Path)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// answers reports whether a server answers, maybe by a request for a password.
func answers(dial func() (net.Conn, error)) bool {
	conn, err := dial()
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && (strings.HasPrefix(line, "+PONG") || strings.HasPrefix(line, "-NOAUTH"))
}

// logSize returns the length of a server's log so far, in bytes.
func logSize(dir string) int64 {
	info, err := os.Stat(filepath.Join(dir, logFile))
	if err != nil {
		return 0
	}
	return info.Size()
}

// logSince returns a server's log from an offset on, at most its last 600
// bytes.
func logSince(dir string, offset int64) string {
	log, err := os.ReadFile(filepath.Join(dir, logFile))
	if err != nil {
		return "no log"
	}
	log = log[min(int(offset), len(log)):]
	return string(log[max(0, len(log)-600):])
}
