package replay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestWidthsDivideOneAnother(t *testing.T) {
	for i := range widths[1:] {
		require.Zero(t, widths[i+1]%widths[i])
	}
}

func TestTimelineLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var line timeline
		asked := make(map[int64]int) // requests by second
		at, denied := time.Date(2026, 3, 14, 13, 50, 7, 0, time.UTC).UnixNano(), 0
		for _, gap := range rapid.SliceOfN(rapid.OneOf(rapid.Int64Range(0, 100), rapid.Int64Range(0, 1e7)), 1, 500).Draw(t, "seconds") {
			at += gap * int64(time.Second)
			deny := rapid.Bool().Draw(t, "denied")
			line.add(at, !deny)
			asked[at/int64(time.Second)]++
			count(&denied, deny)
		}
		most := rapid.IntRange(1, maxBins).Draw(t, "most")
		for _, l := range []timeline{line, line.atMost(most)} {
			require.LessOrEqual(t, len(l.bins), maxBins)
			want := make([]bin, len(l.bins))
			for second, n := range asked {
				want[second*int64(time.Second)/l.width()-l.first].asked += n
			}
			for i, b := range l.bins {
				require.Equal(t, want[i].asked, b.asked)
				denied -= b.denied
			}
			require.Zero(t, denied)
			for _, b := range l.bins {
				denied += b.denied
			}
		}
	})
}
