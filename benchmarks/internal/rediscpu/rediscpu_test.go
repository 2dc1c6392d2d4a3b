package rediscpu

import (
	"testing"
	"time"
)

func TestSystemAndUserTimeAreAdded(t *testing.T) {
	for _, tt := range []struct {
		info string
		want time.Duration
		ok   bool
	}{
		{"# CPU\r\nused_cpu_sys:1.500000\r\nused_cpu_user:0.250000\r\nused_cpu_sys_children:9.0\r\n", 1750 * time.Millisecond, true},
		{"# CPU\r\nused_cpu_sys:1.500000\r\n", 0, false},
		{"# CPU\r\nused_cpu_sys:1.5\r\nused_cpu_user:much\r\n", 0, false},
	} {
		got, err := parse(tt.info)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("parse(%q) = %v, %v, want %v", tt.info, got, err, tt.want)
		}
	}
}
