package summary

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/logs"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/replay"
)

var start = time.Date(2026, 3, 14, 13, 50, 0, 0, time.UTC)

// evil is what a log may hold.
const evil = "<script>alert(1)</script>\x1b[31m\"'&\u202e"

// example is a summary with everything in it.
func example(t *testing.T) Summary {
	l := limiter.Per(2, 5*time.Second)
	outage, err := replay.ParseSpell("1m+1m")
	require.NoError(t, err)
	r := replay.New(replay.Config{Limit: l, MaxKeys: 2, Processes: 3, Outage: &outage, Suggest: replay.Coarse(l)})
	for i := range 600 {
		for _, key := range []string{evil, "b", "c"}[:1+i%3] {
			r.Add(&logs.Entry{At: start.Add(time.Duration(i) * time.Second / 2 / time.Second * time.Second).UnixNano(), Whole: true, Key: []byte(key), HasKey: true})
		}
	}
	return Summary{
		Result: r.Result(5, 0.01), Names: []string{evil + ".log", "b.log"}, Key: "ip", Cut: true,
		Read: logs.Counts{Lines: 1300, Unparsed: 1, NoKey: 2, Formats: []string{"combined"}, Examples: []logs.Example{
			{File: evil, Line: 7, Text: evil, Why: errors.New("no sense")},
		}},
	}
}

func TestTextIsHarmlessToATerminal(t *testing.T) {
	var b strings.Builder
	Text(&b, example(t))
	require.NotContains(t, b.String(), "\x1b")
	require.NotContains(t, b.String(), "\u202e")
	require.Contains(t, b.String(), `<script>alert(1)</script>\x1b[31m"'&\u202e`)
	for line := range strings.Lines(b.String()) {
		require.Equal(t, strings.TrimRight(line, " \n")+"\n", line, "no space at the end of a line")
	}
}

func TestNotesSayWhatToDistrust(t *testing.T) {
	s := example(t)
	s.Back, s.FarBack = 2, time.Hour
	notes := strings.Join(s.notes(), "\n")
	for _, want := range []string{
		"Interrupted",
		"1 of 1,300 lines could not be read.",
		"line 7: no sense: <script>",
		`Requests without the key (empty, or "-"), which are not limited, and not counted above: 2.`,
		"The time goes back at 2 lines, by up to 1h0m0s",
		"in the order of time",
		"The times are whole seconds",
		"The bound of 2 keys (-max-keys) was hit: ",
		"was hit by the fleet's pairs",
		"was hit by the outage's keys",
		"was hit by the suggestion",
		"of them before their buckets were full again",
	} {
		require.Contains(t, notes, want)
	}
	require.Empty(t, Summary{Result: replay.Result{Limit: limiter.Per(1, time.Second)}}.notes())
}

func TestAnOutageOutsideTheLogIsSaid(t *testing.T) {
	s := example(t)
	s.Outage.From = s.To.Add(time.Second)
	s.Outage.To = s.To.Add(time.Minute)
	require.Contains(t, strings.Join(s.notes(), "\n"), "The outage lies outside the log.")
	_, err := Page(s)
	require.NoError(t, err)
}

func TestPageEscapesWhatALogHolds(t *testing.T) {
	page, err := Page(example(t))
	require.NoError(t, err)
	text := string(page)
	require.NotContains(t, text, "<script")
	require.Equal(t, 4, strings.Count(text, "&lt;script&gt;"), "in the source, a key, and a line that can't be read with its file")
	require.NotContains(t, text, "\x1b")
	for _, outside := range []string{"http:", "https:", "src=", "url(", "@import"} {
		require.NotContains(t, text, outside, "the page needs nothing but itself")
	}
}

// TestPageIsWellFormed reads it as XML, which the page happens to be but for
// its head and entities.
func TestPageIsWellFormed(t *testing.T) {
	page, err := Page(example(t))
	require.NoError(t, err)
	_, body, ok := strings.Cut(string(page), "<body>")
	require.True(t, ok)
	dec := xml.NewDecoder(strings.NewReader("<body>" + strings.TrimSuffix(strings.TrimSpace(body), "</html>")))
	bars, lines := 0, 0
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok {
			switch e.Name.Local {
			case "rect":
				bars++
			case "polyline":
				lines++
			}
		}
	}
	require.Greater(t, bars, 100)
	require.Equal(t, 6, lines)
}

func TestChartsFillTheirSquare(t *testing.T) {
	s := example(t)
	c := s.overChart()
	highest := float64(side)
	for _, b := range c.Boxes {
		require.LessOrEqual(t, b.X+b.W, float64(side))
		require.LessOrEqual(t, b.Y+b.H, float64(side)+0.01)
		highest = min(highest, b.Y)
	}
	require.Zero(t, highest)
	require.Equal(t, []string{"13:50:00", "13:52:30", "13:55:00"}, c.Axis)
	o := s.outageChart()
	require.Equal(t, "0,500 500,500 500,0 1000,0", steps([]int{1, 2}, 2))
	require.Equal(t, box{"away", 333.33, 0, 333.33, side}, o.Boxes[0])
}

func TestPercent(t *testing.T) {
	for _, tt := range []struct {
		n, m int
		want string
	}{
		{0, 0, "–"},
		{0, 5, "0.00 %"},
		{1, 3, "33.33 %"},
		{5, 5, "100.00 %"},
		{1, 1_000_000, "0.0001 %"},
	} {
		if got := percent(tt.n, tt.m); got != tt.want {
			t.Errorf("percent(%d, %d) = %q, want %q", tt.n, tt.m, got, tt.want)
		}
	}
}

func TestSuggestionsInWords(t *testing.T) {
	count := func(n, denied int) *replay.Count {
		return &replay.Count{Limit: limiter.Per(n, time.Minute), Denied: denied}
	}
	for _, tt := range []struct {
		s    replay.Suggestion
		want string
	}{
		{replay.Suggestion{Total: 1000, Best: count(8, 1), Below: count(7, 3), Exact: true}, "8/m would deny 1 of 1,000 (0.1 %). 7/m would deny 3 of 1,000 (0.3 %). So it is the smallest"},
		{replay.Suggestion{Total: 1000, Best: count(8, 1), Below: count(6, 3)}, "Limits between the two were not tried"},
		{replay.Suggestion{Total: 1000, Best: count(1, 0), Exact: true}, "There is no smaller one"},
		{replay.Suggestion{Total: 1000, Best: count(4, 0)}, "Smaller ones were not tried"},
		{replay.Suggestion{Total: 1000, Below: count(4, 10)}, "Even 4/m would deny 10 of 1,000 (1 %)."},
	} {
		require.Contains(t, strings.Join(suggestion(&tt.s), " "), tt.want)
	}
}
