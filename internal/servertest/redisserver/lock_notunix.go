//go:build !unix

package redisserver

import "os"

// lockPort does nothing here: processes may meet on a port.
func lockPort(*os.File, int) error { return nil }

func unlockPort(*os.File, int) error { return nil }
