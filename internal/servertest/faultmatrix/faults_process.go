package faultmatrix

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// processFaults returns the faults of the server as a process.
func processFaults() []*Fault {
	kill := do(func(h *House) error { return h.server.Kill() })
	restart := func(keep bool) func(context.Context, *House) error {
		return do(func(h *House) error { return h.server.Restart(keep) })
	}
	loses := Want{Outage: true, Loses: 1}
	return []*Fault{
		{Name: "not running at start", House: plain, Start: true, Lasts: lasting, Inject: kill, Heal: restart(false), Want: outage},
		{Name: "killed, back empty", House: plain, Lasts: lasting, Inject: kill, Heal: restart(false), Want: loses},
		{Name: "killed, back with an RDB file 1.5 s old", House: plain, Lasts: lasting, Inject: saveAndKill, Heal: restart(true), Want: loses},
		{Name: "killed, back with its AOF", House: appending, Lasts: lasting, Inject: kill, Heal: restart(true), Want: outage},
		frozen(3 * time.Second),
		{Name: "loading its data", House: slowLoader, Inject: load, Heal: waitForIt, Want: outage},
		{Name: "a script that runs on (BUSY)", House: plain, Lasts: lasting, Inject: runOn, Heal: admin(cmd("script", "kill")), Want: outage},
		clockStep("clock an hour ahead after a restart", time.Hour),
		clockStep("clock an hour behind after a restart", -time.Hour),
	}
}

// frozen is SIGSTOP.
func frozen(d time.Duration) *Fault {
	return &Fault{
		Name: fmt.Sprintf("SIGSTOP for %v", d), House: plain, Lasts: d,
		Inject: do(func(h *House) error { return h.server.Freeze() }),
		Heal:   do(func(h *House) error { return h.server.Thaw() }),
		Want:   outage,
	}
}

func saveAndKill(ctx context.Context, h *House) error {
	if err := h.Admin.Save(ctx).Err(); err != nil {
		return err
	}
	pause(ctx, 1500*time.Millisecond)
	return h.server.Kill()
}

// slowLoader is a server that takes about 4 s to load the data that it is
// given: 1 ms for each of 4000 keys.
func slowLoader() (*House, error) {
	h, err := standalone(redisserver.Options{Args: []string{
		"--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024",
	}})()
	if err != nil {
		return nil, err
	}
	return h, fill(context.Background(), h, 4000)
}

func fill(ctx context.Context, h *House, keys int) error {
	const script = "for i = 1, ARGV[1] do redis.call('set', 'filler:' .. i, string.rep('x', 100)) end return 1"
	return h.Admin.Eval(ctx, script, nil, keys).Err()
}

// load restarts the server, which works again when it has loaded its data.
func load(_ context.Context, h *House) error {
	h.patient = make(chan error, 1)
	go func() { h.patient <- h.server.Restart(true) }()
	return nil
}

func waitForIt(_ context.Context, h *House) error { return <-h.patient }

// runOn starts a script without end.
func runOn(ctx context.Context, h *House) error {
	if err := h.Admin.ConfigSet(ctx, "busy-reply-threshold", "100").Err(); err != nil {
		return err
	}
	h.patient = make(chan error, 1)
	go func() { h.patient <- h.Admin.Eval(ctx, "while true do end", nil).Err() }()
	return nil
}
