//go:build !linux

package redisserver

import "os/exec"

// dieWithParent does nothing on this system: only Close ends a server.
func dieWithParent(*exec.Cmd) {}
