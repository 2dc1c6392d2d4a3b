package redisserver

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill the server when this process dies, however it
// does. (To be exact, when the thread that started it does: Go ends a thread only
// where a goroutine that was locked to it returns.)
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
