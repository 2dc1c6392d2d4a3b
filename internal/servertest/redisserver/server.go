// Package redisserver runs real Redis servers on free loopback ports, for tests and for
// the lab, which kill, freeze and restart them. It needs redis-server on the PATH, or
// another server in the environment: LIMITER_REDIS_SERVER is a path or name of
// redis-server, valkey-server or the like. LIMITER_REDIS_SENTINEL is the program to be
// started with --sentinel, if it is another.
package redisserver

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// Program returns the program of servers.
func Program() string { return cmp.Or(os.Getenv("LIMITER_REDIS_SERVER"), "redis-server") }

// sentinelProgram returns the program that is started with --sentinel.
func sentinelProgram() string { return cmp.Or(os.Getenv("LIMITER_REDIS_SENTINEL"), Program()) }

// Version returns the name and version of the server: "Redis 7.0.15".
func Version() string {
	out, err := exec.Command(Program(), "--version").Output()
	name, _, _ := strings.Cut(string(out), " ")
	_, version, ok := strings.Cut(string(out), "v=")
	if err != nil || !ok {
		return "a server of an unknown version"
	}
	return name + " " + strings.Fields(version)[0]
}

// addrInUse is EADDRINUSE in the log of the program.
const addrInUse = "Address already in use"

// patience is the longest time for a server to start or to stop.
const patience = time.Minute

// ErrNotFound is the error of a missing server program.
var ErrNotFound = errors.New("redis-server is not on the PATH")

// Find returns ErrNotFound if no server can be started.
func Find() error {
	for _, program := range []string{Program(), sentinelProgram()} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w: %w", ErrNotFound, err)
		}
	}
	return nil
}

// Options is the options of a server. The zero value is a server without password,
// limit or persistence.
type Options struct {
	Password   string
	Sentinel   string   // password of the Sentinels of StartSentinel
	MaxMemory  string   // as in redis.conf: "4mb"
	TLS        *TLS     // the server accepts TLS only; nil: no TLS
	AppendOnly bool     // true if every write reaches the disk, so that a killed server loses nothing
	Args       []string // further arguments: "--maxclients", "10"
}

// TLS is the files of a server with TLS, and the configuration of its clients.
type TLS struct {
	CertFile, KeyFile string
	CAFile            string // of the clients' certificates; empty: clients need none
	Client            *tls.Config
}

func (t *TLS) arguments(port int) []string {
	args := []string{
		"--port", "0", "--tls-port", strconv.Itoa(port),
		"--tls-cert-file", t.CertFile, "--tls-key-file", t.KeyFile,
	}
	if t.CAFile == "" {
		return append(args, "--tls-ca-cert-file", t.CertFile, "--tls-auth-clients", "no")
	}
	return append(args, "--tls-ca-cert-file", t.CAFile)
}

// Server is one running redis-server process.
type Server struct {
	opts Options
	port int
	dir  string
	conf []string // arguments in place of the usual ones
	env  []string // environment beside this process's own

	mu      sync.Mutex
	process *process // nil when it does not run
	closed  bool
}

// Start starts a server and waits until it answers.
func Start(opts Options) (*Server, error) { return start(opts, nil) }

func start(opts Options, extra []string) (*Server, error) {
	return startWith(func(s *Server) error {
		s.opts = opts
		s.opts.Args = slices.Concat(extra, opts.Args) // of two that contradict each other the last counts
		return nil
	})
}

// startWith starts a server that configure has completed: port and directory are set.
// If another process has taken the port, it tries another.
func startWith(configure func(*Server) error) (*Server, error) {
	if err := Find(); err != nil {
		return nil, err
	}
	var errs []error
	for range 5 {
		s, err := startOnce(configure)
		if err == nil {
			return s, nil
		}
		errs = append(errs, err)
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, errors.Join(errs...)
}

func startOnce(configure func(*Server) error) (*Server, error) {
	port, err := ports.reserve()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "redis-")
	if err != nil {
		ports.release(port)
		return nil, err
	}
	s := &Server{port: port, dir: dir}
	err = configure(s)
	if err == nil {
		err = s.launch()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Addr returns host:port.
func (s *Server) Addr() string { return addr(s.port) }

// Port returns the port.
func (s *Server) Port() int { return s.port }

// Dir returns the server's working directory; its log is redis.log.
func (s *Server) Dir() string { return s.dir }

// Client returns a new client of this server, with short timeouts and without retries.
// The caller closes it.
func (s *Server) Client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: s.Addr(), Password: s.opts.Password,
		TLSConfig: s.tls(), MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Second,
		PoolSize: 4, PipelinePoolSize: -1, ContextTimeoutEnabled: true,
	})
}

