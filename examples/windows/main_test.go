package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-e56e777b/limiter"
)

// TestBothWindowsHold: each window denies at its own limit, and a denial of one takes
// nothing from the other.
func TestBothWindowsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second, minute := open("second", limiter.Per(10, time.Second)), open("minute", limiter.Per(15, time.Minute))
		want := []string{
			"ok, 9 left in the second", "ok, 8 left in the second", "ok, 7 left in the second", "ok, 6 left in the second",
			"ok, 5 left in the second", "ok, 4 left in the second", "ok, 3 left in the second", "ok, 2 left in the second",
			"ok, 1 left in the second", "ok, 0 left in the second",
			"denied by the second (10/s), again in 100ms", "denied by the second (10/s), again in 100ms",
		}
		for i, w := range want {
			if got := request(second, minute, "u"); got != w {
				t.Errorf("request %d: %s, want %s", i, got, w)
			}
		}
		time.Sleep(time.Second)
		for i, w := range []string{
			"ok, 4 left in the minute", "ok, 3 left in the minute", "ok, 2 left in the minute", "ok, 1 left in the minute",
			"ok, 0 left in the minute", "denied by the minute (15/m), again in 3s",
		} {
			if got := request(second, minute, "u"); got != w {
				t.Errorf("request %d of the next second: %s, want %s", i, got, w)
			}
		}
	})
}
