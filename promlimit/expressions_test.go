package promlimit_test

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// alert is the fields of a rule of alerts.yml that the tests read.
type alert struct {
	Alert       string
	Expr        string
	Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alert } }
	require.NoError(t, yaml.Unmarshal(read(t, "alerts.yml"), &file))
	require.Len(t, file.Groups, 1)
	require.NotEmpty(t, file.Groups[0].Rules)
	return file.Groups[0].Rules
}

// panels are the expressions of dashboard.json, by the title of their panel.
func panels(t *testing.T) map[string][]string {
	t.Helper()
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(read(t, "dashboard.json"), &board))
	exprs := map[string][]string{}
	for _, p := range board.Panels {
		require.NotContains(t, exprs, p.Title)
		for _, target := range p.Targets {
			exprs[p.Title] = append(exprs[p.Title], target.Expr)
		}
	}
	require.NotEmpty(t, exprs)
	return exprs
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	return data
}

var (
	notNames = regexp.MustCompile(`\{[^}]*\}|\[[^\]]*\]|\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	word     = regexp.MustCompile(`\b[a-zA-Z_:][\w:]*\b\s*\(?`)
	keyword  = regexp.MustCompile(`^(and|or|unless|bool|offset)$`)
)

// metrics are the names of the metrics in a PromQL expression: the words
// outside of selectors and label lists that are no functions and no operators.
func metrics(expr string) []string {
	var found []string
	for _, w := range word.FindAllString(notNames.ReplaceAllString(expr, " "), -1) {
		if w = strings.TrimSpace(w); !strings.HasSuffix(w, "(") && !keyword.MatchString(w) {
			found = append(found, w)
		}
	}
	return found
}

// TestMetricsOfAnExpression, since the tests below stand on it.
func TestMetricsOfAnExpression(t *testing.T) {
	expr := `sum by (job, limiter) (rate(a_total{result="b"}[5m])) / ignoring(c) d > 0.5e3 and on (e) time() - f{x=~"$y"} == 1`
	if got, want := metrics(expr), []string{"a_total", "d", "f"}; !slices.Equal(got, want) {
		t.Errorf("metrics of %s: %q, want %q", expr, got, want)
	}
}

// TestDashboardAndAlertsUseWhatIsCollected, and the dashboard shows all of it.
func TestDashboardAndAlertsUseWhatIsCollected(t *testing.T) {
	collected := names(t)
	use := func(where, expr string) {
		used := metrics(expr)
		if len(used) == 0 {
			t.Errorf("%s uses no metric: %s", where, expr)
		}
		for _, name := range used {
			if !slices.Contains(collected, name) {
				t.Errorf("%s uses %s, which is not collected", where, name)
			}
		}
	}
	for _, a := range alerts(t) {
		use(a.Alert, a.Expr)
	}
	shown := map[string]bool{}
	for title, exprs := range panels(t) {
		for _, expr := range exprs {
			use("panel "+title, expr)
			for _, name := range metrics(expr) {
				shown[name] = true
			}
		}
	}
	if got := slices.Sorted(maps.Keys(shown)); !slices.Equal(got, collected) {
		t.Errorf("the dashboard shows %q, want all of %q", got, collected)
	}
}

// TestEverythingIsDocumented: docs/metrics.md has each metric, and each alert
// a heading that its runbook_url leads to.
func TestEverythingIsDocumented(t *testing.T) {
	doc := string(read(t, "../docs/metrics.md"))
	for _, name := range names(t) {
		if !strings.Contains(doc, "`"+name) {
			t.Errorf("docs/metrics.md does not have %s", name)
		}
	}
	for _, a := range alerts(t) {
		if !strings.Contains(doc, "\n### "+a.Alert+"\n") {
			t.Errorf("docs/metrics.md has no heading %s", a.Alert)
		}
		if want := "/docs/metrics.md#" + strings.ToLower(a.Alert); !strings.HasSuffix(a.Annotations["runbook_url"], want) {
			t.Errorf("%s: runbook_url %q does not lead to %s", a.Alert, a.Annotations["runbook_url"], want)
		}
	}
}

// TestEveryAlertHasAUnitTest in testdata/alerts_test.yml, that it is raised.
func TestEveryAlertHasAUnitTest(t *testing.T) {
	var file struct {
		Tests []struct {
			Cases []struct {
				Name   string           `yaml:"alertname"`
				Alerts []map[string]any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	require.NoError(t, yaml.Unmarshal(read(t, "testdata/alerts_test.yml"), &file))
	raised, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, c := range test.Cases {
			raised[c.Name] = raised[c.Name] || len(c.Alerts) > 0
			quiet[c.Name] = quiet[c.Name] || len(c.Alerts) == 0
		}
	}
	for _, a := range alerts(t) {
		if !raised[a.Alert] || !quiet[a.Alert] {
			t.Errorf("%s: shown raised: %v, shown quiet: %v; want both", a.Alert, raised[a.Alert], quiet[a.Alert])
		}
	}
}
