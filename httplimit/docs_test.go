package httplimit

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGuideIsCompiled: every Go snippet of docs/http.md is part of an example
// that is compiled, and every problem document in it is one that is sent.
func TestGuideIsCompiled(t *testing.T) {
	var code strings.Builder
	for _, pattern := range []string{"*example_test.go", "../examples/*/*.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			code.WriteString(squeeze(read(t, file)))
		}
	}
	guide := read(t, "../docs/http.md")
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(guide, -1)
	require.NotEmpty(t, snippets)
	for _, s := range snippets {
		if !strings.Contains(code.String(), squeeze(s[1])) {
			t.Errorf("the guide's snippet is in no example:\n%s", s[1])
		}
	}
	require.Contains(t, squeeze(guide), squeeze(string(newDenial("default").later)))
	options := regexp.MustCompile(`(?m)^\t([A-Z]\w+) .*`).FindAllStringSubmatch(optionsSource(t), -1)
	require.NotEmpty(t, options)
	for _, option := range options {
		if !strings.Contains(guide, "| `"+option[1]+"` |") {
			t.Errorf("the guide does not explain %s", option[1])
		}
	}
}

// optionsSource is the declaration of Options.
func optionsSource(t *testing.T) string {
	t.Helper()
	_, source, _ := strings.Cut(read(t, "httplimit.go"), "type Options struct {")
	source, _, _ = strings.Cut(source, "\n}\n")
	return source
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(data)
}

// squeeze makes one space of every run of white space.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }
