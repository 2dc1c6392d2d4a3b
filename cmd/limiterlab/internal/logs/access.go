package logs

import (
	"bytes"
	"errors"
	"net/netip"

	"github.com/seed-e56e777b/limiter/internal/clientaddr"
)

// access parses lines in common and combined log format:
//
//	address identity user [time] "request" status bytes "referer" "agent"
//
// The text after the status may be missing, or longer.
type access struct {
	clock clock
	host  bool // true if a line begins with the name of the virtual host
	key   []accessField
	line  accessLine
}

// accessField returns a part of the key from a line.
type accessField func(l *accessLine) []byte

// accessLine is a line, split into its parts.
type accessLine struct {
	host, address, user []byte
	time                []byte
	request             []byte
	status              []byte
	rest                []byte // text after the status
}

// accessFields are the fields of the format by name. Only lines with a virtual
// host have a host.
var accessFields = map[string]accessField{
	"ip":      func(l *accessLine) []byte { return network(l.address) },
	"user":    func(l *accessLine) []byte { return l.user },
	"method":  (*accessLine).method,
	"path":    (*accessLine).path,
	"host":    func(l *accessLine) []byte { return l.host },
	"status":  func(l *accessLine) []byte { return l.status },
	"referer": func(l *accessLine) []byte { return l.quoted(0) },
	"agent":   func(l *accessLine) []byte { return l.quoted(1) },
}

func newAccess(k Key, host bool) (parser, error) {
	a := &access{host: host}
	for _, name := range k.parts {
		field, ok := accessFields[name]
		if !ok || name == "host" && !host {
			return nil, &FieldError{name, accessNames(host)}
		}
		a.key = append(a.key, field)
	}
	return a, nil
}

func accessNames(host bool) []string {
	names := []string{"ip", "user", "method", "path", "status", "referer", "agent"}
	if host {
		names = append(names, "host")
	}
	return names
}

func (a *access) parse(line []byte, e *Entry) error {
	l := &a.line
	if err := l.split(line, a.host); err != nil {
		return err
	}
	if err := a.clock.readAccess(l.time, e); err != nil {
		return err
	}
	e.HasKey = true
	for i, field := range a.key {
		e.addPart(i == 0, field(l))
	}
	return nil
}

func (l *accessLine) split(line []byte, host bool) error {
	if host {
		name, rest, _ := bytes.Cut(line, space)
		if len(name) == 0 || !beginsWithAddress(rest) {
			return errors.New("no virtual host and address at the beginning")
		}
		l.host, line = withoutPort(name), rest
	}
	who, rest, ok := bytes.Cut(line, []byte(" ["))
	if !ok {
		return errors.New("no time in brackets")
	}
	if l.time, rest, ok = bytes.Cut(rest, []byte("] \"")); !ok {
		return errors.New("no time in brackets before a request in quotes")
	}
	return errors.Join(l.splitWho(who), l.splitRequest(rest))
}

// beginsWithAddress reports whether a line begins with an IP address, as it
// must after a virtual host.
func beginsWithAddress(line []byte) bool {
	address, _, _ := bytes.Cut(line, space)
	_, err := netip.ParseAddr(string(address))
	return err == nil
}

var space = []byte(" ")

// splitWho splits the text before the time into address, identity and user. The
// user is last, because its name may have spaces.
func (l *accessLine) splitWho(who []byte) error {
	address, rest, ok := bytes.Cut(who, space)
	_, user, more := bytes.Cut(rest, space)
	if !ok || !more || len(address) == 0 {
		return errors.New("no address, identity and user before the time")
	}
	l.address, l.user = address, user
	return nil
}

func (l *accessLine) splitRequest(rest []byte) error {
	end := quoteEnd(rest)
	if end < 0 {
		return errors.New("the quotes around the request do not end")
	}
	l.request, rest = rest[:end], bytes.TrimPrefix(rest[end+1:], space)
	l.status, l.rest, _ = bytes.Cut(rest, space)
	if len(l.status) != 3 || l.status[0] < '0' || l.status[0] > '9' {
		return errors.New("no status of three digits behind the request")
	}
	return nil
}

// quoteEnd returns the index of the first quote that no backslash escapes, or
// −1.
func quoteEnd(s []byte) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

func (l *accessLine) method() []byte {
	method, _, ok := bytes.Cut(l.request, space)
	if !ok {
		return nil
	}
	return method
}

// path returns the path of the request, without its query.
func (l *accessLine) path() []byte {
	_, rest, _ := bytes.Cut(l.request, space)
	path, _, _ := bytes.Cut(rest, space)
	return withoutQuery(path)
}

// quoted returns the i-th text in quotes after the status, from 0, or nil.
func (l *accessLine) quoted(i int) []byte {
	rest := l.rest
	for {
		begin := bytes.IndexByte(rest, '"')
		if begin < 0 {
			return nil
		}
		rest = rest[begin+1:]
		end := quoteEnd(rest)
		if end < 0 {
			return nil
		}
		if i == 0 {
			return rest[:end]
		}
		i, rest = i-1, rest[end+1:]
	}
}

func withoutQuery(path []byte) []byte {
	path, _, _ = bytes.Cut(path, []byte("?"))
	return path
}

func withoutPort(host []byte) []byte {
	if i := bytes.LastIndexByte(host, ':'); i > 0 && host[len(host)-1] != ']' {
		return host[:i]
	}
	return host
}

// network returns an address as a limit counts it: IPv4 as it is, also inside of
// IPv6 (mapped or NAT64), and IPv6 as its /64, all without a port. Any other text stays as it is. Because one customer
// usually has a whole /64, its addresses share a limit.
func network(address []byte) []byte {
	if bytes.IndexByte(address, ':') < 0 {
		return address
	}
	a, err := netip.ParseAddr(string(address))
	if err != nil {
		withPort, err := netip.ParseAddrPort(string(address))
		if err != nil {
			return address
		}
		a = withPort.Addr()
	}
	if a = clientaddr.Inner(a); a.Is4() {
		return a.AppendTo(nil)
	}
	return netip.PrefixFrom(a, 64).Masked().AppendTo(nil)
}
