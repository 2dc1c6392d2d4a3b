package logs

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
)

// tally counts the addresses in a column that may hold the client.
type tally struct {
	lines    int          // lines with an address in the column
	internal int          // of these, lines with an address of a private network
	ports    int          // of these, lines with an address of a private network and a port
	distinct []netip.Addr // the first different addresses
	hosts    int          // lines with the name of a host in place of an address
}

// maxDistinct is the number of different addresses up to which they are counted.
const maxDistinct = 3

func (t *tally) add(a netip.Addr, withPort bool) {
	t.lines++
	if isInternal(a) {
		t.internal++
		if withPort {
			t.ports++
		}
	}
	if len(t.distinct) == maxDistinct {
		return
	}
	if !slices.Contains(t.distinct, a) {
		t.distinct = append(t.distinct, a)
	}
}

// clientChoice decides which column holds the client. Two kinds of columns may:
// the address of the connection, which is a balancer's if there is one, and a
// header that balancers set, which a client may invent if there is none.
//
// The addresses of all lines decide: if connections come from private networks
// and the header has other addresses, the header holds the client.
type clientChoice struct {
	direct, header int // columns; −1 if there is none
	verdict        verdict

	lines        int // lines with an address in either column
	same         int // lines with the same address in both
	internal     int // lines with different ones, the connection from a private network
	public       int // lines with different ones, the connection from elsewhere
	listed       int // of these, lines whose list has the address of the connection
	headerOnly   int // lines without an address of a connection
	internalOnly int // lines without a header, the connection from a private network
	publicOnly   int // lines without a header, the connection from elsewhere
}

type verdict int

const (
	neither verdict = iota
	byDirect
	byHeader
	unclear
)

// count counts the addresses of a line, in each column that may hold the client.
func count(r *record) {
	for _, c := range r.used {
		col := &r.columns[c]
		if !col.role.isCandidate() {
			continue
		}
		if col.hasAddress {
			col.add(col.address, col.withPort)
		} else if col.mayBeHost(firstOfList(r.values[c])) {
			col.hosts++
		}
	}
}

// mayBeHost reports whether a value of the column is the name of a host that
// stands for the client. Only a connection has one without a dot.
func (c *column) mayBeHost(value []byte) bool {
	return !isNothing(value) && isName(value) && (c.role == peer || c.role == client && bytes.IndexByte(value, '.') > 0)
}

// choose sets the columns by the addresses counted. A column that has an
// address in less than half as many lines as another does not count.
func (c *clientChoice) choose(r *record) {
	*c = clientChoice{direct: -1, header: -1}
	c.direct = bestOf(r, func(col *column) bool { return col.role == client || col.role == peer })
	if c.direct < 0 {
		c.direct = hostColumn(r)
	}
	outside := c.direct >= 0 && 2*r.columns[c.direct].internal <= r.columns[c.direct].lines
	isHeader := func(col *column) bool {
		if col.role != forwarded || !col.numbered || 2*col.internal <= col.lines {
			return col.role == forwarded
		}
		// A private address in a word without a name may be of an upstream, or of
		// the server itself.
		return 2*col.ports <= col.lines && !(outside && len(col.distinct) < maxDistinct)
	}
	c.header = bestOf(r, func(col *column) bool { return isHeader(col) && len(col.distinct) == maxDistinct })
	if c.header < 0 {
		c.header = bestOf(r, isHeader)
	}
}

// hostColumn returns the best column with names of hosts, or −1.
func hostColumn(r *record) int {
	best := -1
	for i := range r.columns {
		if col := &r.columns[i]; col.hosts > 0 && (best < 0 || better(col, &r.columns[best])) {
			best = i
		}
	}
	return best
}

// bestOf returns the best column of a kind, or −1.
func bestOf(r *record, isKind func(*column) bool) int {
	most := 0
	for i := range r.columns {
		if isKind(&r.columns[i]) {
			most = max(most, r.columns[i].lines)
		}
	}
	best := -1
	for i := range r.columns {
		col := &r.columns[i]
		if col.lines > 0 && 2*col.lines >= most && isKind(col) && (best < 0 || better(col, &r.columns[best])) {
			best = i
		}
	}
	return best
}

// better reports whether a column is a better source of the client's address.
func better(a, b *column) bool {
	if a.role != b.role {
		return a.role == client
	}
	return a.rank < b.rank
}

// compare counts a line by its two addresses.
func (c *clientChoice) compare(r *record) {
	var d, h netip.Addr
	var hasDirect, hasHeader bool
	if c.direct >= 0 {
		d, hasDirect = r.address(c.direct)
	}
	if c.header >= 0 {
		h, hasHeader = r.address(c.header)
	}
	switch {
	case !hasDirect && !hasHeader:
		return
	case !hasDirect:
		c.headerOnly++
	case !hasHeader && isInternal(d):
		c.internalOnly++
	case !hasHeader:
		c.publicOnly++
	case d == h:
		c.same++
	case isInternal(d):
		c.internal++
	default:
		c.public++
		if listHas(r.values[c.header], d) {
			c.listed++
		}
	}
	c.lines++
}

