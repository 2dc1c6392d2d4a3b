package httplimit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
)

// counting makes the middleware look at the status.
var counting = Options{SkipFailed: true, Key: func(*http.Request) string { return "k" }}

// protocols serve a handler over HTTP/1.1 and over HTTP/2.
var protocols = map[string]func(t *testing.T, h http.Handler) *httptest.Server{
	"HTTP/1.1": func(t *testing.T, h http.Handler) *httptest.Server {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s
	},
	"HTTP/2.0": func(t *testing.T, h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.EnableHTTP2 = true
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	},
}

func eachProtocol(t *testing.T, h http.Handler, check func(t *testing.T, s *httptest.Server)) {
	t.Helper()
	for proto, serve := range protocols {
		t.Run(proto, func(t *testing.T) {
			s := serve(t, h)
			resp, err := s.Client().Head(s.URL + "/proto")
			require.NoError(t, err)
			defer resp.Body.Close()
			require.Equal(t, proto, resp.Proto)
			check(t, s)
		})
	}
}

func TestStreamingAndDeadlinesWorkThrough(t *testing.T) {
	goOn := make(chan struct{})
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			return
		}
		rc := http.NewResponseController(w)
		if err := errors.Join(rc.SetWriteDeadline(time.Now().Add(time.Minute)), rc.SetReadDeadline(time.Now().Add(time.Minute))); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "first")
		w.(http.Flusher).Flush()
		<-goOn
		fmt.Fprintln(w, "second")
		_ = rc.Flush()
		<-goOn
	}
	h := New(newLimiter(t, limiter.Per(100, time.Hour)), counting)(http.HandlerFunc(handler))
	eachProtocol(t, h, func(t *testing.T, s *httptest.Server) {
		resp, err := s.Client().Get(s.URL)
		require.NoError(t, err)
		defer resp.Body.Close()
		body := bufio.NewReader(resp.Body)
		for _, want := range []string{"first\n", "second\n"} {
			got, err := body.ReadString('\n') // the handler waits: it has come by the flush
			require.NoError(t, err)
			require.Equal(t, want, got)
			goOn <- struct{}{}
		}
	})
}

func TestHeadersArriveOverBothProtocols(t *testing.T) {
	l := newLimiter(t, limiter.Per(4, 1000*time.Hour))
	opts := Options{LegacyHeaders: true}
	eachProtocol(t, limited(l, opts), func(t *testing.T, s *httptest.Server) {
		resp, err := s.Client().Get(s.URL)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, []string{`"default";q=4;w=3600000`}, resp.Header.Values("RateLimit-Policy"))
		require.Len(t, resp.Header.Values("RateLimit"), 1)
		require.Equal(t, "4", resp.Header.Get("X-RateLimit-Limit"))
	})
}

// TestFilesAreCopiedByTheServersReadFrom: io.Copy must find the ReadFrom of
// the writer inside, which makes sendfile possible.
func TestFilesAreCopiedByTheServersReadFrom(t *testing.T) {
	inside := &capable{ResponseWriter: httptest.NewRecorder()}
	h := New(newLimiter(t, limiter.Per(100, time.Hour)), counting)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n, err := io.Copy(w, io.LimitReader(strings.NewReader("hello, world"), 5)); n != 5 || err != nil {
			t.Errorf("copied %d bytes: %v", n, err)
		}
	}))
	h.ServeHTTP(inside, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
	require.Equal(t, 1, inside.readFrom)
}

func TestFilesArriveWhole(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	require.NoError(t, os.WriteFile(file, content, 0o600))
	h := New(newLimiter(t, limiter.Per(100, time.Hour)), counting)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, file)
	}))
	eachProtocol(t, h, func(t *testing.T, s *httptest.Server) {
		resp, err := s.Client().Get(s.URL)
		require.NoError(t, err)
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got))
	})
}

