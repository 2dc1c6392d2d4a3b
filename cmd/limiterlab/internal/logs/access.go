package logs

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// access splits lines in common and combined log format:
//
//	address identity user [time] "request" status bytes "referer" "agent" …
//
// In place of the address there may be a list: the client and the balancers
// behind it, with or without commas. Words behind the agent may hold the header
// X-Forwarded-For, in quotes or not.
type access struct {
	hosted  bool // true if a line begins with the name of the virtual host
	columns accessColumns
	words   [][]byte
}

// accessColumns are the columns of a record by their meaning.
type accessColumns struct {
	time, peer, forwarded, host, user, method, path, status, referer, agent int
	extra                                                                   []int // words behind the agent
}

// maxExtra is the largest number of words behind the agent that are columns.
const maxExtra = 10

func newCombined(r *record) splitter { return newAccess(r, false) }

func newVHost(r *record) splitter { return newAccess(r, true) }

func newAccess(r *record, hosted bool) splitter {
	a := &access{hosted: hosted}
	c := &a.columns
	c.peer, c.user = r.fixed("peer", peer), r.fixed("user", user)
	c.method, c.path, c.status = r.fixed("method", method), r.fixed("path", path), r.fixed("status", plain)
	c.referer, c.agent = r.fixed("referer", plain), r.fixed("agent", plain)
	if hosted {
		c.host = r.fixed("host", host)
	}
	c.time = r.fixed("time", timeRole)
	c.forwarded = r.word("forwarded", 0)
	for i := 1; i <= maxExtra; i++ {
		c.extra = append(c.extra, r.word("extra", i))
	}
	return a
}

func (a *access) split(line []byte, r *record) error {
	begin, end := bracketedTime(line)
	if begin < 0 {
		return errors.New("no time in brackets")
	}
	rest, ok := bytes.CutPrefix(line[end:], []byte(`] "`))
	if !ok {
		return errors.New("no request in quotes behind the time in brackets")
	}
	if err := a.splitBefore(line[:begin-2], r); err != nil {
		return err
	}
	r.set(a.columns.time, line[begin:end])
	return a.splitRequest(rest, r)
}

// bracketedTime returns the bounds of the time in brackets: the first that
// begins with a digit. A user may have brackets in its name.
func bracketedTime(line []byte) (begin, end int) {
	for at := 0; ; {
		i := bytes.IndexByte(line[at:], '[')
		if i < 0 {
			return -1, -1
		}
		if at += i + 1; at < 2 || line[at-2] != ' ' {
			continue
		}
		length := bytes.IndexByte(line[at:], ']')
		if length < 0 {
			return -1, -1
		}
		if length == 0 || isDigit(line[at]) || !bytes.Contains(line[at+length:], []byte(" [")) {
			return at, at + length
		}
	}
}

// splitBefore splits the words before the time. Only lists of addresses, a
// virtual host where one belongs, and users with spaces make them more than
// three.
func (a *access) splitBefore(before []byte, r *record) error {
	before, err := a.cutQuotedList(before, r)
	if err != nil {
		return err
	}
	a.words = splitWords(before, a.words[:0])
	words := a.words
	if a.hosted {
		if len(words) < 4 || !isVirtualHost(words[0]) || !isListed(words[1]) {
			return errors.New("no virtual host and address at the beginning")
		}
		r.set(a.columns.host, withoutPort(words[0]))
		words = words[1:]
	}
	if len(words) < 3 || len(words[0]) == 0 {
		return errors.New("no address, identity and user before the time")
	}
	addresses := 1
	for addresses < len(words)-2 && isListed(words[addresses]) {
		addresses++
	}
	user := words[addresses+1]
	if len(words) > addresses+2 {
		user = bytes.Join(words[addresses+1:], space)
	}
	if err := checkWords(words, addresses, user); err != nil {
		return err
	}
	r.set(a.columns.peer, words[addresses-1])
	if addresses > 1 {
		r.set(a.columns.forwarded, words[0])
	}
	if isQuoted(user) {
		user = user[1 : len(user)-1]
	}
	r.set(a.columns.user, user)
	return nil
}

// cutQuotedList cuts a header X-Forwarded-For in quotes before the address.
func (a *access) cutQuotedList(before []byte, r *record) ([]byte, error) {
	if len(before) == 0 || before[0] != '"' {
		return before, nil
	}
	end := quoteEnd(before[1:])
	if end < 0 || end+2 >= len(before) || before[end+2] != ' ' {
		return nil, errors.New("the quotes at the beginning do not end")
	}
	list := before[1 : end+1]
	if !isListed(firstOfList(list)) && !isNothing(list) {
		return nil, errors.New("a text in quotes at the beginning, which is no address")
	}
	r.set(a.columns.forwarded, list)
	return before[end+3:], nil
}