// judge returns the column that holds the client, by the lines compared.
func (c *clientChoice) judge(r *record) verdict {
	differ := c.internal + c.public
	both := differ + c.same
	switch {
	case c.direct < 0 && c.header < 0:
		return neither
	case c.rival(r) >= 0:
		return unclear
	case c.header < 0:
		return byDirect
	case c.direct < 0:
		return byHeader
	case differ == 0:
		return c.judgeEqual()
	case few(both, c.lines) && 2*c.publicOnly > c.lines:
		return byDirect // a header of few clients
	case c.public > c.internal && 2*r.columns[c.header].internal > r.columns[c.header].lines:
		return unclear // clients in private networks with connections from elsewhere
	case len(r.columns[c.header].distinct) == 1 && len(r.columns[c.direct].distinct) == maxDistinct:
		return unclear // the header has the address of one server
	case few(c.public, differ):
		if !few(c.publicOnly, c.lines) {
			return unclear
		}
		return byHeader // behind a balancer, whose health checks have no header
	case few(differ, both):
		return byDirect // the server writes the connection itself into the list
	case r.columns[c.direct].role == client && few(c.internal, differ) && 2*differ <= both:
		return byDirect // the server has refused the header of some
	case r.columns[c.direct].role == client:
		return unclear // the server has trusted no header, which may be right
	case c.listed > 0:
		return unclear // either a balancer added itself, or the server took the client from the list
	case 10*both >= 9*c.lines:
		return byHeader // behind a balancer with a public address
	}
	return unclear
}

// rival returns a third column that may hold the client, or −1.
func (c *clientChoice) rival(r *record) int {
	if c.header >= 0 {
		return c.rivalOfHeader(r)
	}
	return c.rivalOfDirect(r)
}

// rivalOfHeader returns another word without a name that has other addresses
// than the header.
func (c *clientChoice) rivalOfHeader(r *record) int {
	own := &r.columns[c.header]
	for i := range r.columns {
		col := &r.columns[i]
		if i != c.header && own.numbered && col.numbered && 2*col.lines >= own.lines && len(col.distinct) == maxDistinct &&
			2*col.internal <= col.lines && !slices.Equal(own.distinct, col.distinct) {
			return i
		}
	}
	return -1
}

// rivalOfDirect returns another address of a connection, where the chosen one
// has those of few machines.
func (c *clientChoice) rivalOfDirect(r *record) int {
	own := &r.columns[c.direct]
	for i := range r.columns {
		col := &r.columns[i]
		if i == c.direct || col.role != client && col.role != peer || 2*col.lines < own.lines {
			continue
		}
		inside, outside := 10*own.internal >= 9*own.lines, 2*col.internal < col.lines
		if inside && outside || len(own.distinct) == 1 && len(col.distinct) == maxDistinct {
			return i
		}
	}
	return -1
}

// judgeEqual is judge for a log in which both columns never differ.
func (c *clientChoice) judgeEqual() verdict {
	switch {
	case c.headerOnly == 0:
		return byDirect
	case c.internalOnly+c.publicOnly == 0:
		return byHeader
	}
	return unclear
}

// few reports whether n of all is at most one in twenty.
func few(n, all int) bool { return 20*n <= all }

// column returns the column that holds the client.
func (c *clientChoice) column() int {
	if c.verdict == byHeader {
		return c.header
	}
	return c.direct
}

// contradiction returns the reason for which the choice c by the first lines
// does not fit all lines, or "". all has compared them in the columns of c.
func (c *clientChoice) contradiction(all clientChoice, r *record) string {
	var later clientChoice
	later.choose(r)
	switch {
	case later.direct != c.direct:
		return fmt.Sprintf("the first lines have the client in %s, but most have an address in %s",
			quotedName(r, c.column()), quotedName(r, later.direct))
	case later.header == c.header && later.rival(r) >= 0:
		return later.explain(r)
	case later.header < 0:
		return ""
	case later.header != c.header && c.verdict == byDirect:
		d, h := &r.columns[c.direct], &r.columns[later.header]
		if few(h.lines, d.lines) && 2*d.internal <= d.lines {
			return "" // a header of few clients
		}
		return fmt.Sprintf("the first lines have the client in %s, but %d of %d have an address in %s, too",
			quotedName(r, c.column()), h.lines, d.lines, quotedName(r, later.header))
	case later.header != c.header:
		return fmt.Sprintf("the first lines have the client in %s, but later ones in %s", quotedName(r, c.column()), quotedName(r, later.header))
	}
	switch all.verdict = all.judge(r); all.verdict {
	case c.verdict:
		return ""
	case unclear:
		return all.explain(r)
	}
	return fmt.Sprintf("the first lines have the client in %s, but most lines in %s", quotedName(r, c.column()), quotedName(r, all.column()))
}

// explain describes the lines that make a choice unclear.
func (c *clientChoice) explain(r *record) string {
	if c.rival(r) >= 0 {
		one, other := c.rivals(r)
		return fmt.Sprintf("%s and %s may both hold the client", quotedName(r, one), quotedName(r, other))
	}
	d, h := quotedName(r, c.direct), quotedName(r, c.header)
	return fmt.Sprintf("%s and %s may both hold the client (of %d lines they differ in %d, are equal in %d, and %s lacks an address in %d)",
		d, h, c.lines, c.internal+c.public, c.same, h, c.internalOnly+c.publicOnly)
}

// rivals returns the two columns that may both hold the client.
func (c *clientChoice) rivals(r *record) (one, other int) {
	switch rival := c.rival(r); {
	case rival < 0:
		return c.direct, c.header
	case c.header < 0:
		return c.direct, rival
	default:
		return c.header, rival
	}
}

func quotedName(r *record, c int) string {
	if c < 0 {
		return "no field"
	}
	return fmt.Sprintf("%q", r.columns[c].name)
}
