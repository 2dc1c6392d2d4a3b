// Package longtest tells tests whether to run at length.
package longtest

import "os"

// Enabled reports whether tests are to run at length (properties, soaks, whole
// matrices): true if the environment variable LIMITER_LONG is set, as `make test-long`
// does. A normal run makes a shorter form of the same checks.
func Enabled() bool { return os.Getenv("LIMITER_LONG") != "" }
