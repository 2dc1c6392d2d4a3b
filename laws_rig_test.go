package limiter

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-e56e777b/limiter/internal/account"
	"github.com/seed-e56e777b/limiter/internal/bucket"
	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/mono"
	"github.com/seed-e56e777b/limiter/internal/simnet"
	"github.com/seed-e56e777b/limiter/internal/table"
)

// rig is a fleet of real limiters whose loops are turned by hand: what happens,
// and what becomes of each message, is drawn. Nothing runs by itself, so that a
// failing case shrinks and can be played again.
type rig struct {
	t      *rapid.T
	state  *exchange.Memory
	cfg    Config
	procs  []*proc
	names  uint64
	down   bool     // nothing arrives
	asking []func() // end the requests that wait for an answer
	equal  bool     // nobody is ever taken for silent, which would change what a token is charged as

	mu      sync.Mutex // a process that leaves delivers by itself
	sent    map[number][]exchange.Record
	applied map[number]bool // that the state remembers
	ever    map[number]bool // that were applied, though the state may have lost them
	stray   []*exchange.Chunk

	// All µs here are by the limit with which the rig began.
	due    books            // µs that keys are to be charged with for what the fleet has taken
	spent  books            // µs by which reports have put TATs further
	fields []string         // keys that are counted
	origin map[string]int64 // their TATs when that began
	most   int64            // µs that a charge may put a TAT ahead of now, unless it was further; 0: no limit
	blur   int64            // µs by which a TAT may move where processes have several limits
}

// books are µs by the name of a key in the state.
type books map[string]float64

func (b books) add(c books, sign float64) {
	for field, sum := range c {
		b[field] += sign * sum
	}
}

// sorted are the keys of a map: a case that fails twice must say the same.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// number is what a report is applied once by.
type number struct {
	lane exchange.ID
	seq  int64
}

// worth is what tokens take of a key's time, in µs.
func (r *rig) worth(tokens float64) float64 { return tokens * 1e6 / float64(r.cfg.Limit.Rate) }

// inExchange is the limit with which the rig began.
func (r *rig) inExchange() exchange.Limit {
	b := newBucket(r.cfg.Limit, 1)
	return b.ExchangeLimit()
}

// proc is one process of a rig. Its calls are under way until they are
// answered by hand.
type proc struct {
	*Limiter
	rig     *rig
	direct  bool // calls are answered at once
	arrived map[*batch]bool
	least   map[string]int64 // TATs that it knows the state to have had
	lost    uint64           // tokens that evicted keys had to report, and nobody ever will
}

func newRig(t *rapid.T, cfg Config) *rig {
	cfg.Logger = quiet
	cfg, err := cfg.checked()
	if err != nil {
		t.Fatal(err)
	}
	return &rig{
		t: t, cfg: cfg, equal: true, state: exchange.NewMemory(1, time.Now),
		sent: map[number][]exchange.Record{}, applied: map[number]bool{}, ever: map[number]bool{},
		due: books{}, spent: books{}, origin: map[string]int64{},
	}
}

// join adds a process, in contact.
func (r *rig) join() {
	r.names++
	p := &proc{rig: r, arrived: map[*batch]bool{}, least: map[string]int64{}}
	p.Limiter = newLimiter(r.cfg, nil, r.state.Partitions(), r.names)
	p.syncer = newSyncer(r.cfg, p, p.local, p.base, r.names)
	p.syncer.ctx = context.Background()
	r.procs = append(r.procs, p)
	p.exchange()
}

// Exchange implements exchange.Exchanger.
func (p *proc) Exchange(_ context.Context, fl *exchange.FleetCall, chunks []*exchange.Chunk) {
	if p.direct {
		time.Sleep(time.Millisecond)
		p.rig.mu.Lock()
		defer p.rig.mu.Unlock()
		p.note(chunks)
		p.meet(fl)
		for _, c := range chunks {
			p.rig.deliver(c)
		}
	}
}

func (p *proc) meet(fl *exchange.FleetCall) {
	if fl == nil {
		return
	}
	if p.rig.equal {
		fl.Silent, fl.Forget = math.MaxInt64, math.MaxInt64
	}
	p.rig.state.Exchange(context.Background(), fl, nil)
}

