package report

import (
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/model"
)

// textsOf returns the texts of an SVG, which must be well-formed.
func textsOf(t *testing.T, svg []byte) []string {
	var texts []string
	_, drawn, found := strings.Cut(string(svg), "</style>")
	require.True(t, found)
	require.NoError(t, xml.Unmarshal(svg, new(struct{})))
	dec := xml.NewDecoder(strings.NewReader("<svg>" + drawn))
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return texts
		}
		require.NoError(t, err)
		if data, ok := token.(xml.CharData); ok && strings.TrimSpace(string(data)) != "" {
			texts = append(texts, strings.TrimSpace(string(data)))
		}
	}
}

func TestChart(t *testing.T) {
	svg, err := Chart(result(1000, 990, 1010))
	require.NoError(t, err)
	require.Subset(t, textsOf(t, svg), []string{
		"Admitted under 1000/s burst 100",
		"one central bucket", "this limiter", "fail open", "fail closed", "private full limit", "the limit, 1000/s",
		"Redis is away", "seconds", "admitted per second",
	})
	first := strings.Index(string(svg), "<path")
	require.Contains(t, string(svg[first:first+200]), "fill:#FFFFFF", "the page's background must not show through")
	require.NotContains(t, string(svg), "font-family:Liberation Sans;")
}

// TestChartFollowsThePage: every colour but those of the lines that show on both
// has another one on a dark page.
func TestChartFollowsThePage(t *testing.T) {
	svg, err := Chart(result(1000, 990, 1010))
	require.NoError(t, err)
	style, drawn, _ := strings.Cut(string(svg), "</style>")
	both := []string{hex(vermillion), hex(purple), hex(green)}
	used := regexp.MustCompile(`(?:fill|stroke):#[0-9A-F]{6}`).FindAllString(drawn, -1)
	require.NotEmpty(t, used)
	for _, c := range used {
		if _, value, _ := strings.Cut(c, ":"); !slices.Contains(both, value) {
			require.Contains(t, style, `[style*="`+c+`"]`)
		}
	}
}

func TestChartOfARunCutShort(t *testing.T) {
	for _, end := range []time.Duration{0, 50 * time.Millisecond, 3100 * time.Millisecond} {
		r := model.Compare(limiter.Limit{Rate: 10, Burst: 1}, nil, nil, end, time.Second)
		svg, err := Chart(r)
		require.NoError(t, err)
		require.Contains(t, textsOf(t, svg), "this limiter")
	}
}

func TestSteps(t *testing.T) {
	r := model.Result{End: 2600 * time.Millisecond, Bin: time.Second}
	var got []float64
	for _, pt := range steps(model.Outcome{PerBin: []int{10, 20, 30}}, r) {
		got = append(got, pt.X, pt.Y)
	}
	require.InDeltaSlice(t, []float64{0, 10, 1, 10, 1, 20, 2, 20, 2, 50, 2.6, 50}, got, 1e-9)
	r.End = 2400 * time.Millisecond
	require.Len(t, steps(model.Outcome{PerBin: []int{10, 20, 30}}, r), 4, "a last bin that is mostly empty says nothing")
}

func TestBinWidth(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{
		3 * time.Second:  250 * time.Millisecond,
		30 * time.Second: 500 * time.Millisecond,
		time.Minute:      time.Second,
		time.Hour:        time.Minute,
		24 * time.Hour:   24 * time.Minute,
	} {
		require.Equal(t, want, BinWidth(d))
	}
}
