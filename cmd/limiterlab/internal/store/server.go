package store

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// Server is a redis-server started, killed and started again by the lab.
type Server struct{ srv *redisserver.Server }

// NewServer starts the redis-server on the PATH, on a free loopback port.
func NewServer() (*Server, error) {
	srv, err := redisserver.Start(redisserver.Options{})
	if err != nil {
		return nil, err
	}
	return &Server{srv}, nil
}

// Endpoint implements [Store].
func (s *Server) Endpoint() Endpoint { return Endpoint{URL: "redis://" + s.srv.Addr()} }

func (s *Server) String() string { return "a redis-server of the lab's own" }

// Fate implements [Store].
func (s *Server) Fate() (dies, returns string) {
	return "is killed (SIGKILL)", "is started again, empty"
}

// Down implements [Store].
func (s *Server) Down(context.Context) error { return s.srv.Kill() }

// Up implements [Store].
func (s *Server) Up(context.Context) error { return s.srv.Restart(false) }

// Wipe implements [Store].
func (s *Server) Wipe(ctx context.Context) error {
	return s.Endpoint().once(func(c redis.UniversalClient) error { return c.FlushAll(ctx).Err() })
}

// Close implements [Store].
func (s *Server) Close() error { return s.srv.Close() }
