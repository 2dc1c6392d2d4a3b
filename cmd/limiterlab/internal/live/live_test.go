package live

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/store"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/trace"
	"github.com/seed-e56e777b/limiter/cmd/limiterlab/internal/worker"
)

func TestMain(m *testing.M) {
	logging.Disable()
	m.Run()
}

// puppet is a process whose reports the test writes.
type puppet struct {
	cfg    worker.Config
	orders <-chan worker.Order
	report func(worker.Report)
	fail   chan error
}

// puppets run nothing.
type puppets struct{ joined chan *puppet }

func (ps *puppets) run(ctx context.Context, cfg worker.Config, orders <-chan worker.Order, report func(worker.Report)) error {
	p := &puppet{cfg: cfg, orders: orders, report: report, fail: make(chan error)}
	ps.joined <- p
	select {
	case err := <-p.fail:
		return err
	case <-ctx.Done():
		return nil
	}
}

// fleet starts a lab of n puppets, all ready.
func fleet(t *testing.T, n int) (*Lab, *puppets, map[int]*puppet) {
	t.Helper()
	st, err := store.NewEmbedded()
	require.NoError(t, err)
	rig, err := store.NewRig(st)
	require.NoError(t, err)
	t.Cleanup(func() { rig.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	ps := &puppets{joined: make(chan *puppet, n)}
	lab := Start(ctx, Config{Limit: limiter.Limit{Rate: 100, Burst: 10}, Processes: n, Demand: 3, Run: ps.run, Redis: rig, Prefix: "test"})
	t.Cleanup(func() {
		cancel()
		lab.Wait()
	})
	by := map[int]*puppet{}
	for range n {
		p := <-ps.joined
		by[p.cfg.Process] = p
		p.report(worker.Report{Process: p.cfg.Process, Status: worker.Status{State: "synced", Age: time.Second, Remaining: 7}})
	}
	return lab, ps, by
}

// do does a command, which must succeed.
func do(t *testing.T, lab *Lab, c Command) string {
	t.Helper()
	said, err := lab.Do(t.Context(), c)
	require.NoError(t, err)
	return said
}

// rates are the last orders of all puppets.
func rates(by map[int]*puppet, n int) []float64 {
	var rates []float64
	for k := range n {
		o := <-by[k].orders
		rates = append(rates, o.Rate)
	}
	return rates
}

func TestLoad(t *testing.T) {
	lab, _, by := fleet(t, 3)
	require.InDeltaSlice(t, []float64{300 * 6. / 11, 300 * 3. / 11, 300 * 2. / 11}, rates(by, 3), 1e-9, "skewed at first")
	for _, step := range []struct {
		command Command
		said    string
		want    []float64
	}{
		{Command{Do: "move", Load: Even}, "The load moves: all 3 processes get the same.", []float64{100, 100, 100}},
		{Command{Do: "move", Load: One}, "The load moves: process 3 gets all of it.", []float64{0, 0, 300}},
		{Command{Do: "move", Load: One}, "The load moves: process 1 gets all of it.", []float64{300, 0, 0}},
		{Command{Do: "demand", Demand: 10}, "The demand is 10 times the limit.", []float64{1000, 0, 0}},
		{Command{Do: "demand", Demand: 0.5}, "The demand is 0.5 times the limit.", []float64{50, 0, 0}},
		{Command{Do: "move", Load: Skewed}, "The load moves: process 1 gets the most, the k-th process 1/k of that.", []float64{50 * 6. / 11, 50 * 3. / 11, 50 * 2. / 11}},
	} {
		require.Equal(t, step.said, do(t, lab, step.command))
		require.InDeltaSlice(t, step.want, rates(by, 3), 1e-9, step.said)
		events := lab.State(0).Events
		require.Equal(t, step.said, events[len(events)-1].Text)
	}
}

// workers are the sizes of the pools in the last orders of all puppets, which
// have no rate.
func workers(t *testing.T, by map[int]*puppet, n int) []int {
	t.Helper()
	var sizes []int
	for k := range n {
		o := <-by[k].orders
		require.Zero(t, o.Rate)
		sizes = append(sizes, o.Workers)
	}
	return sizes
}

func TestCallers(t *testing.T) {
	lab, _, by := fleet(t, 3)
	rates(by, 3)
	require.Equal(t, 2, lab.workers, "for 100/s of three processes")
	lab.workers = 20 // before there is anybody else
	require.Equal(t, "Callers wait: 20 workers in each process on average. Each waits for a token, works for 10ms, and waits again.",
		do(t, lab, Command{Do: "calls", Calls: Wait}))
	require.Equal(t, []int{33, 16, 11}, workers(t, by, 3), "skewed as the load")
	require.Equal(t, Wait, lab.State(0).Calls)
	do(t, lab, Command{Do: "move", Load: Even})
	require.Equal(t, []int{20, 20, 20}, workers(t, by, 3))
	_, err := lab.Do(t.Context(), Command{Do: "demand", Demand: 1})
	require.EqualError(t, err, "waiting workers set their own demand: choose Allow first")
	do(t, lab, Command{Do: "stop", Process: 3})
	require.Equal(t, []int{20, 20}, workers(t, by, 2))
	do(t, lab, Command{Do: "move", Load: One})
	require.Equal(t, []int{0, 40}, workers(t, by, 2))
	require.Equal(t, "Callers do not wait: the demand is 3 times the limit.", do(t, lab, Command{Do: "calls", Calls: Allow}))
	for k, want := range []float64{0, 300} {
		o := <-by[k].orders
		require.Equal(t, []float64{want, 0}, []float64{o.Rate, float64(o.Workers)})
	}
}

func TestTooManyWorkers(t *testing.T) {
	lab, _, by := fleet(t, 2)
	rates(by, 2)
	lab.workers = MaxWorkers / 2 // before there is anybody else
	do(t, lab, Command{Do: "calls", Calls: Wait})
	_, err := lab.Do(t.Context(), Command{Do: "add"})
	require.EqualError(t, err, "3 processes of 500 workers would be more workers than 1000")
	do(t, lab, Command{Do: "calls", Calls: Allow})
	do(t, lab, Command{Do: "add"})
	_, err = lab.Do(t.Context(), Command{Do: "calls", Calls: Wait})
	require.EqualError(t, err, "3 processes of 500 workers would be more workers than 1000")
}

// TestStateOfWaitingCallers has a process whose workers are granted 10 tokens in
// a second and a half in which 4 of them wait, then 8.
func TestStateOfWaitingCallers(t *testing.T) {
	lab, _, by := fleet(t, 1)
	rates(by, 1)
	lab.epoch = lab.epoch.Add(-ms(1600)) // less than the patience, which a pause of this test would use up
	lab.mu.Lock()
	lab.fleet[0].through = 0
	lab.mu.Unlock()
	report := func(through time.Duration, waiting int, requests []trace.Request) {
		by[0].report(worker.Report{
			Through: through, Requests: requests, Workers: 20,
			Status: worker.Status{State: "synced", Waiting: waiting},
		})
	}
	grants := calls(0, 0, ms(500), 10)
	for i := range grants {
		grants[i].Admitted, grants[i].Kind = true, trace.Grant
	}
	report(ms(500), 4, grants)
	report(ms(1500), 8, nil)
	s := lab.State(0)
	require.Equal(t, 8, s.Processes[0].Waiting)
	require.Len(t, s.Slices, 1)
	require.InDelta(t, 6, s.Slices[0].Waiting, 1)
	for _, got := range []int{s.Slices[0].Open, s.Slices[0].Closed, s.Slices[0].Private} {
		require.InDelta(t, 110, got, 1, "as many workers, by Allow, take the burst and the rate")
	}
	require.Equal(t, []int{10, 2000}, []int{s.Slices[0].Admitted, s.Slices[0].Asked})
}

func TestStoppedProcessesLoadGoesToTheOthers(t *testing.T) {
	lab, _, by := fleet(t, 3)
	do(t, lab, Command{Do: "move", Load: One})
	rates(by, 3)
	require.Equal(t, "Process 3 stops: its load goes to the remaining 2.", do(t, lab, Command{Do: "stop", Process: 3}))
	require.Equal(t, []float64{300, 0}, rates(by, 2))
	do(t, lab, Command{Do: "stop", Process: 2})
	require.Equal(t, "Process 1 stops, the last one: there are no more requests.", do(t, lab, Command{Do: "stop", Process: 1}))
	require.Eventually(t, func() bool { return len(lab.State(0).Processes) == 0 }, 10*time.Second, time.Millisecond)
	for _, c := range []Command{{Do: "stop", Process: 1}, {Do: "move", Load: Even}} {
		_, err := lab.Do(t.Context(), c)
		require.Error(t, err, "%v", c)
	}
}

func TestAddedProcessStartsNow(t *testing.T) {
	lab, ps, by := fleet(t, 1)
	rates(by, 1)
	require.Equal(t, "Process 2 starts: the load goes to 2.", do(t, lab, Command{Do: "add"}))
	require.Equal(t, "starting", lab.State(0).Processes[1].State)
	p := <-ps.joined
	require.Equal(t, 2, p.cfg.Processes)
	p.report(worker.Report{Process: 1})
	o := <-p.orders
	require.Positive(t, o.From)
	require.InDelta(t, 100, o.Rate, 1e-9)
	require.InDelta(t, 200, (<-by[0].orders).Rate, 1e-9)
}

func TestProcessThatEndsByItselfIsReported(t *testing.T) {
	lab, _, by := fleet(t, 2)
	rates(by, 2)
	by[0].fail <- errors.New("process 1: killed")
	require.InDelta(t, 300, (<-by[1].orders).Rate, 1e-9, "its load goes to the other")
	s := lab.State(0)
	require.Len(t, s.Processes, 1)
	require.Equal(t, "process 1 has ended by itself: killed", s.Events[len(s.Events)-1].Text)
}

// TestProcessThatWasToldToEndHasLeft: one that somebody else has ended by SIGTERM
// says what it told, and its load goes to the others.
func TestProcessThatWasToldToEndHasLeft(t *testing.T) {
	lab, _, by := fleet(t, 2)
	rates(by, 2)
	by[1].report(worker.Report{Process: 1, Ended: true, Notes: []worker.Note{{Time: time.Now(), Text: "closed in 1ms"}}})
	require.InDelta(t, 300, rates(by, 1)[0], 1e-6)
	by[1].fail <- nil
	require.Eventually(t, func() bool { return len(lab.State(0).Processes) == 1 }, 10*time.Second, time.Millisecond)
	var said []string
	for _, e := range lab.State(0).Events {
		said = append(said, e.Text)
	}
	require.Subset(t, said, []string{"process 2: closed in 1ms", "process 2 has left the fleet"})
}

// TestStateFollowsReports has one process of two report nothing for a while:
// what it may have asked meanwhile is waited for.
func TestStateFollowsReports(t *testing.T) {
	lab, _, by := fleet(t, 2)
	report := func(process int, through time.Duration, n int) {
		requests := calls(int32(process), 0, ms(900), n)
		for i := range requests {
			requests[i].Admitted = true
		}
		by[process].report(worker.Report{
			Process: process, Through: through, Requests: requests,
			Status: worker.Status{State: "degraded", Age: 3 * time.Second, Remaining: 5},
			Notes:  []worker.Note{{Time: lab.epoch.Add(ms(700)), Text: "word"}},
		})
	}
	lab.epoch = lab.epoch.Add(-ms(2500)) // nobody else looks at it: the puppets are silent
	report(0, ms(2000), 30)
	report(1, ms(1100), 10)
	s := lab.State(0)
	require.Equal(t, 0, s.First)
	require.Equal(t, []Slice{{From: 0, To: 1, Tally: Tally{Asked: 40, Admitted: 40, Open: 40, Closed: 40, Private: 40}}}, s.Slices)
	require.Equal(t, []Process{
		{Number: 1, State: "degraded", Asked: 30, Admitted: 30, Share: 0.75, Remaining: 5, Age: 3},
		{Number: 2, State: "degraded", Asked: 10, Admitted: 10, Share: 0.25, Remaining: 5, Age: 3},
	}, s.Processes)
	require.Equal(t, Event{At: 0.7, Text: "2 processes: word"}, s.Events[0])
	require.Equal(t, Limit{Text: "100/s burst 10", Rate: 100, Burst: 10}, s.Limit)
	require.Empty(t, lab.State(1).Slices)
	lab.epoch = lab.epoch.Add(-patience) // now it has been silent for too long
	require.Len(t, lab.State(0).Slices, 2)
}

func TestRedisComesAndGoes(t *testing.T) {
	lab, _, _ := fleet(t, 1)
	for _, step := range []struct {
		do, said string
		mode     store.Mode
		away     bool
		outages  int
	}{
		{"restore", "", store.Up, false, 0},
		{"kill", "Redis is stopped.", store.Dead, true, 1},
		{"kill", "", store.Dead, true, 1},
		{"freeze", "", store.Dead, true, 1},
		{"slow", "", store.Dead, true, 1},
		{"wipe", "", store.Dead, true, 1},
		{"restore", "Redis is started again, empty.", store.Up, false, 1},
		{"slow", "Redis is slow: every answer takes 100ms more.", store.Slow, false, 1},
		{"wipe", "Redis is wiped: it has lost all data of the fleet.", store.Slow, false, 1},
		{"freeze", "Redis is frozen: its connections stay open, nothing is answered.", store.Frozen, true, 2},
		{"kill", "Redis is stopped.", store.Dead, true, 2},
		{"restore", "Redis is started again, empty.", store.Up, false, 2},
		{"freeze", "Redis is frozen: its connections stay open, nothing is answered.", store.Frozen, true, 3},
		{"restore", "Redis answers again, with all its data.", store.Up, false, 3},
		{"slow", "Redis is slow: every answer takes 100ms more.", store.Slow, false, 3},
		{"restore", "Redis is as quick as before.", store.Up, false, 3},
	} {
		said, err := lab.Do(t.Context(), Command{Do: step.do})
		require.Equal(t, step.said, said, step.do)
		require.Equal(t, step.said == "", err != nil, step.do)
		s := lab.State(0)
		require.Equal(t, step.mode, s.Redis.Mode, step.do)
		require.Len(t, s.Outages, step.outages, step.do)
		for i, o := range s.Outages {
			require.Equal(t, step.away && i == len(s.Outages)-1, o.On, step.do)
			require.LessOrEqual(t, o.From, o.To)
		}
	}
}

func TestUnknownCommands(t *testing.T) {
	lab, _, _ := fleet(t, 1)
	for _, c := range []Command{{}, {Do: "explode"}, {Do: "move", Load: "up"}, {Do: "demand", Demand: 1e9}, {Do: "demand"}, {Do: "calls"}, {Do: "calls", Calls: "louder"}} {
		_, err := lab.Do(t.Context(), c)
		require.ErrorIs(t, err, ErrUnknown, "%v", c)
	}
	_, err := lab.Do(t.Context(), Command{Do: "stop", Process: 2})
	require.EqualError(t, err, "there is no process 2 that runs")
}

// TestRealFleet has real limiters, whose traffic follows orders.
func TestRealFleet(t *testing.T) {
	st, err := store.NewEmbedded()
	require.NoError(t, err)
	rig, err := store.NewRig(st)
	require.NoError(t, err)
	defer rig.Close()
	ctx, cancel := context.WithCancel(t.Context())
	lab := Start(ctx, Config{Limit: limiter.Limit{Rate: 100, Burst: 10}, Processes: 2, Demand: 1, Seed: 1, Run: worker.Run, Redis: rig, Prefix: "test"})
	synced := func() bool {
		s := lab.State(0)
		return s.Processes[0].State == "synced" && s.Processes[1].State == "synced" && len(s.Slices) > 0 && s.Slices[len(s.Slices)-1].Asked > 0
	}
	require.Eventually(t, synced, 30*time.Second, 10*time.Millisecond)
	do(t, lab, Command{Do: "demand", Demand: 10})
	require.Eventually(t, func() bool {
		s := lab.State(0).Slices
		return s[len(s)-1].Asked > 500
	}, 30*time.Second, 10*time.Millisecond)
	do(t, lab, Command{Do: "calls", Calls: Wait})
	require.Eventually(t, func() bool {
		s := lab.State(0)
		last := s.Slices[len(s.Slices)-1]
		return s.Processes[0].Waiting > 0 && s.Processes[1].Waiting > 0 && last.Waiting > 0 && last.Admitted > 0
	}, 30*time.Second, 10*time.Millisecond)
	do(t, lab, Command{Do: "kill"})
	degraded := regexp.MustCompile(`^(2 processes|process \d) degraded( in \S+ m?s)?: connection`)
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(lab.State(0).Events, func(e Event) bool { return degraded.MatchString(e.Text) })
	}, 30*time.Second, 10*time.Millisecond)
	cancel()
	lab.Wait()
	_, err = lab.Do(t.Context(), Command{Do: "add"})
	require.Error(t, err)
}

func TestNewsAreBoundedAndInOrder(t *testing.T) {
	var n news
	for i := range 3 * maxNews {
		n.say(time.Duration(i^1)*time.Second, "word")
	}
	events := n.events()
	require.Len(t, events, maxNews)
	require.IsIncreasing(t, []float64{events[0].At, events[1].At, events[maxNews-1].At})
}