// step does what the loop does when its clock ticks.
func (p *proc) step() {
	p.syncer.step(mono.Now(p.base))
	synctest.Wait()
	for len(p.syncer.results) > 0 {
		<-p.syncer.results
	}
	for _, b := range p.calls() {
		if !p.arrived[b] {
			p.note(b.Chunks)
		}
	}
}

// calls are the calls under way.
func (p *proc) calls() []*batch {
	return slices.DeleteFunc([]*batch{p.syncer.probing, p.syncer.regular}, func(b *batch) bool { return b == nil })
}

// note checks that a report that is sent again is what it was.
func (p *proc) note(chunks []*exchange.Chunk) {
	for _, c := range chunks {
		n := number{c.ID, c.Seq}
		was, ok := p.rig.sent[n]
		if !ok {
			p.rig.sent[n] = simnet.Kept(c.Records)
			continue
		}
		for i := range c.Records {
			if a, b := &was[i], &c.Records[i]; a.Field != b.Field || a.Op != b.Op && !(a.Op.Charges() && b.Op.Charges()) || a.Delta != b.Delta || a.Left != b.Left {
				p.rig.t.Errorf("sent again, %+v has become %+v", a, b)
			}
		}
	}
}

// What may become of a request.
const (
	reached     = "reached"
	reachTwice  = "reached twice" // a client's own retry
	requestLost = "request lost"
	replyLost   = "reply lost"
	strays      = "strays" // given up by who sent it, it may arrive at any time
)

var (
	allFates  = []string{reached, reached, reached, reachTwice, requestLost, replyLost, strays}
	mostFates = []string{reached, reached, reached, reachTwice, requestLost, replyLost}
)

// arrive has the requests of a call arrive, in any order, or not.
func (p *proc) arrive(b *batch, fates []string) {
	r := p.rig
	p.arrived[b] = true
	if r.down {
		simnet.Fail(b.Fleet, b.Chunks)
		return
	}
	p.meet(b.Fleet)
	for waiting := slices.Clone(b.Chunks); len(waiting) > 0; {
		i := rapid.IntRange(0, len(waiting)-1).Draw(r.t, "next")
		r.suffer(waiting[i], rapid.SampledFrom(fates).Draw(r.t, "fate"))
		waiting = slices.Delete(waiting, i, i+1)
	}
}

func (r *rig) suffer(c *exchange.Chunk, fate string) {
	switch fate {
	case strays:
		d := *c
		d.Records, d.Reply = simnet.Kept(c.Records), exchange.Reply{}
		r.stray = append(r.stray, &d)
	case reachTwice:
		r.deliver(c)
		fallthrough
	case reached, replyLost:
		r.deliver(c)
	}
	if fate != reached && fate != reachTwice {
		c.Err = simnet.ErrCut
	}
}

// answer gives the process the replies to a call.
func (p *proc) answer(b *batch) {
	delete(p.arrived, b)
	for _, c := range b.Chunks {
		if c.Err == nil && c.Reply.Status != exchange.Lost {
			p.learn(c)
		}
	}
	p.syncer.finish(b, mono.Now(p.base))
}

// round does a round in no time, but with faults.
func (p *proc) round(fates []string) {
	p.step()
	for _, b := range p.calls() {
		p.arrive(b, fates)
		p.answer(b)
	}
}

// learn notes what the process knows from a reply: that the state had this TAT,
// and, whatever was lost, what it knew before and has charged since.
func (p *proc) learn(c *exchange.Chunk) {
	for i, rec := range simnet.Kept(c.Records) {
		charged := p.least[rec.Field]
		if charged != 0 && (c.Seq > 1 || rec.Ceiling == 0) { // a late charge in a new lane may be lost with the state
			charged += rec.Delta
		}
		p.least[rec.Field] = max(charged, c.Reply.Now+c.Reply.Keys[i].ToGo)
	}
}

// exchange does a round without faults.
func (p *proc) exchange() {
	p.step()
	for i := 0; len(p.calls()) > 0; i++ {
		p.rig.mustEnd(i)
		for _, b := range p.calls() {
			if !p.arrived[b] {
				p.arrive(b, []string{reached})
			}
			p.answer(b)
		}
		p.step()
	}
}

