package promlimit_test

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill the server when this process dies, however
// it does.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
