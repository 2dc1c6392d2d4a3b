package limiter_test

import (
	"fmt"
	"go/build"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocsAreCompiled: every Go snippet of the README and the pages in docs/ is
// part of a test, an example or a program that is compiled; every test that
// they and doc.go name exists, and so does every file that they link to.
func TestDocsAreCompiled(t *testing.T) {
	code := squeeze(read(t, append(testFiles(t), glob(t, "examples/*/*.go")...)...))
	for _, page := range glob(t, "README.md", "doc.go", "docs/*.md") {
		text := read(t, page)
		for _, snippet := range found(text, "(?s)```go\n(.*?)```") {
			if !strings.Contains(code, squeeze(snippet)) {
				t.Errorf("%s: a snippet that is in no example:\n%s", page, snippet)
			}
		}
		for _, name := range found(text, `\b(Test[A-Z]\w+)`) {
			if !strings.Contains(code, "func "+name+"(") {
				t.Errorf("%s names %s, which is no test", page, name)
			}
		}
		for _, link := range found(text, `\]\(([^):#]+)(?:#[^)]*)?\)`) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), link)); err != nil {
				t.Errorf("%s: a link that leads nowhere: %v", page, err)
			}
		}
	}
}

// TestEveryExampleIsOnItsPage: docs/examples.md has every folder of examples/,
// with its command, and every program there begins with its name.
func TestEveryExampleIsOnItsPage(t *testing.T) {
	page := read(t, "docs/examples.md")
	for _, program := range glob(t, "examples/*/main.go") {
		name := filepath.Base(filepath.Dir(program))
		_, section, ok := strings.Cut(page, "\n## "+name+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		if !ok || !strings.Contains(section, "go run ") || !strings.Contains(section, "../examples/"+name+"/") {
			t.Errorf("docs/examples.md lacks %s, its link or its command", name)
		}
		if !strings.HasPrefix(strings.ToLower(read(t, program)), "// "+name+" ") {
			t.Errorf("%s does not begin with what it is", program)
		}
	}
	for _, folder := range found(page, `\(\.\./examples/(\w+)/`) {
		require.FileExists(t, "examples/"+folder+"/main.go")
	}
}

// TestPictureOfImports: the picture in CONTRIBUTING.md has every import of one package
// of the library by another, except imports that follow from others, and no other arrow.
func TestPictureOfImports(t *testing.T) {
	const module = "github.com/seed-e56e777b/limiter"
	imports := map[string][]string{} // by package
	var visit func(name string)
	visit = func(name string) {
		if _, known := imports[name]; known {
			return
		}
		imports[name] = nil
		p, err := build.ImportDir("."+strings.TrimPrefix(name, module), 0)
		require.NoError(t, err)
		for _, other := range p.Imports {
			if strings.HasPrefix(other, module) {
				imports[name] = append(imports[name], other)
				visit(other)
			}
		}
	}
	for _, name := range []string{"/httplimit", "/limits"} {
		visit(module + name)
	}
	var reaches func(from, to string) bool
	reaches = func(from, to string) bool {
		return from == to || slices.ContainsFunc(imports[from], func(next string) bool { return reaches(next, to) })
	}
	var picture strings.Builder
	for _, from := range slices.Sorted(maps.Keys(imports)) {
		var arrows []string
		for _, to := range imports[from] {
			if !slices.ContainsFunc(imports[from], func(other string) bool { return other != to && reaches(other, to) }) {
				arrows = append(arrows, path.Base(to))
			}
		}
		if len(arrows) > 0 {
			fmt.Fprintf(&picture, "    %s --> %s\n", path.Base(from), strings.Join(arrows, " & "))
		}
	}
	if !strings.Contains(read(t, "CONTRIBUTING.md"), "flowchart TD\n"+picture.String()+"```") {
		t.Errorf("the picture of imports in CONTRIBUTING.md is not that of the code:\n%s", picture.String())
	}
}

// testFiles returns the test files of every module in this repository. Folders
// that the go command ignores are skipped.
func testFiles(t *testing.T) (files []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch name := d.Name(); {
		case d.IsDir() && path != "." && (strings.ContainsAny(name[:1], "._") || name == "testdata"):
			return filepath.SkipDir
		case !d.IsDir() && strings.HasSuffix(name, "_test.go"):
			files = append(files, path)
		}
		return nil
	}))
	require.NotEmpty(t, files)
	return files
}

// glob is the files of all patterns, of each at least one.
func glob(t *testing.T, patterns ...string) (files []string) {
	t.Helper()
	for _, pattern := range patterns {
		matches, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, matches, pattern)
		files = append(files, matches...)
	}
	return files
}

// found is what the first group of a pattern matches in a text.
func found(text, pattern string) (matches []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		matches = append(matches, m[1])
	}
	return matches
}

func read(t *testing.T, files ...string) string {
	t.Helper()
	var text strings.Builder
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		text.Write(data)
	}
	return text.String()
}

// squeeze makes one space of every run of white space.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }
