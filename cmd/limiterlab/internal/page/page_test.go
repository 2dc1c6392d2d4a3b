package page

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/live"
)

// fake is a lab that notes what it is told.
type fake struct {
	from int
	told []live.Command
	err  error
	ctx  error // of the last command's context
}

func (f *fake) State(from int) live.State {
	f.from = from
	return live.State{Run: "x", Slices: []live.Slice{{To: 1, Tally: live.Tally{Asked: 1}}}}
}

func (f *fake) Do(ctx context.Context, c live.Command) (string, error) {
	f.ctx = ctx.Err()
	f.told = append(f.told, c)
	return "Done so.", f.err
}

// answer is what the page answers to a request with these headers.
func answer(f *fake, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "localhost:8080"
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	New(f, "lab.example").ServeHTTP(w, r)
	return w
}

func TestState(t *testing.T) {
	f := &fake{}
	w := answer(f, "GET", "/state?from=7", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	require.Equal(t, 7, f.from)
	var s live.State
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &s))
	require.Equal(t, live.State{Run: "x", Slices: []live.Slice{{To: 1, Tally: live.Tally{Asked: 1}}}}, s)
	answer(f, "GET", "/state", "")
	require.Equal(t, 0, f.from)
	require.Equal(t, http.StatusBadRequest, answer(f, "GET", "/state?from=x", "").Code)
}

func TestCommands(t *testing.T) {
	for body, want := range map[string]live.Command{
		"do=kill":             {Do: "kill"},
		"do=stop&process=3":   {Do: "stop", Process: 3},
		"do=move&load=even":   {Do: "move", Load: live.Even},
		"do=demand&demand=.5": {Do: "demand", Demand: 0.5},
		"do=calls&calls=wait": {Do: "calls", Calls: live.Wait},
	} {
		f := &fake{}
		w := answer(f, "POST", "/do", body)
		require.Equal(t, http.StatusOK, w.Code, body)
		require.JSONEq(t, `{"said": "Done so.", "done": true}`, w.Body.String())
		require.Equal(t, []live.Command{want}, f.told)
	}
}

// TestCommandOutlivesItsPage: a page that is closed must not leave Redis half dead.
func TestCommandOutlivesItsPage(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, "POST", "http://localhost/do", strings.NewReader("do=kill"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	f := &fake{}
	New(f, "localhost").ServeHTTP(httptest.NewRecorder(), r)
	require.Len(t, f.told, 1)
	require.NoError(t, f.ctx)
}

func TestRefusedCommands(t *testing.T) {
	for _, tt := range []struct {
		body string
		err  error
		code int
		said string
	}{
		{"do=kill", errors.New("redis is dead already"), http.StatusConflict, "Redis is dead already."},
		{"do=explode", live.ErrUnknown, http.StatusBadRequest, "Unknown command."},
		{"do=stop&process=x", nil, http.StatusBadRequest, "Process is no number."},
		{"do=demand&demand=x", nil, http.StatusBadRequest, "Demand is no number."},
		{"do=%", nil, http.StatusBadRequest, "The form can't be read."},
		{"do=" + strings.Repeat("x", 5000), nil, http.StatusBadRequest, "The form can't be read."},
	} {
		w := answer(&fake{err: tt.err}, "POST", "/do", tt.body)
		require.Equal(t, tt.code, w.Code, tt.body)
		var got said
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
		require.Equal(t, said{Said: tt.said}, got)
	}
}

func TestOtherSitesAreKeptOut(t *testing.T) {
	for name, tt := range map[string]struct {
		method  string
		headers []string
		code    int
	}{
		"the page itself":               {"POST", []string{"Origin", "http://localhost:8080", "Sec-Fetch-Site", "same-origin"}, 200},
		"no browser":                    {"POST", nil, 200},
		"another site":                  {"POST", []string{"Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site"}, 403},
		"another port":                  {"POST", []string{"Origin", "http://localhost:9", "Sec-Fetch-Site", "same-site"}, 403},
		"another site, old browser":     {"POST", []string{"Origin", "http://evil.example"}, 403},
		"a sandboxed frame":             {"POST", []string{"Origin", "null"}, 403},
		"a name that was made to point": {"POST", []string{"Host", "evil.example:8080", "Origin", "http://evil.example:8080", "Sec-Fetch-Site", "same-origin"}, 403},
		"reading by such a name":        {"GET", []string{"Host", "evil.example:8080"}, 403},
		"an IPv4 address":               {"GET", []string{"Host", "192.168.1.5:8080"}, 200},
		"an IPv6 address":               {"GET", []string{"Host", "[::1]:8080"}, 200},
		"an IPv6 address, port 80":      {"GET", []string{"Host", "[::1]"}, 200},
		"the name it was given":         {"GET", []string{"Host", "Lab.example:8080"}, 200},
		"no name":                       {"GET", []string{"Host", ""}, 403},
		"a get that would do something": {"GET/do", nil, 404},
	} {
		f := &fake{}
		method, target, body := tt.method, "/state", ""
		switch method {
		case "POST":
			target, body = "/do", "do=kill"
		case "GET/do":
			method, target = "GET", "/do?do=kill"
		}
		w := answer(f, method, target, body, tt.headers...)
		if w.Code != tt.code {
			t.Errorf("%s: %d, want %d", name, w.Code, tt.code)
		}
		if did := len(f.told) > 0; did != (tt.method == "POST" && tt.code == 200) {
			t.Errorf("%s: did something: %v", name, did)
		}
	}
}

// TestPageNeedsNothingElse: the page loads only files that are served here, and
// none but uPlot's own comment and the icon's namespace names another host.
func TestPageNeedsNothingElse(t *testing.T) {
	w := answer(&fake{}, "GET", "/", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'self'")
	links := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(w.Body.String(), -1)
	require.NotEmpty(t, links)
	for _, link := range links { // no data: either, which the policy forbids
		require.Equal(t, http.StatusOK, answer(&fake{}, "GET", "/"+link[1], "").Code, link[1])
	}
	require.Equal(t, "image/svg+xml", answer(&fake{}, "GET", "/icon.svg", "").Header().Get("Content-Type"))
	require.Regexp(t, "(?i)<title>[^<]*rate limiting", w.Body.String())
	require.Regexp(t, "(?i)<h1>[^<]*rate limiting", w.Body.String())
	files, err := fs.Glob(assets, "assets/page.*")
	require.NoError(t, err)
	require.Len(t, files, 2)
	for _, name := range append(files, "assets/index.html") {
		data, err := assets.ReadFile(name)
		require.NoError(t, err)
		require.NotContains(t, string(data), "://", name)
	}
	licence, err := assets.ReadFile("assets/uPlot.LICENSE")
	require.NoError(t, err)
	require.Contains(t, string(licence), "MIT")
}
