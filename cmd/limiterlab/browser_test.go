package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// browser is a headless Chromium, driven through chromedriver by the WebDriver
// protocol.
type browser struct {
	t       *testing.T
	session string // URL of the session
}

// browserRequired is the environment variable that makes a missing browser a
// failure, where it says "required"; else it is a skip.
const browserRequired = "LIMITERLAB_BROWSER"

// newBrowser lends a browser until the test ends.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	driver, chromium := findAny("chromedriver"), findAny("chromium", "google-chrome", "chromium-browser")
	if driver == "" || chromium == "" {
		const missing = "the page is not tested in a browser: chromium and chromedriver are not on the PATH (Debian: apt-get install chromium chromium-driver)"
		if os.Getenv(browserRequired) == "required" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	b := &browser{t: t}
	base := startDriver(t, driver)
	var created struct {
		ID string `json:"sessionId"`
	}
	b.call(http.MethodPost, base+"/session", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"goog:chromeOptions": map[string]any{"binary": chromium, "args": chromiumFlags(t)},
		"goog:loggingPrefs":  map[string]any{"browser": "ALL"},
	}}}, &created)
	b.session = base + "/session/" + created.ID
	t.Cleanup(func() { b.call(http.MethodDelete, b.session, nil, nil) })
	return b
}

// findAny returns the path of the first program that there is; empty: none.
func findAny(programs ...string) string {
	for _, p := range programs {
		if path, err := exec.LookPath(p); err == nil {
			return path
		}
	}
	return ""
}

func chromiumFlags(t *testing.T) []string {
	profile, err := os.MkdirTemp("", "limiterlab-chromium-") //nolint:usetesting // a Chromium that has not quite ended must not fail the test
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(profile) })
	return []string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir=" + profile,
	}
}

// startDriver starts chromedriver on a free port and returns its URL.
func startDriver(t *testing.T, driver string) string {
	cmd := exec.Command(driver, "--port=0")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	started := regexp.MustCompile(`started successfully on port (\d+)`)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := started.FindStringSubmatch(lines.Text()); m != nil {
			go io.Copy(io.Discard, out) //nolint:errcheck // only so that chromedriver never waits for us
			return "http://127.0.0.1:" + m[1]
		}
	}
	t.Fatal("chromedriver did not start")
	return ""
}

// call makes one WebDriver call, which must succeed.
func (b *browser) call(method, url string, body, value any) {
	b.t.Helper()
	failure := b.try(method, url, body, value)
	require.Empty(b.t, failure, "%s %s", method, url)
}

// try makes one call and returns what the browser says it failed of.
func (b *browser) try(method, url string, body, value any) string {
	b.t.Helper()
	var in io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		require.NoError(b.t, err)
		in = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, url, in) // not the test's context: Cleanup calls too
	require.NoError(b.t, err)
	resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
	require.NoError(b.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	if resp.StatusCode != http.StatusOK {
		return string(data)
	}
	if value != nil {
		require.NoError(b.t, json.Unmarshal(data, &struct{ Value any }{value}))
	}
	return ""
}

func (b *browser) post(path string, body, value any) {
	b.t.Helper()
	b.call(http.MethodPost, b.session+path, body, value)
}

// open opens a page.
func (b *browser) open(url string) {
	b.t.Helper()
	b.post("/url", map[string]any{"url": url}, nil)
}

// eval evaluates an expression in the page.
func (b *browser) eval(expression string, value any) {
	b.t.Helper()
	b.post("/execute/sync", map[string]any{"script": "return " + expression, "args": []any{}}, value)
}

// truth evaluates a condition in the page.
func (b *browser) truth(condition string) bool {
	b.t.Helper()
	var ok bool
	b.eval("Boolean("+condition+")", &ok)
	return ok
}

// await waits until a condition holds in the page.
func (b *browser) await(condition string) {
	b.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !b.truth(condition) {
		if time.Now().After(deadline) {
			var page string
			b.eval("document.body.innerText", &page)
			require.Failf(b.t, "it never came", "%s\nin\n%s", condition, page)
		}
		<-tick.C
	}
}

// click clicks on the one element as a user would: it must be there, in reach.
func (b *browser) click(selector string) {
	b.t.Helper()
	var element map[string]string
	b.post("/element", map[string]any{"using": "css selector", "value": selector}, &element)
	for _, id := range element {
		b.post("/element/"+id+"/click", map[string]any{}, nil)
	}
}

// errors returns the errors in the browser's console since the last call.
func (b *browser) errors() []string {
	b.t.Helper()
	var entries []struct{ Level, Message string }
	b.post("/se/log", map[string]any{"type": "browser"}, &entries)
	var messages []string
	for _, e := range entries {
		if e.Level == "SEVERE" {
			messages = append(messages, e.Message)
		}
	}
	return messages
}

// The keys of the WebDriver protocol.
const (
	keyTab   = "\ue004"
	keyEnter = "\ue007"
)

// press presses keys, one after the other.
func (b *browser) press(keys ...string) {
	b.t.Helper()
	var actions []map[string]any
	for _, key := range keys {
		actions = append(actions, map[string]any{"type": "keyDown", "value": key}, map[string]any{"type": "keyUp", "value": key})
	}
	b.post("/actions", map[string]any{"actions": []any{map[string]any{"type": "key", "id": "keys", "actions": actions}}}, nil)
}

// devtools sends a command of the DevTools protocol.
func (b *browser) devtools(command string, params map[string]any) {
	b.t.Helper()
	b.post("/goog/cdp/execute", map[string]any{"cmd": command, "params": params}, nil)
}

// width makes the window as wide as a device.
func (b *browser) width(pixels, height int) {
	b.t.Helper()
	b.devtools("Emulation.setDeviceMetricsOverride", map[string]any{"width": pixels, "height": height, "deviceScaleFactor": 1, "mobile": pixels < 600})
}

// scheme is what the user prefers: "dark" or "light".
func (b *browser) scheme(name string) {
	b.t.Helper()
	b.devtools("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": name}}})
}

// screenshot writes a PNG of the window.
func (b *browser) screenshot(path string) {
	b.t.Helper()
	var encoded string
	b.call(http.MethodGet, b.session+"/screenshot", nil, &encoded)
	data, err := base64.StdEncoding.DecodeString(encoded)
	require.NoError(b.t, err)
	require.NoError(b.t, os.WriteFile(path, data, 0o644))
}
