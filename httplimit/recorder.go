package httplimit

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
)

// recorder records the status of a response. It has all capabilities of the writer
// inside: through Unwrap, for [http.ResponseController], and by the interfaces of
// net/http. A capability that the writer inside lacks fails with
// [http.ErrNotSupported].
type recorder struct {
	http.ResponseWriter
	status int // 0: none yet, which means 200 at the end
}

// Unwrap is for [http.ResponseController].
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) controller() *http.ResponseController {
	return http.NewResponseController(w.ResponseWriter)
}

// record records the first status that is final: informational ones come before it.
func (w *recorder) record(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
}

func (w *recorder) WriteHeader(status int) {
	w.record(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	w.record(http.StatusOK)
	return w.ResponseWriter.Write(b)
}

// ReadFrom keeps the fast path of io.Copy, sendfile. A copy of nothing sends no
// status.
func (w *recorder) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(w.ResponseWriter, r)
	if n > 0 {
		w.record(http.StatusOK)
	}
	return n, err
}

func (w *recorder) Flush() { _ = w.FlushError() } // http.Flusher returns no error

func (w *recorder) FlushError() error {
	err := w.controller().Flush()
	if !errors.Is(err, http.ErrNotSupported) {
		w.record(http.StatusOK)
	}
	return err
}

func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := w.controller().Hijack()
	if err == nil {
		w.record(http.StatusSwitchingProtocols)
	}
	return conn, rw, err
}

// Push calls the pusher inside, because a ResponseController has no Push.
func (w *recorder) Push(target string, opts *http.PushOptions) error {
	if pusher, ok := inside[http.Pusher](w); ok {
		return pusher.Push(target, opts)
	}
	return http.ErrNotSupported
}

// CloseNotify is for handlers that call it without a check, as gin does. If the writer
// inside has none, the channel never receives.
func (w *recorder) CloseNotify() <-chan bool {
	if notifier, ok := inside[http.CloseNotifier](w); ok { //nolint:staticcheck // deprecated, and in use
		return notifier.CloseNotify()
	}
	return make(chan bool)
}

// inside returns the first T among a writer and the writers inside it.
func inside[T any](w *recorder) (found T, ok bool) {
	for inner := w.ResponseWriter; ; {
		if found, ok = inner.(T); ok {
			return found, true
		}
		wrapper, wraps := inner.(interface{ Unwrap() http.ResponseWriter })
		if !wraps {
			return found, false
		}
		inner = wrapper.Unwrap()
	}
}
