package account

import (
	"errors"
	"math"
)

func (a *Account) Check(idle bool) error {
	if a == nil {
		return nil
	}
	for _, x := range []float64{a.Carry, a.Demand, a.Others, a.MeanOwn, float64(a.MeanOthers), float64(a.mirror), a.Share} {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return errors.New("not finite")
		}
	}
	switch {
	case !(a.Share >= 0 && a.Share <= 1):
		return errors.New("a share out of range")
	case idle && a.Exchanges() && (a.Usage != 0 || a.InFlight != 0 || a.Frozen):
		return errors.New("unreported when all is exchanged")
	}
	return nil
}
