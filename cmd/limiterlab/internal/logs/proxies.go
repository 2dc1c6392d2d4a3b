package logs

import (
	"bytes"
	"errors"
	"fmt"
)

// requestColumns are the columns of the formats of balancers and proxies.
type requestColumns struct {
	time, peer, forwarded, method, path, status int
	tokens                                      [][]byte // of the line, reused
}

func newRequestColumns(r *record) requestColumns {
	return requestColumns{
		peer: r.add("peer", peer, 0), forwarded: r.add("forwarded", forwarded, 0),
		method: r.fixed("method", method), path: r.fixed("path", path), status: r.fixed("status", plain),
		time: r.fixed("time", timeRole),
	}
}

// setPeer sets the address of the connection by an address and a port. Because
// the port is always there, it is no part of an IPv6 address without brackets.
func (c *requestColumns) setPeer(r *record, text []byte) error {
	colon := bytes.LastIndexByte(text, ':')
	if colon < 0 || !isPort(text[colon:]) {
		return fmt.Errorf("%q is no address with a port of a client", shorten(text))
	}
	address := text[:colon]
	if _, withPort, ok := parseAddress(address); !ok || withPort {
		return fmt.Errorf("%q is no address with a port of a client", shorten(text))
	}
	r.set(c.peer, address)
	return nil
}

// elb splits the access logs of the load balancers of AWS: of the application
// load balancer, the network load balancer (TLS), and the classic one.
//
//	h2 2026-03-14T12:00:00.123456Z app/name/id client:port target:port …
//	tls 2.0 2026-03-14T12:00:00 net/name/id listener client:port …
//	2026-03-14T12:00:00.123456Z name client:port backend:port …
type elb struct{ requestColumns }

func newELB(r *record) splitter { return &elb{newRequestColumns(r)} }

func (b *elb) split(line []byte, r *record) error {
	b.tokens = splitTokens(line, b.tokens[:0])
	t := b.tokens
	at, from, request, status := 0, 2, 11, 7
	switch {
	case len(t) >= 15 && string(t[0]) == "tls":
		at, from, request, status = 2, 5, -1, -1
	case len(t) >= 13 && isALBType(t[0]):
		at, from, request, status = 1, 3, 12, 8
	case len(t) < 12 || !isQuoted(t[11]):
		return errors.New("no line of a load balancer of AWS")
	}
	if !isTimestamp(t[at]) {
		return fmt.Errorf("%q is no time of a load balancer of AWS", shorten(t[at]))
	}
	if err := b.setPeer(r, t[from]); err != nil {
		return err
	}
	r.set(b.time, t[at])
	if request >= 0 {
		setRequest(r, bytes.Trim(t[request], `"`), b.method, b.path)
		r.set(b.status, t[status])
	}
	return nil
}

func isALBType(word []byte) bool {
	switch string(word) {
	case "http", "https", "h2", "grpcs", "ws", "wss":
		return true
	}
	return false
}

// haproxy splits the lines of HAProxy for HTTP and TCP:
//
//	client:port [14/Mar/2026:12:00:00.655] frontend backend/server 10/0/30/69/109 200 2750 - - ---- … {headers} "GET / HTTP/1.1"
//
// Values in braces are of captured headers, which may be X-Forwarded-For.
type haproxy struct {
	requestColumns
	captures []int
}

const maxCaptures = 8

func newHAProxy(r *record) splitter {
	h := &haproxy{requestColumns: newRequestColumns(r)}
	for i := 1; i <= maxCaptures; i++ {
		h.captures = append(h.captures, r.word("capture", i))
	}
	return h
}