// settle exchanges without faults until there is nothing left to tell, and for
// as long as it takes that every lane has been used.
func (r *rig) settle() {
	for i := 0; i < 4 || !r.idle(); i++ {
		r.mustEnd(i)
		time.Sleep(2 * time.Minute)
		for _, p := range r.procs {
			p.exchange()
		}
	}
}

// mustEnd fails where something has been tried far too often.
func (r *rig) mustEnd(tries int) {
	if tries == 1000 {
		r.t.Fatalf("it never ends: %+v", r.procs[0].Status())
	}
}

// tick has all loops run for a while.
func (r *rig) tick(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, p := range r.procs {
			p.round(mostFates)
		}
	}
}

// settleNow exchanges without faults, in no time, all there is to tell.
func (r *rig) settleNow() {
	for i := 0; !r.idle(); i++ {
		r.mustEnd(i)
		for _, p := range r.procs {
			p.sync()
			p.exchange()
		}
	}
}

func (r *rig) idle() bool {
	for _, p := range r.procs {
		if p.local.unreportedKeys() > 0 || len(p.syncer.resets) > 0 {
			return false
		}
	}
	return true
}

// deliver has a request applied, and checks what it does to the keys in it.
func (r *rig) deliver(c *exchange.Chunk) {
	fields := make([]string, len(c.Records))
	for i := range c.Records {
		fields[i] = strings.Clone(c.Records[i].Field)
	}
	before := r.tats(fields)
	r.state.Exchange(context.Background(), nil, []*exchange.Chunk{c})
	if c.Err != nil {
		r.t.Error(c.Err)
	}
	after := r.tats(fields)
	if c.Reply.Status != exchange.Applied {
		if !maps.Equal(before, after) {
			r.t.Errorf("not applied (%v), %+v has moved %v to %v", c.Reply.Status, c, before, after)
		}
		return
	}
	n := number{c.ID, c.Seq}
	if r.applied[n] && c.Reply.Prev != 0 { // otherwise its number has expired, when all keys had been full for a minute
		r.t.Errorf("applied twice: %+v", c)
	}
	again := r.ever[n]
	r.applied[n], r.ever[n] = true, true
	for _, field := range sorted(after) {
		r.checkMove(c, field, before[field], after[field])
		r.spent[field] += float64(after[field] - before[field])
	}
	r.forgive(c, before, after)
	// Crashed processes' reports are due when they are applied; so, once more, is
	// one that a lost state had applied without an answer: another process may
	// have seen it, and its floor brings it back.
	if _, known := r.sent[n]; !known || again {
		r.due.add(r.change(c.Records), 1)
	}
}

// checkMove checks what a report has done to one key.
func (r *rig) checkMove(c *exchange.Chunk, field string, before, after int64) {
	now := time.Now().UnixMicro()
	back, silent := false, true
	for i := range c.Records {
		if rec := &c.Records[i]; rec.Field == field {
			back = back || !rec.Op.Charges()
			silent = silent && rec.Op.Charges() && rec.Delta == 0 && !c.Floors
		}
	}
	switch {
	case after < before-r.blur && !back:
		r.t.Errorf("TAT of %q went back from %d to %d: %+v", field, before, after, c)
	case after < min(before, now)-r.blur:
		r.t.Errorf("TAT of %q went from %d to %d, before now, %d: %+v", field, before, after, now, c)
	case r.most != 0 && after > max(before, now+r.most):
		r.t.Errorf("TAT of %q went from %d to %d, %d beyond what empties a bucket now: %+v", field, before, after, after-now-r.most, c)
	case silent && after > before+r.blur:
		r.t.Errorf("TAT of %q went from %d to %d though nothing was admitted: %+v", field, before, after, c)
	}
}