// checkWords returns an error if the words before the time are not addresses,
// identity and user.
func checkWords(words [][]byte, addresses int, user []byte) error {
	first := words[0]
	_, withPort, isAddress := parseFirst(first)
	if !isAddress {
		first = firstOfList(first)
	}
	switch {
	case !isAddress && !isNothing(first) && addresses > 1:
		return fmt.Errorf("%q before an address is none: is it the virtual host? (-format vhost)", shorten(first))
	case !isAddress && !isNothing(first) && !isName(first):
		return fmt.Errorf("%q at the beginning is neither an address nor a name", shorten(first))
	case addresses > 1 && withPort && portOf(firstOfList(first)) < leastClientPort:
		return fmt.Errorf("%q before another address may be a client with its port, or a virtual host (-format vhost)", shorten(first))
	case slices.ContainsFunc(words[addresses:], isListed):
		return errors.New("an address in the place of the identity or the user: want address, identity and user before the time")
	case len(words) > addresses+2 && string(words[addresses]) != "-" && !isQuoted(user):
		return fmt.Errorf("%d words before the time: want address, identity and user", len(words))
	}
	return nil
}

func isQuoted(text []byte) bool { return len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' }

// Ports before an address: from leastClientPort, they are those of clients, and
// below mostHostPort those of virtual hosts. Others could be either.
const (
	leastClientPort = 32768
	mostHostPort    = 10000
)

// isListed reports whether a word belongs to a list of addresses.
func isListed(word []byte) bool {
	if len(word) < len("::") {
		return false // mostly a hyphen
	}
	_, _, ok := parseFirst(word)
	return ok
}

// isVirtualHost reports whether a word may be the name of a virtual host, with
// or without its port.
func isVirtualHost(word []byte) bool {
	if _, withPort, ok := parseAddress(word); ok {
		return withPort && portOf(word) < mostHostPort
	}
	name := withoutPort(word)
	return isName(name) || string(name) == "_" || string(name) == "-" || string(name) == "*"
}

var space = []byte(" ")

// splitWords appends the words of a text, between single spaces, to words. An
// empty user makes an empty word.
func splitWords(text []byte, words [][]byte) [][]byte {
	for {
		word, rest, more := bytes.Cut(text, space)
		words = append(words, word)
		if !more {
			return words
		}
		text = rest
	}
}

func (a *access) splitRequest(rest []byte, r *record) error {
	end := quoteEnd(rest)
	if end < 0 {
		return errors.New("the quotes around the request do not end")
	}
	request, rest := rest[:end], bytes.TrimPrefix(rest[end+1:], space)
	status, rest, _ := bytes.Cut(rest, space)
	if len(status) != 3 || !isNumber(status) {
		return errors.New("no status of three digits behind the request")
	}
	c := &a.columns
	r.set(c.status, status)
	setRequest(r, request, c.method, c.path)
	a.splitRest(rest, r)
	return nil
}

// splitRest sets the columns of the text behind the status: the size, referer
// and agent in quotes, and more words.
func (a *access) splitRest(rest []byte, r *record) {
	c := &a.columns
	quotes := bytes.Count(rest, []byte(`"`))
	usual := quotes == 0 && bytes.IndexByte(rest, ' ') < 0 || quotes == 4 && rest[len(rest)-1] == '"'
	if usual && !r.columns[c.referer].wanted && !r.columns[c.agent].wanted {
		return
	}
	a.words = splitTokens(rest, a.words[:0])
	texts, extra := 0, 0
	for i, word := range a.words {
		switch {
		case isQuoted(word) && texts == 0:
			r.set(c.referer, word[1:len(word)-1])
			texts++
		case isQuoted(word) && texts == 1:
			r.set(c.agent, word[1:len(word)-1])
			texts++
		case i > 0 && a.setNamed(word, r):
		case i > 0 && extra < maxExtra && texts != 1:
			r.set(c.extra[extra], bytes.Trim(word, `"`))
			extra++
		}
	}
}

// setNamed sets the column of a word like xff=203.0.113.7, unless it has a value.
func (a *access) setNamed(word []byte, r *record) bool {
	name, value, ok := bytes.Cut(word, []byte("="))
	if !ok || !isName(name) {
		return false
	}
	if c := r.column(name); c >= 0 && r.values[c] == nil {
		r.set(c, bytes.Trim(value, `"`))
	}
	return true
}

// setRequest sets method and path by a request line: GET /path?query HTTP/1.1,
// if they are parts of the key. The path is without its query and, of a URL,
// without scheme and host.
func setRequest(r *record, request []byte, method, path int) {
	if !r.requests {
		return
	}
	word, rest, ok := bytes.Cut(request, space)
	if !ok {
		return
	}
	r.set(method, word)
	uri, _, _ := bytes.Cut(rest, space)
	r.set(path, withoutQuery(withoutHost(uri)))
}

// withoutHost returns the path and the query of a URL.
func withoutHost(uri []byte) []byte {
	scheme, rest, ok := bytes.Cut(uri, []byte("://"))
	if !ok || bytes.IndexByte(scheme, '/') >= 0 {
		return uri
	}
	if i := bytes.IndexByte(rest, '/'); i >= 0 {
		return rest[i:]
	}
	return []byte("/")
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

func withoutQuery(path []byte) []byte {
	path, _, _ = bytes.Cut(path, []byte("?"))
	return path
}

func withoutPort(host []byte) []byte {
	if i := bytes.LastIndexByte(host, ':'); i > 0 && isPort(host[i:]) {
		return host[:i]
	}
	return host
}
