package limiter_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadmeIsCompiled: every Go snippet of the README is part of an example
// that is compiled, and every test that doc.go names exists.
func TestReadmeIsCompiled(t *testing.T) {
	var code strings.Builder
	for _, pattern := range []string{"*_test.go", "examples/*/*.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			code.WriteString(squeeze(read(t, file)))
		}
	}
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read(t, "README.md"), -1)
	require.NotEmpty(t, snippets)
	for _, s := range snippets {
		if !strings.Contains(code.String(), squeeze(s[1])) {
			t.Errorf("the README's snippet is in no example:\n%s", s[1])
		}
	}
	named := regexp.MustCompile(`Test[A-Z]\w+`).FindAllString(read(t, "doc.go"), -1)
	require.NotEmpty(t, named)
	for _, name := range named {
		if !strings.Contains(code.String(), "func "+name+"(") {
			t.Errorf("doc.go names %s, which is no test", name)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(data)
}

// squeeze makes one space of every run of white space.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }
