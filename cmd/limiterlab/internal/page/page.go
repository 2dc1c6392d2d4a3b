// Package page serves the lab's page: a live run, and the buttons that steer it.
package page

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"strconv"
	"strings"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/live"
)

// assets are the files of the page, with uPlot, which draws its chart, and its
// licence.
//
//go:embed assets
var assets embed.FS

// Lab is the run that the page shows and steers.
type Lab interface {
	State(from int) live.State
	Do(ctx context.Context, c live.Command) (said string, err error)
}

// New returns the page's handler. It answers only under IP addresses, localhost
// and the given host, and takes commands only from its own page.
func New(lab Lab, host string) http.Handler {
	files, err := fs.Sub(assets, "assets")
	if err != nil {
		panic(err) // not of embedded files
	}
	h := handler{lab}
	mux := http.NewServeMux()
	mux.Handle("GET /", cached("no-cache", http.FileServerFS(files)))
	mux.Handle("GET /state", cached("no-store", http.HandlerFunc(h.state)))
	mux.Handle("POST /do", cached("no-store", http.HandlerFunc(h.do)))
	return guard(host, mux)
}

func cached(policy string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", policy)
		next.ServeHTTP(w, r)
	})
}

type handler struct{ lab Lab }

// state answers with a snapshot, with the slices from number ?from= on.
func (h handler) state(w http.ResponseWriter, r *http.Request) {
	from := 0
	if text := r.FormValue("from"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			http.Error(w, "from is no number", http.StatusBadRequest)
			return
		}
		from = n
	}
	reply(w, http.StatusOK, h.lab.State(from))
}

// said is the answer to a command.
type said struct {
	Said string `json:"said"` // a sentence
	Done bool   `json:"done"`
}

// do executes the command of a form.
func (h handler) do(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1024)
	c, err := command(r)
	if err != nil {
		reply(w, http.StatusBadRequest, said{Said: sentence(err)})
		return
	}
	// A page that goes away must not leave Redis half dead.
	text, err := h.lab.Do(context.WithoutCancel(r.Context()), c)
	switch {
	case errors.Is(err, live.ErrUnknown):
		reply(w, http.StatusBadRequest, said{Said: sentence(err)})
	case err != nil:
		reply(w, http.StatusConflict, said{Said: sentence(err)})
	default:
		reply(w, http.StatusOK, said{Said: text, Done: true})
	}
}

// command returns the command of a form.
func command(r *http.Request) (live.Command, error) {
	if err := r.ParseForm(); err != nil {
		return live.Command{}, errors.New("the form can't be read")
	}
	c := live.Command{Do: r.PostForm.Get("do"), Load: live.Load(r.PostForm.Get("load")), Calls: live.Calls(r.PostForm.Get("calls"))}
	if text := r.PostForm.Get("process"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			return c, errors.New("process is no number")
		}
		c.Process = n
	}
	if text := r.PostForm.Get("demand"); text != "" {
		x, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return c, errors.New("demand is no number")
		}
		c.Demand = x
	}
	return c, nil
}

// sentence writes an error as a sentence.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a page that has gone needs no answer
}
