package account

import (
	"errors"
	"math"
)

// Check returns an error if the account has a number out of its range, or, if all is
// exchanged (idle), usage that is not confirmed. Tests call it.
func (a *Account) Check(idle bool) error {
	if a == nil {
		return nil
	}
	for _, x := range []float64{a.Carry, a.Demand, a.Others, float64(a.meanOwn), float64(a.MeanOthers), float64(a.mirror), a.Share} {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return errors.New("a number is not finite")
		}
	}
	switch {
	case !(a.Share >= 0 && a.Share <= 1):
		return errors.New("share is not in [0, 1]")
	case idle && a.Exchanges() && (a.Usage != 0 || a.InFlight != 0 || a.Frozen):
		return errors.New("usage is not confirmed, though all is exchanged")
	}
	return nil
}
