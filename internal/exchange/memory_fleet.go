package exchange

// memoryFleet is the fleet's hash. The reasons for its rules are in fleet.lua.
type memoryFleet struct {
	seen                     map[[8]byte]memoryMember
	clock                    memoryClock
	counted, members, silent int64
	newer                    int64
	lost, fastest, slowest   int64
	least, largest           Limit
	latest                   int64
	news                     map[int64]memoryNews // by number, the last NewsKept
	furthest                 int64                // latest TAT in any news
	expire                   int64                // ms of the given time; 0: never written
}

// memoryMember is a process of the fleet.
type memoryMember struct {
	at, interval, started int64 // last seen, interval of its rounds, start
	limit                 Limit
}

func (m *memoryMember) silent(now int64, c *FleetCall) bool { return now-m.at > micros(c.Silent) }

type memoryNews struct {
	News
	tat int64
}

func (f *memoryFleet) call(time int64, c *FleetCall) {
	if expired(f.expire, time) {
		*f = newMemoryFleet()
	}
	f.clock = f.clock.at(time)
	now := f.clock.last
	own := memoryMember{now, micros(c.Interval), now - micros(c.Age), c.Limit.rounded()}
	if before, ok := f.seen[c.Process]; ok && c.Degraded && before.at >= now-max(micros(c.Forget), micros(c.Remember)) {
		own.at = max(before.at, now-micros(c.Forget)/2)
	}
	f.count(now, c, own)
	if c.Leave {
		delete(f.seen, c.Process)
	} else {
		f.seen[c.Process] = own
	}
	c.Reply = FleetReply{
		Now: now, Members: int(f.members), Silent: int(f.silent), Newer: int(f.newer), Lost: int(f.lost),
		Fastest: fromMicros(f.fastest), Slowest: fromMicros(f.slowest),
	}
	if !c.Leave && own.silent(now, c) {
		c.Reply.Silent--
	}
	if own.limit != (Limit{}) {
		for _, lim := range []Limit{f.least, f.largest} {
			if lim != own.limit && lim != (Limit{}) {
				c.Reply.Other = lim
			}
		}
	}
	f.announce(now, c.Announce)
	f.renew(time, now, c)
	f.deliver(now, c)
}

// renew sets the expiry to a minute after the last news, or the last member's removal.
func (f *memoryFleet) renew(time, now int64, c *FleetCall) {
	lifetime := max(0, f.furthest-now)
	if f.members+f.lost > 0 {
		lifetime = max(lifetime, micros(c.Forget), micros(c.Remember))
	}
	if lifetime+minute < f.expire*1000-time-minute {
		f.expire = 0
	}
	f.expire = renewed(f.expire, time, lifetime+minute)
}

// announce stores news in place of the oldest.
func (f *memoryFleet) announce(now int64, list []News) {
	for _, n := range list {
		f.latest++
		delete(f.news, f.latest-NewsKept)
		f.news[f.latest] = memoryNews{n, now + span(n.ToGo)}
		f.furthest = max(f.furthest, now+span(n.ToGo))
		if n.Reset {
			f.furthest = now
		}
	}
}

// deliver puts the news after c.Received into the reply: as many pages as one call
// reads, except news that no longer holds. A number above the latest is from a lost
// state, and counts as 0.
func (f *memoryFleet) deliver(now int64, c *FleetCall) {
	r, after := &c.Reply, min(max(c.Received, 0), MaxSeq)
	if after > f.latest {
		after = 0
	}
	last := pageOf(f.latest)
	after = max(after, (last-NewsKept/newsPage+1)*newsPage)
	last = min(last, pageOf(after+1)+MaxReceived/newsPage-1)
	r.after, r.Latest, r.Received = after, f.latest, min(f.latest, (last+1)*newsPage)
	for i := after + 1; i <= r.Received; i++ {
		n := f.news[i]
		if n.tat > now || n.Reset {
			n.ToGo, n.Demand, n.Limit = max(0, n.tat-now), min(max(n.Demand, 0), MaxTime), n.Limit.rounded()
			r.News = append(r.News, n.News)
		}
	}
}

// count counts the members anew, unless the last count still holds. own is the caller.
func (f *memoryFleet) count(now int64, c *FleetCall, own memoryMember) {
	silent, forget, lim := micros(c.Silent), micros(c.Forget), own.limit
	before, ok := f.seen[c.Process]
	back := !ok || now-before.at > min(forget, silent) || before.interval != own.interval || before.limit != lim
	if !back && !c.Leave && now-f.counted < silent/8 {
		return
	}
	f.counted, f.members, f.silent, f.newer, f.lost, f.fastest, f.slowest = now, 0, 0, 0, 0, own.interval, own.interval
	f.least, f.largest = lim, lim
	silents, gone, live := departed{MaxTime, now}, departed{MaxTime, now}, []int64(nil)
	for id, m := range f.seen {
		switch {
		case id == c.Process:
			continue
		case m.at < now-max(forget, micros(c.Remember)), m.silent(now, c) && m.at-m.started < briefly:
			delete(f.seen, id)
			continue
		case m.at < now-forget:
			f.lost++
			gone.add(m)
			continue
		case m.silent(now, c):
			f.silent++
			silents.add(m)
		default:
			live = append(live, m.started)
		}
		f.members++
		f.fastest, f.slowest = min(f.fastest, m.interval), max(f.slowest, m.interval)
		if m.limit != lim && m.limit != (Limit{}) {
			if f.least == (Limit{}) || m.limit.smaller(f.least) {
				f.least = m.limit
			}
			if f.largest == (Limit{}) || f.largest.smaller(m.limit) {
				f.largest = m.limit
			}
		}
	}
	if !c.Leave {
		f.members++
	}
	if !own.silent(now, c) {
		live = append(live, own.started)
	} else if !c.Leave {
		f.silent++
		silents.add(own)
	}
	f.newer, f.lost = silents.replaced(live, forget), max(0, f.lost-gone.replaced(live, forget))
}

// departed are processes that are silent, or lost: the first start among them, and
// the first instant at which one was last seen.
type departed struct{ started, seen int64 }

func (d *departed) add(m memoryMember) {
	d.started, d.seen = min(d.started, m.started), min(d.seen, m.at)
}

// replaced returns the number of live processes that have replaced them, by their
// starts.
func (d *departed) replaced(live []int64, forget int64) (n int64) {
	for _, started := range live {
		if started > max(d.started+newerBy, d.seen-forget) {
			n++
		}
	}
	return n
}
