//go:build !linux

package redisserver

import "os/exec"

// dieWithParent does nothing here: only Close ends a server.
func dieWithParent(*exec.Cmd) {}
