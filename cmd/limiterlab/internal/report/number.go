// Package report presents a run: the lines while it goes on, and the table, the
// chart and the verdict at its end.
package report

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/seed-e56e777b/limiter"
)

// Thousands writes 1234567 as 1,234,567; n is at least 0.
func Thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Ratio writes n / m, m being one central bucket's number.
func Ratio(n, m int) string {
	if m == 0 {
		return "–"
	}
	return fmt.Sprintf("%.3f", float64(n)/float64(m))
}

// ago writes the age of an exchange, which is negative before the first.
func ago(age time.Duration) string {
	switch {
	case age < 0:
		return "never"
	case age < time.Second:
		return fmt.Sprintf("%d ms ago", age.Milliseconds())
	}
	return fmt.Sprintf("%.1f s ago", age.Seconds())
}

// LimitText writes a limit as a rate and a burst, unlike its String.
func LimitText(l limiter.Limit) string {
	return fmt.Sprintf("%g/s burst %d", math.Round(float64(l.Rate)*1000)/1000, l.Burst)
}
