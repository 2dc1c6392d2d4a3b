package exchange

import "time"

// memoryFleet is the fleet's hash; see fleet.lua for the reasons.
type memoryFleet struct {
	seen                    map[[8]byte]int64
	clock                   memoryClock
	contacted               bool // somebody was ever in contact
	contact, begun, ended   int64
	counted, members, quiet int64
	latest                  int64
	news                    map[int64]memoryNews // by number, the last NewsKept
}

type memoryNews struct {
	News
	tat int64
}

func (f *memoryFleet) call(time int64, c *FleetCall) {
	f.clock = f.clock.at(time)
	now := f.clock.last
	f.gap(now, micros(c.Silent), sinceMicros(c.Since))
	f.count(now, micros(c.Silent), micros(c.Forget), c)
	if c.Leave {
		delete(f.seen, c.Process)
	} else {
		f.seen[c.Process] = now
	}
	c.Reply = FleetReply{Now: now, Members: int(f.members), Silent: int(f.quiet)}
	if f.ended > 0 {
		c.Reply.GapBegin, c.Reply.GapEnd = ago(now, f.begun), ago(now, f.ended)
	}
	f.tell(now, c.Tell)
	f.hear(now, c)
}

// tell keeps news, in the places of the oldest.
func (f *memoryFleet) tell(now int64, told []News) {
	for _, n := range told {
		f.latest++
		delete(f.news, f.latest-NewsKept)
		f.news[f.latest] = memoryNews{n, now + span(n.ToGo)}
	}
}

// hear brings the news after the one that a process has heard, as many pages as one
// call reads, except for what is over. A process that has heard of more than there
// is has heard it from a state that is lost.
func (f *memoryFleet) hear(now int64, c *FleetCall) {
	r, heard := &c.Reply, min(max(c.Heard, 0), maxSeq)
	if heard > f.latest {
		heard = 0
	}
	last := pageOf(f.latest)
	heard = max(heard, (last-NewsKept/newsPage+1)*newsPage)
	last = min(last, pageOf(heard+1)+MaxHeard/newsPage-1)
	r.after, r.Latest, r.Heard = heard, f.latest, min(f.latest, (last+1)*newsPage)
	for i := heard + 1; i <= r.Heard; i++ {
		n := f.news[i]
		if n.tat > now || n.Reset {
			n.ToGo, n.Demand = max(0, n.tat-now), min(max(n.Demand, 0), maxTime)
			r.News = append(r.News, n.News)
		}
	}
}

func ago(now, then int64) time.Duration { return time.Duration(now-then) * time.Microsecond }

// gap notes a spell without contact by anybody.
func (f *memoryFleet) gap(now, silent, since int64) {
	switch {
	case f.contacted && now-f.contact > silent:
		f.begun, f.ended = f.contact, now
	case !f.contacted && since > silent:
		f.begun, f.ended = max(now-since, 0), now
	}
	f.contacted, f.contact = true, now
}

// count looks at every member, when the last count no longer holds.
func (f *memoryFleet) count(now, silent, forget int64, c *FleetCall) {
	mine, ok := f.seen[c.Process]
	back := !ok || mine < now-forget || now-mine > silent
	if !back && !c.Leave && now-f.counted < silent/8 {
		return
	}
	f.counted, f.members, f.quiet = now, 0, 0
	for id, at := range f.seen {
		switch {
		case id == c.Process:
			continue
		case at < now-forget:
			delete(f.seen, id)
			continue
		case now-at > silent:
			f.quiet++
		}
		f.members++
	}
	if !c.Leave {
		f.members++
	}
}
