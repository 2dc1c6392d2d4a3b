package promlimit_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/stretchr/testify/require"
)

// need skips a test where there is no such program on the PATH. In continuous
// integration (environment variable CI) it fails it: there a skip would go unseen.
func need(t *testing.T, program string) {
	t.Helper()
	switch _, err := exec.LookPath(program); {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

// startPrometheus runs a server until the test ends, which scrapes target and
// evaluates alerts.yml twice a second.
func startPrometheus(t *testing.T, target string) v1.API {
	t.Helper()
	need(t, "prometheus")
	rules, err := filepath.Abs("alerts.yml")
	require.NoError(t, err)
	config := filepath.Join(t.TempDir(), "prometheus.yml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}
rule_files: [%q]
scrape_configs:
  - job_name: app
    static_configs: [{targets: [%q]}]
`, rules, target), 0o600))
	for range 3 { // somebody else may take the port first
		if api := launch(t, config); api != nil {
			return api
		}
	}
	t.Fatal("prometheus does not start")
	return nil
}

// launch returns nil if the server ended before it was ready.
func launch(t *testing.T, config string) v1.API {
	t.Helper()
	addr, dir := freeAddr(t), t.TempDir()
	cmd := exec.Command("prometheus", "--config.file", config, "--storage.tsdb.path", filepath.Join(dir, "data"),
		"--web.listen-address", addr, "--log.level", "warn")
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	dieWithParent(cmd)
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // that it was killed is no news
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // an error says that it has ended
		<-done
		if t.Failed() {
			t.Logf("prometheus said:\n%s", read(t, log.Name()))
		}
	})
	client, err := api.NewClient(api.Config{Address: (&url.URL{Scheme: "http", Host: addr}).String()})
	require.NoError(t, err)
	prometheus := v1.NewAPI(client)
	deadline := time.After(time.Minute)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := prometheus.Buildinfo(ctx)
		cancel()
		if err == nil {
			return prometheus
		}
		select {
		case <-done:
			return nil
		case <-deadline:
			t.Fatalf("prometheus does not answer on %s: %v", addr, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// promtool runs it on files of this folder.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	need(t, "promtool")
	if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}
