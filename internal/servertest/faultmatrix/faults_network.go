package faultmatrix

import "time"

// networkFaults returns the faults of the network.
func networkFaults() []*Fault {
	return []*Fault{
		byWay("packets dropped both ways", outage, func(w *way) { w.DropRequests, w.DropReplies = true, true }),
		byWay("requests dropped", outage, func(w *way) { w.DropRequests = true }),
		byWay("replies dropped", outage, func(w *way) { w.DropReplies = true }),
		byWay("latency of 500 ± 200 ms", Want{}, func(w *way) { w.Delay, w.Jitter = 250*time.Millisecond, 100*time.Millisecond }),
		byWay("4 KB/s", Want{}, func(w *way) { w.PerSecond = 4 << 10 }),
		byWay("replies cut in their middle, one in five", Want{}, func(w *way) { w.Cut = 0.2 }),
	}
}

// byWay returns a fault of the proxy.
func byWay(name string, want Want, change func(*way)) *Fault {
	return &Fault{
		Name: name, House: proxied, Lasts: lasting, Want: want,
		Inject: do(func(h *House) error {
			h.proxy.set(change)
			return nil
		}),
		Heal: do(func(h *House) error {
			h.proxy.set(func(w *way) { *w = way{Target: w.Target} })
			return nil
		}),
	}
}
