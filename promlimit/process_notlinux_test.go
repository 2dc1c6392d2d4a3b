//go:build !linux

package promlimit_test

import "os/exec"

// dieWithParent does nothing here: only the end of the test ends a server.
func dieWithParent(*exec.Cmd) {}
