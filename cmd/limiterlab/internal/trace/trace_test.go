package trace

import (
	"testing"
	"time"
)

func TestMeanOfLevels(t *testing.T) {
	at := func(from, to int) Span {
		return Span{From: time.Duration(from) * time.Second, To: time.Duration(to) * time.Second}
	}
	levels := []Level{{at(0, 2), 10}, {at(1, 4), 3}, {at(2, 4), 5}}
	for _, tt := range []struct {
		span Span
		want float64
	}{
		{at(0, 1), 10},
		{at(0, 2), 11.5},
		{at(1, 4), (10 + 9 + 10) / 3.},
		{at(0, 100), (20 + 9 + 10) / 100.},
		{at(5, 6), 0},
		{at(3, 3), 0},
	} {
		if got := Mean(levels, tt.span); got != tt.want {
			t.Errorf("the mean over %v is %v, want %v", tt.span, got, tt.want)
		}
	}
}
