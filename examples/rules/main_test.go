package main

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/limits"
)

// TestRulesAreFollowed: a change applies while the program runs, a bad one does
// not, and a limit in shadow mode denies nothing.
func TestRulesAreFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits.json")
	write := func(rules string) { require.NoError(t, os.WriteFile(path, []byte(rules), 0o600)) }
	write(`{"*": "2/h", "partner:*": "1/h shadow"}`)
	synctest.Test(t, func(t *testing.T) {
		ls, l, err := follow(t.Context(), limits.File(path), time.Second)
		require.NoError(t, err)
		defer l.Close()
		defer ls.Close()
		for _, step := range []struct{ rules, key, want string }{
			{"", "user:42", "user:42    limit 2/h: 2 of 4 admitted"},
			{"", "partner:7", "partner:7  limit 1/h: 4 of 4 admitted, 3 only in shadow mode"},
			{`{"*": "3/h"}`, "user:43", "user:43    limit 3/h: 3 of 4 admitted"},
			{`{"*": "never"}`, "user:44", "user:44    limit 3/h: 3 of 4 admitted"},
		} {
			if step.rules != "" {
				write(step.rules)
				time.Sleep(1500 * time.Millisecond)
				synctest.Wait()
			}
			if got := ask(l, step.key, 4); got != step.want {
				t.Errorf("%q, want %q", got, step.want)
			}
		}
		require.ErrorContains(t, ls.Err(), `limits.json:1: "*": limiter: limit "never"`)
	})
}