// forgive takes off what is due: what resets have undone, and what late charges have
// taken from refill that was left unused, or would have put a key into debt.
func (r *rig) forgive(c *exchange.Chunk, before, after map[string]int64) {
	reset, late := map[string]bool{}, map[string]int64{} // several callers may have asked for a reset
	for i := range c.Records {
		field := strings.Clone(c.Records[i].Field)
		if !slices.Contains(r.fields, field) {
			continue
		}
		switch rec := &c.Records[i]; {
		case rec.Op == exchange.Reset:
			reset[field] = true
		case rec.Op == exchange.Late:
			late[field] += min(rec.Delta, rec.Age, 7e6)
		case rec.Ceiling != 0 && before[field]+rec.Delta > c.Reply.Now+rec.Ceiling:
			late[field] += rec.Delta
		}
	}
	for field, most := range late {
		if reset[field] || before[field] < c.Reply.Now {
			continue
		}
		unused := r.change(c.Records)[field] - float64(after[field]-before[field])
		if unused < 0 || unused > float64(most) {
			r.t.Errorf("TAT of %q went from %d to %d: %v of its charges is missing", field, before[field], after[field], unused)
		}
		r.due[field] -= unused
	}
	for field := range reset {
		r.due[field] += float64(after[field]-before[field]) - r.change(c.Records)[field]
		r.load(field)
	}
}

// change is what records do to keys.
func (r *rig) change(records []exchange.Record) books {
	sum := books{}
	for _, rec := range simnet.Kept(records) {
		switch rec.Op {
		case exchange.Charge, exchange.Late:
			sum[rec.Field] += float64(rec.Limit.Time(rec.Delta, r.inExchange()))
		case exchange.Refund:
			sum[rec.Field] -= float64(rec.Limit.Time(rec.Delta, r.inExchange()))
		}
	}
	return sum
}

// tats are the TATs of keys, in µs of the state's clock.
func (r *rig) tats(fields []string) map[string]int64 {
	tats := map[string]int64{}
	for some := range slices.Chunk(fields, exchange.MaxRecords) {
		look := &exchange.Chunk{ID: exchange.ID{0xff}, Seq: 1, Floors: true, Tau: time.Hour}
		for _, field := range some {
			look.Records = append(look.Records, exchange.Record{Field: field, Limit: r.inExchange()})
		}
		r.state.Exchange(context.Background(), nil, []*exchange.Chunk{look})
		for i, k := range look.Reply.Keys {
			tats[some[i]] = look.Reply.Now + k.ToGo
		}
	}
	return tats
}

func (r *rig) tat(field string) int64 {
	return r.tats([]string{field})[field]
}

// lose brings the state, and what it has applied, to what it was.
func (r *rig) lose(state func(), applied map[number]bool) {
	state()
	r.applied = map[number]bool{}
	maps.Copy(r.applied, applied)
}

// ballast is how far ahead of now load puts a TAT.
const ballast = 10_000_000_000_000 // µs, four months

// load puts a key's TAT so far ahead that every charge adds to it in full.
func (r *rig) load(field string) {
	c := &exchange.Chunk{
		ID: exchange.ID{0xfe}, Seq: 1, Leave: true, Tau: time.Hour,
		Records: []exchange.Record{{Field: field, Delta: ballast, Limit: r.inExchange()}},
	}
	r.state.Exchange(context.Background(), nil, []*exchange.Chunk{c})
}

// count begins to count what keys are charged with, when there is nothing to
// tell.
func (r *rig) count(keys []string) {
	r.due, r.spent, r.sent, r.fields = books{}, books{}, map[number][]exchange.Record{}, nil
	for _, key := range keys {
		r.fields = append(r.fields, "k"+key)
		r.load("k" + key)
		r.origin["k"+key] = r.tat("k" + key)
	}
}

// charged is what the keys that are counted have been charged with, while the limit is
// one; unlike spent it loses what the state loses.
func (r *rig) charged() books {
	sum := books{}
	for field, tat := range r.tats(r.fields) {
		sum[field] = float64(tat - r.origin[field])
	}
	return sum
}

// untold is what is neither charged nor in a report.
func (r *rig) untold() books {
	sum := books{}
	for _, p := range r.procs {
		sum.add(p.untold(), 1)
	}
	return sum
}

// untold is what the process has to report, of keys in memory and of orphans.
func (p *proc) untold() books {
	sum := books{}
	add := func(k *lockedKey) {
		if k.account != nil {
			tokens := float64(k.account.Usage) + float64(k.buffer.Taken) + k.account.Carry*k.bucket.Rate/1e6
			sum[k.field()] += p.rig.worth(tokens)
		}
	}
	for sh := range p.local.eachShard() {
		if sh.keys.Len() == 0 && len(sh.orphans) == 0 {
			continue
		}
		sh.keys.Each(func(ref table.Ref) {
			var k lockedKey
			k.load(sh, ref, p.now())
			add(&k)
			k.unlock()
		})
		for _, o := range sh.orphans {
			var k lockedKey
			k.loadOrphan(sh, o, p.now())
			add(&k)
		}
	}
	return sum
}

