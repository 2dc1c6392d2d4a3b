// Package longtest tells tests how long to run.
package longtest

import (
	"os"
	"testing"
)

// Enabled reports whether tests are to run at length (properties, soaks, whole
// matrices): true if the environment variable LIMITER_LONG is set, as `make test-long`
// does. A normal run makes a shorter form of the same checks.
func Enabled() bool { return os.Getenv("LIMITER_LONG") != "" }

// Choose returns a size by how long tests are to run: with -short, normally, or at
// length.
func Choose[T any](short, normal, long T) T {
	switch {
	case Enabled():
		return long
	case testing.Short():
		return short
	}
	return normal
}
