// Package longtest selects the length of tests.
package longtest

import (
	"os"
	"testing"
)

// Enabled reports whether tests run at length (properties, soaks, whole matrices):
// if the environment variable LIMITER_LONG is set, as by `make test-long`. A normal
// run makes a shorter form of the same checks.
func Enabled() bool { return os.Getenv("LIMITER_LONG") != "" }

// Choose returns a size for tests with -short, for normal ones, or for long ones.
func Choose[T any](short, normal, long T) T {
	switch {
	case Enabled():
		return long
	case testing.Short():
		return short
	}
	return normal
}