// underWay is what reports hold that were never applied.
func (r *rig) underWay() books {
	sum := books{}
	for n, records := range r.sent {
		if !r.ever[n] {
			sum.add(r.change(records), 1)
		}
	}
	return sum
}

// dropped are the tokens of evicted keys that nobody will ever report.
func (r *rig) dropped() (sum uint64) {
	for _, p := range r.procs {
		sum += p.lost
	}
	return sum
}

// touch brings a key into memory, with a fresh grant. What others had to report that are
// dropped for it is no longer due.
func (p *proc) touch(key string) *lockedKey {
	if p.find(key) != nil { // nobody is evicted for it
		p.AllowN(key, 0)
		return p.inUse(key)
	}
	before := p.untold()
	p.AllowN(key, 0)
	after := p.untold()
	for field, was := range before {
		if lost := was - after[field]; lost != 0 {
			p.rig.due[field] -= lost
			p.lost += uint64(max(0, math.Round(lost*float64(p.rig.cfg.Limit.Rate)/1e6)))
		}
	}
	return p.inUse(key)
}

// find is a copy of a key in memory, nil where it is not.
func (p *proc) find(key string) *lockedKey { return inMemory(p.local, key) }

// inUse is a key after a decision: in memory, with an account.
func (p *proc) inUse(key string) *lockedKey {
	k := p.find(key)
	if k == nil || k.account == nil {
		p.rig.t.Fatalf("after a decision %q is %+v", key, k)
	}
	return k
}

// allow asks for n tokens; a denial must have changed nothing but demand.
func (p *proc) allow(key string, n int) bool {
	if p.suspended() {
		return p.beneath(key, func() { p.AllowN(key, n) })
	}
	known := p.known(p.touch(key))
	bucket := p.find(key).bucket
	if p.AllowN(key, n) {
		p.rig.due["k"+key] += p.rig.worth(float64(n))
		return true
	}
	k := p.find(key)
	if now := p.known(k); k.bucket != bucket || now != known {
		p.rig.t.Fatalf("%d tokens of %q were denied, and\n%+v %+v\nhas become\n%+v %+v", n, key, bucket, known, k.bucket, now)
	}
	return false
}

// known is what there is to report of a key, except demand.
func (p *proc) known(k *lockedKey) account.Account {
	a := *k.account
	a.Flush(k.buffer, &k.bucket, p.now(), p.local.params.Load())
	return account.Account{
		Lease: account.Lease{TAT: a.TAT},
		Ledger: account.Ledger{
			TakenBefore: a.TakenBefore, Usage: a.Usage, InFlight: a.InFlight, Carry: a.Carry,
			FirstUse: a.FirstUse, OwnTAT: a.OwnTAT,
		},
	}
}

func (p *proc) allowEach(keys []string) {
	for _, key := range keys {
		p.allow(key, 1)
	}
}

// suspended reports whether the limit is one by which nothing, or all, is admitted.
func (p *proc) suspended() bool {
	b := newBucket(*p.local.limit.Load(), 1)
	return !b.Shared()
}

// beneath makes a call while there is no limit, or all is denied, of a key that has a
// bucket beneath.
func (p *proc) beneath(key string, call func()) bool {
	k := p.find(key)
	if k == nil || k.account == nil {
		return false
	}
	before := p.known(k)
	call()
	after := p.known(p.find(key))
	p.rig.due["k"+key] += p.rig.worth(float64(after.Taken() - before.Taken()))
	return true
}

func (p *proc) charge(key string, n int) {
	if p.suspended() {
		p.beneath(key, func() { p.Charge(key, n) })
		return
	}
	p.touch(key)
	p.Charge(key, n)
	p.rig.due["k"+key] += p.rig.worth(float64(n))
}

// refund gives n tokens back, of which all that are unreported must count, and
// none that were not given.
func (p *proc) refund(key string, n int) {
	if p.suspended() {
		p.beneath(key, func() { p.Refund(key, n) })
		return
	}
	before := p.known(p.touch(key))
	p.Refund(key, n)
	after := p.known(p.find(key))
	back := before.Taken() - after.Taken()
	if back < min(int64(n), max(0, before.Usage)) || back > int64(n) {
		p.rig.t.Fatalf("of %d tokens given back %d count, of %d unreported", n, back, before.Usage)
	}
	p.rig.due["k"+key] -= p.rig.worth(float64(back))
}

