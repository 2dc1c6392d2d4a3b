package limiter_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLimitsGuideIsCompiled: every Go snippet of docs/limits.md is part of an
// example or a program that is compiled, every program that it names exists,
// and so does every test.
func TestLimitsGuideIsCompiled(t *testing.T) {
	var code strings.Builder
	for _, pattern := range []string{"*_test.go", "limits/*_test.go", "examples/*/*.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			code.WriteString(squeeze(read(t, file)))
		}
	}
	guide := read(t, "docs/limits.md")
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(guide, -1)
	require.NotEmpty(t, snippets)
	for _, s := range snippets {
		if !strings.Contains(code.String(), squeeze(s[1])) {
			t.Errorf("the guide's snippet is in no example:\n%s", s[1])
		}
	}
	programs := regexp.MustCompile(`\(\.\./(examples/\w+/main\.go)\)`).FindAllStringSubmatch(guide, -1)
	require.NotEmpty(t, programs)
	for _, p := range programs {
		if !strings.HasPrefix(strings.ToLower(read(t, p[1])), "// "+filepath.Base(filepath.Dir(p[1]))+" ") {
			t.Errorf("%s does not begin with what it is", p[1])
		}
	}
	for _, name := range regexp.MustCompile(`Test[A-Z]\w+`).FindAllString(guide, -1) {
		if !strings.Contains(code.String(), "func "+name+"(") {
			t.Errorf("the guide names %s, which is no test", name)
		}
	}
}
