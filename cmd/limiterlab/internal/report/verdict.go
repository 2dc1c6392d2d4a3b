package report

import (
	"fmt"
	"io"
	"math"

	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/model"
)

// Tolerance is how far a phase may be from one central bucket, as a part of
// what that admits.
const Tolerance = 0.10

// Verdict prints whether the fleet stayed within the tolerance in every phase,
// or in which it did not, and reports which it is.
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