// relimit changes the limit of all keys.
func (p *proc) relimit(lim Limit) {
	if err := p.SetLimit(lim); err != nil {
		p.rig.t.Fatal(err)
	}
}

// ask makes a request of the loop, of which nobody waits for the answer.
func (p *proc) ask(call func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	p.rig.asking = append(p.rig.asking, cancel)
	go call(ctx)
	synctest.Wait()
	select {
	case r := <-p.syncer.requests:
		p.syncer.accept(r)
	default: // refused
	}
}

func (p *proc) sync() { p.ask(func(ctx context.Context) { _ = p.Sync(ctx) }) }

func (p *proc) reset(key string) {
	p.rig.due.add(p.rig.untold(), -1)
	p.ask(func(ctx context.Context) { _ = p.Reset(ctx, key) })
	p.rig.due.add(p.rig.untold(), 1)
	k := p.find(key)
	if k == nil {
		return
	}
	if k.account != nil && (k.buffer.Attempts != 0 || k.account.SomethingToReport()) || k.bucket.Level < k.bucket.Burst {
		p.rig.t.Fatalf("%q was reset, and is not full, or has something to report: %+v %+v", key, k.bucket, k.account)
	}
}

// isMember reports whether the fleet's key counts a process: counting without
// it makes a difference then.
func (r *rig) isMember(process [8]byte) bool {
	count := func(id [8]byte) int {
		fl := &exchange.FleetCall{Process: id, Silent: math.MaxInt64, Forget: math.MaxInt64, Leave: true}
		r.state.Exchange(context.Background(), fl, nil)
		return fl.Reply.Members
	}
	return count([8]byte{}) != count(process)
}

// crash ends the process without a word.
func (p *proc) crash() {
	r := p.rig
	for n, records := range r.sent {
		if [8]byte(n.lane[:8]) == p.syncer.process {
			if !r.ever[n] {
				r.due.add(r.change(records), -1)
			}
			delete(r.sent, n)
		}
	}
	r.due.add(p.untold(), -1)
	r.procs = slices.DeleteFunc(r.procs, func(q *proc) bool { return q == p })
}

// checkReported checks a key that a process leaves due. It may be
// so for its floor alone, because the last call finds a loss in a lane that was
// not used since; then the state has its TAT.
func (p *proc) checkReported(k *lockedKey) {
	if k.buffer.Attempts != 0 || k.account.SomethingToReport() {
		p.rig.t.Fatalf("left with %q unreported: %+v", k.field(), k.account)
	}
	const late = 10 * time.Millisecond // by which a reply may put a TAT off
	known := p.syncer.wall(bucket.UnderLimit(k.account.TAT, p.now(), k.bucket.ExchangeLimit(), p.rig.inExchange()))
	if tat := time.UnixMicro(p.rig.tat(k.field())); known.After(time.Now()) && tat.Before(known.Add(-late)) {
		p.rig.t.Fatalf("left with a TAT of %q of %v, while the state has %v", k.field(), known, tat)
	}
}

// leave ends the process in order: it must leave nothing untold. Of its
// requests none is still on the way then.
func (p *proc) leave() {
	for _, b := range p.calls() {
		if !p.arrived[b] {
			p.arrive(b, mostFates)
		}
		p.answer(b)
	}
	p.direct = true
	tick := time.NewTicker(urgentEvery)
	defer tick.Stop()
	p.syncer.leave(tick)
	synctest.Wait()
	p.crash()
	if n := p.local.frozen.Load(); n != 0 {
		p.rig.t.Fatalf("left with %d keys in reports", n)
	}
	for sh := range p.local.eachShard() {
		sh.eachDue(p.now(), mono.Never-1, false, p.checkReported)
	}
	if p.rig.isMember(p.syncer.process) {
		p.rig.t.Fatal("left without a word")
	}
	p.rig.stray = slices.DeleteFunc(p.rig.stray, func(c *exchange.Chunk) bool { return [8]byte(c.ID[:8]) == p.syncer.process })
}