// TestConnectionsCanBeTakenOver: as a WebSocket does it, on a real server. The
// refund comes when the handler ends, and counts the connection as 101.
func TestConnectionsCanBeTakenOver(t *testing.T) {
	for _, takeOver := range []func(http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error){
		func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) { return w.(http.Hijacker).Hijack() },
		func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
			return http.NewResponseController(w).Hijack()
		},
	} {
		l := newLimiter(t, limiter.Per(10, 1000*time.Hour))
		limit := New(l, Options{SkipSuccessful: true, Key: func(*http.Request) string { return "k" }})
		ended := make(chan struct{})
		echo := limit(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, rw, err := takeOver(w)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			defer conn.Close()
			fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			rw.Flush()
			line, _ := rw.ReadString('\n')
			fmt.Fprint(rw, line)
			rw.Flush()
		}))
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(ended)
			echo.ServeHTTP(w, r)
		}))
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		require.NoError(t, err)
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		back := bufio.NewReader(conn)
		resp, err := http.ReadResponse(back, nil)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
		require.Equal(t, 9, l.Peek("k").Remaining, "taken while the connection lasts")
		fmt.Fprintf(conn, "ping\n")
		line, err := back.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "ping\n", line)
		<-ended
		require.Equal(t, 10, l.Peek("k").Remaining)
		conn.Close()
		s.Close()
	}
}

func TestPushFindsThePusherInside(t *testing.T) {
	inside := &capable{ResponseWriter: httptest.NewRecorder()}
	between := &recorder{ResponseWriter: inside}
	require.NoError(t, (&recorder{ResponseWriter: between}).Push("/style.css", nil))
	require.NoError(t, (&recorder{ResponseWriter: wrapping{inside}}).Push("/style.css", nil))
	require.Equal(t, 2, inside.pushed)
}

// TestCloseNotifyIsThere: frameworks ask for it without asking whether it is there.
func TestCloseNotifyIsThere(t *testing.T) {
	l := newLimiter(t, limiter.Per(10, time.Hour))
	flushed, gone := make(chan struct{}, 1), make(chan bool, 1)
	h := New(l, counting)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			return
		}
		closed := w.(http.CloseNotifier).CloseNotify() //nolint:staticcheck // deprecated, and in use
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		flushed <- struct{}{}
		gone <- <-closed
	}))
	eachProtocol(t, h, func(t *testing.T, s *httptest.Server) {
		resp, err := s.Client().Get(s.URL)
		require.NoError(t, err)
		<-flushed // a stream that is closed before fails it
		resp.Body.Close()
		require.True(t, <-gone)
	})
	require.NotNil(t, (&recorder{ResponseWriter: bare{httptest.NewRecorder()}}).CloseNotify(), "where the writer inside has none")
}

func TestWhatTheWriterInsideCannotDoIsNotSupported(t *testing.T) {
	rec := &recorder{ResponseWriter: bare{httptest.NewRecorder()}}
	_, _, err := rec.Hijack()
	require.ErrorIs(t, err, http.ErrNotSupported)
	require.ErrorIs(t, rec.Push("/", nil), http.ErrNotSupported)
	require.ErrorIs(t, rec.FlushError(), http.ErrNotSupported)
	require.ErrorIs(t, http.NewResponseController(rec).Flush(), http.ErrNotSupported)
	rec.Flush()
	require.Zero(t, rec.status, "nothing was sent")
}

// capable counts what it is asked for.
type capable struct {
	http.ResponseWriter
	readFrom, pushed int
}

func (c *capable) ReadFrom(r io.Reader) (int64, error) {
	c.readFrom++
	return io.Copy(c.ResponseWriter, r)
}

func (c *capable) Push(string, *http.PushOptions) error { c.pushed++; return nil }

// bare can do what it must, and no more.
type bare struct{ w http.ResponseWriter }

func (b bare) Header() http.Header         { return b.w.Header() }
func (b bare) Write(p []byte) (int, error) { return b.w.Write(p) }
func (b bare) WriteHeader(status int)      { b.w.WriteHeader(status) }

// wrapping is a writer of other middleware, which only unwraps.
type wrapping struct{ http.ResponseWriter }

func (w wrapping) Unwrap() http.ResponseWriter { return w.ResponseWriter }
