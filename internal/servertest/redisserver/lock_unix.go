//go:build unix

package redisserver

import (
	"io"
	"os"
	"syscall"
)

// lockPort fails where another process holds the lock of a port. Within one
// process it always succeeds.
func lockPort(f *os.File, port int) error { return setLock(f, port, syscall.F_WRLCK) }

func unlockPort(f *os.File, port int) error { return setLock(f, port, syscall.F_UNLCK) }

func setLock(f *os.File, port int, kind int16) error {
	return syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{
		Type: kind, Whence: io.SeekStart, Start: int64(port), Len: 1,
	})
}
