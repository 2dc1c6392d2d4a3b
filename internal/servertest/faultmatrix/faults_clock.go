package faultmatrix

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// clockStep returns the fault of a server that comes back with its data and another
// clock, as a new primary may.
func clockStep(name string, step time.Duration) *Fault {
	return &Fault{
		Name: name, House: appending, Lasts: lasting, Want: outage,
		Inject: do(func(h *House) error { return h.server.Kill() }),
		Heal: func(ctx context.Context, h *House) error {
			library, err := clockLibrary(ctx, h.server.Dir(), step)
			if err != nil {
				return err
			}
			h.server.Setenv("LD_PRELOAD=" + library)
			return h.server.Restart(true)
		},
	}
}

// otherClock is the source of a library that shifts a program's wall clock by STEP
// seconds. (libfaketime allocates meanwhile, which crashes Redis's allocator, because
// that reads the time.)
const otherClock = `
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *ts) {
	int err = syscall(SYS_clock_gettime, id, ts);
	if (!err && id == CLOCK_REALTIME) ts->tv_sec += STEP;
	return err;
}
int gettimeofday(struct timeval *tv, void *tz) {
	struct timespec ts;
	int err = clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return err;
}
`

// clockLibrary compiles otherClock.
func clockLibrary(ctx context.Context, dir string, step time.Duration) (string, error) {
	name := filepath.Join(dir, "clock.so")
	cc := exec.CommandContext(ctx, "cc", "-shared", "-fPIC", fmt.Sprintf("-DSTEP=(%d)", int(step.Seconds())), "-x", "c", "-", "-o", name)
	cc.Stdin = strings.NewReader(otherClock)
	if out, err := cc.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: a C compiler for another clock: %w: %s", ErrNotHere, err, out)
	}
	return name, nil
}