func (h *haproxy) split(line []byte, r *record) error {
	h.tokens = splitTokens(line, h.tokens[:0])
	t := h.tokens
	if len(t) > 2 && t[1][0] == '[' && bytes.HasSuffix(t[2], []byte(":")) {
		return otherLine("a note of HAProxy on a connection")
	}
	if len(t) < 7 || t[1][0] != '[' || bytes.IndexByte(t[3], '/') < 0 || bytes.IndexByte(t[4], '/') < 0 {
		return errors.New("no line of HAProxy")
	}
	if err := h.setPeer(r, t[0]); err != nil {
		return err
	}
	r.set(h.time, t[1])
	if isNumber(bytes.TrimPrefix(t[5], []byte("-"))) && bytes.Count(t[4], []byte("/")) >= 4 {
		r.set(h.status, t[5])
	}
	h.setCaptures(line, r)
	if _, request, ok := bytes.Cut(line, []byte(` "`)); ok {
		setRequest(r, bytes.TrimSuffix(request, []byte(`"`)), h.method, h.path)
	}
	return nil
}

// setCaptures sets the columns of the captured headers of the request.
func (h *haproxy) setCaptures(line []byte, r *record) {
	_, rest, ok := bytes.Cut(line, []byte(" {"))
	inside, _, closed := bytes.Cut(rest, []byte("}"))
	if !ok || !closed {
		return
	}
	i := 0
	for value := range bytes.SplitSeq(inside, []byte("|")) {
		if i < len(h.captures) {
			r.set(h.captures[i], value)
		}
		i++
	}
}

// envoy splits lines of Envoy's default format, and of Istio's:
//
//	[2026-03-14T12:00:00.000Z] "GET /a HTTP/1.1" 200 - 0 12 3 2 "client, …" "agent" "id" "host" "upstream"
//
// The header X-Forwarded-For in quotes holds the client. Istio's format has the
// address of the connection, too.
type envoy struct{ requestColumns }

func newEnvoy(r *record) splitter { return &envoy{newRequestColumns(r)} }

func (v *envoy) split(line []byte, r *record) error {
	v.tokens = splitTokens(line, v.tokens[:0])
	t := v.tokens
	if len(t) < 2 || t[0][0] != '[' || !isQuoted(t[1]) {
		return errors.New("no time in brackets and request in quotes at the beginning")
	}
	list, connection := 0, 0
	switch {
	case len(t) == 13 && areQuoted(t[8:13]):
		list = 8
	case len(t) == 22 && areQuoted(t[11:16]):
		list, connection = 11, 19
	default:
		return errors.New("neither the default format of Envoy nor that of Istio")
	}
	r.set(v.time, t[0])
	r.set(v.status, t[2])
	r.set(v.forwarded, bytes.Trim(t[list], `"`))
	if connection > 0 {
		r.set(v.peer, t[connection])
	}
	setRequest(r, bytes.Trim(t[1], `"`), v.method, v.path)
	return nil
}

func areQuoted(tokens [][]byte) bool {
	for _, t := range tokens {
		if !isQuoted(t) {
			return false
		}
	}
	return true
}

// s3 splits the access logs of S3:
//
//	owner bucket [14/Mar/2026:12:00:00 +0000] address requester id operation key "GET /a HTTP/1.1" 200 …
type s3 struct{ requestColumns }

func newS3(r *record) splitter { return &s3{newRequestColumns(r)} }

const leastOwner = 32 // least length of the identity of an owner, hexadecimal

func (b *s3) split(line []byte, r *record) error {
	b.tokens = splitTokens(line, b.tokens[:0])
	t := b.tokens
	if len(t) < 10 || len(t[0]) < leastOwner || t[2][0] != '[' || !isQuoted(t[8]) && string(t[8]) != "-" {
		return errors.New("no line of S3")
	}
	if _, _, ok := parseAddress(t[3]); !ok && !isNothing(t[3]) {
		return fmt.Errorf("%q is no address", shorten(t[3]))
	}
	r.set(b.time, t[2])
	r.set(b.peer, t[3])
	r.set(b.status, t[9])
	setRequest(r, bytes.Trim(t[8], `"`), b.method, b.path)
	return nil
}
