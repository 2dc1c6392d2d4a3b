package trace

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func span(from, to int) Span {
	return Span{From: time.Duration(from) * time.Second, To: time.Duration(to) * time.Second}
}

func TestPhases(t *testing.T) {
	for _, tt := range []struct {
		name    string
		outages []Span
		end     int
		want    []Phase
	}{
		{"no outage", nil, 9, []Phase{{span(0, 9), "before", false}}},
		{"one", []Span{span(3, 6)}, 9, []Phase{{span(0, 3), "before", false}, {span(3, 6), "outage", true}, {span(6, 9), "after", false}}},
		{"cut short before it", []Span{span(3, 6)}, 2, []Phase{{span(0, 2), "before", false}}},
		{"cut short within it", []Span{span(3, 1000)}, 4, []Phase{{span(0, 3), "before", false}, {span(3, 4), "outage", true}}},
		{"from the start", []Span{span(0, 4)}, 9, []Phase{{span(0, 4), "outage", true}, {span(4, 9), "after", false}}},
		{"two", []Span{span(1, 2), span(3, 4)}, 5, []Phase{
			{span(0, 1), "before", false},
			{span(1, 2), "outage 1", true},
			{span(2, 3), "after", false},
			{span(3, 4), "outage 2", true},
			{span(4, 5), "after 2", false},
		}},
		{"nothing ran", nil, 0, []Phase{{Name: "before"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, Phases(tt.outages, time.Duration(tt.end)*time.Second))
		})
	}
}

func TestSort(t *testing.T) {
	requests := []Request{{At: 2, Process: 0}, {At: 1, Process: 1, Cost: 7}, {At: 1, Process: 1, Cost: 8}, {At: 1, Process: 0}}
	Sort(requests)
	require.Equal(t, []Request{{At: 1, Process: 0}, {At: 1, Process: 1, Cost: 7}, {At: 1, Process: 1, Cost: 8}, {At: 2, Process: 0}}, requests)
}