func (s *Server) tls() *tls.Config {
	if s.opts.TLS == nil {
		return nil
	}
	return s.opts.TLS.Client
}

// Kill ends the server as a crash would.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kill()
}

func (s *Server) kill() error {
	p := s.process
	if p == nil {
		return nil
	}
	s.process = nil
	return p.kill()
}

// Setenv sets environment variables of the server's next runs, for example a clock of
// libfaketime.
func (s *Server) Setenv(env ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.env = env
}

// Freeze stops the server, with its connections open: a hang.
func (s *Server) Freeze() error { return s.signal((*process).freeze) }

// Thaw ends a Freeze.
func (s *Server) Thaw() error { return s.signal((*process).thaw) }

func (s *Server) signal(send func(*process) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return errors.New("redisserver: not running")
	}
	return send(s.process)
}

// Restart starts the server anew on the same port, ending it first if it runs.
// It waits a few seconds for a port that is busy.
// With keepData, a running server saves its data before it ends. A killed one has the
// data that had reached the disk (see Options.AppendOnly). Without keepData, it starts
// empty.
func (s *Server) Restart(keepData bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("redisserver: closed")
	}
	if keepData && s.process != nil {
		if err := s.shutDown(); err != nil {
			return err
		}
	}
	if err := s.kill(); err != nil {
		return err
	}
	if !keepData {
		if err := empty(s.dir); err != nil {
			return err
		}
	}
	return Patiently(s.launch)
}

// shutDown makes the server save its data and end in one step, so that no acknowledged
// write is lost.
func (s *Server) shutDown() error {
	rdb := s.Client()
	defer rdb.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := rdb.ShutdownSave(ctx).Err() // without a reply, the server ends
	if _, refused := errors.AsType[redis.Error](err); refused {
		return err
	}
	select {
	case <-s.process.done:
		return nil
	case <-ctx.Done():
		return errors.Join(err, ctx.Err())
	}
}

// empty removes the server's files, except its log and its configuration.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext == ".log" || ext == ".conf" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Close kills the server and removes its directory. It may be called again.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := errors.Join(s.kill(), os.RemoveAll(s.dir))
	if !s.closed {
		s.closed = true
		ports.release(s.port)
	}
	return err
}

// dial opens a connection as the server's clients do.
func (s *Server) dial() (net.Conn, error) {
	dialer := &net.Dialer{Timeout: time.Second}
	if config := s.tls(); config != nil {
		return tls.DialWithDialer(dialer, "tcp", s.Addr(), config)
	}
	return dialer.Dial("tcp", s.Addr())
}

// launch runs the program once. Its error is EADDRINUSE if another process listens at
// one of its ports.
func (s *Server) launch() error {
	before := logSize(s.dir)
	program := Program()
	if s.conf != nil {
		program = sentinelProgram()
	}
	p, err := launch(program, s.dir, s.arguments(), s.env)
	if err != nil {
		return err
	}
	s.process = p
	if err := p.ready(s.dial); err != nil {
		log := logSince(s.dir, before)
		if strings.Contains(log, addrInUse) {
			err = errors.Join(err, syscall.EADDRINUSE)
		}
		return errors.Join(fmt.Errorf("%w: %s", err, log), s.kill())
	}
	return nil
}

func (s *Server) arguments() []string {
	if s.conf != nil {
		return s.conf
	}
	listen := []string{"--port", strconv.Itoa(s.port)}
	if s.opts.TLS != nil {
		listen = s.opts.TLS.arguments(s.port)
	}
	args := []string{
		"--bind", "127.0.0.1",
		"--dir", s.dir, "--logfile", logFile, "--save", "", "--daemonize", "no",
	}
	if s.opts.Password != "" {
		args = append(args, "--requirepass", s.opts.Password, "--masterauth", s.opts.Password)
	}
	if s.opts.MaxMemory != "" {
		args = append(args, "--maxmemory", s.opts.MaxMemory)
	}
	if s.opts.AppendOnly {
		args = append(args, "--appendonly", "yes", "--appendfsync", "always")
	}
	return slices.Concat(listen, args, s.opts.Args)
}
