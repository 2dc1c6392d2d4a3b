package report

import (
	"fmt"
	"io"
	"math"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/model"
)

// Tolerance is the largest distance of a phase from one central bucket, as a part
// of the bucket's tokens.
const Tolerance = 0.10

// Verdict reports whether the fleet stayed within the tolerance in every phase. It
// prints that, or the phases in which it did not.
func Verdict(w io.Writer, r model.Result) bool {
	ok := true
	for i, p := range r.Phases {
		got, want := r.Measured.PerPhase[i], r.Central.PerPhase[i]
		if math.Abs(float64(got-want)) <= Tolerance*float64(want) {
			continue
		}
		ok = false
		fmt.Fprintf(w, "FAILED in the phase %q: the fleet admitted %s, one central bucket %s; the ratio %s is not within %g of 1.\n",
			p.Name, Thousands(got), Thousands(want), Ratio(got, want), Tolerance)
	}
	if ok {
		fmt.Fprintf(w, "PASSED: in every phase the fleet was within %.0f %% of one central bucket.\n", Tolerance*100)
	}
	return ok
}
