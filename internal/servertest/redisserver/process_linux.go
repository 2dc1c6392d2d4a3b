package redisserver

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel kill the server when this process ends in any way.
// (To be exact, when the thread that started it ends: Go ends a thread only if a
// goroutine that was locked to it returns.)
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
