package logs

import (
	"slices"
	"strings"
)

// role is the meaning of a column that its name gives away.
type role uint8

const (
	plain     role = iota
	timeRole       // the time of the request
	client         // an address that the server takes for the client's
	peer           // the address of the connection, perhaps a balancer's
	forwarded      // an address from a header, perhaps invented by the client
	user
	method
	path
	host
	logger    // the part of a program that wrote the line
	requestID // the request, in each of its lines
)

// roles are the names in the options that stand for a role.
var roles = map[string]role{"user": user, "method": method, "path": path, "host": host}

// isCandidate reports whether a column of the role may hold the client.
func (r role) isCandidate() bool { return r == client || r == peer || r == forwarded }

// usualNames are the names of each role, the best first, in the form of
// [squeeze]. A name with a dot is of a field inside another.
var usualNames = map[role][]string{
	timeRole: {
		"startutc", "starttime", "edgestarttimestamp", "requesttimeepoch", "requestreceivedtimestamp", "startedat",
		"time", "timestamp", "ts", "datetime", "eventtime", "msec", "date", "timelocal", "timeiso8601", "requesttime", "startlocal",
	},
	client: {
		"httprequest.clientip", "httprequest.remoteip", "jsonpayload.remoteip", "client.ip", "identity.sourceip", "source.ip", "request.clientip",
		"ip", "clientip", "clienthost", "clientipaddress", "clientipaddr", "sourceip", "sourceipaddress", "sourceips", "srcip", "calleripaddress", "callerip",
		"userip", "visitorip", "ipaddress", "ipaddr", "req.ip", "request.ip", "http.ip", "user.ip", "identity.ip", "client",
	},
	peer: {
		"remoteaddr", "remoteip", "remoteaddress", "downstreamremoteaddress", "clientaddr", "clientaddress", "client.address", "client.addr",
		"remotehost", "remote.ip", "remote.addr", "remote.address", "remote", "peer.ip", "peer.addr", "peer.address", "peer", "peeraddr", "peeraddress",
		"sourceaddress", "source.address", "srcaddr", "raddr", "cip", "downstreamdirectremoteaddress",
	},
	forwarded: {
		"cfconnectingip", "trueclientip", "fastlyclientip", "flyclientip", "xazureclientip", "xoriginalforwardedfor",
		"xforwardedfor", "forwardedfor", "xff", "xforwardfor", "httpclientip", "proxyaddxforwardedfor", "forwarded", "xenvoyexternaladdress", "xrealip", "realip", "xclientip", "xclusterclientip",
	},
	user: {"user", "userid", "remoteuser", "username", "clientusername", "csusername", "user.id", "user.name"},
	method: {
		"method", "requestmethod", "httpmethod", "csmethod", "clientrequestmethod", "verb",
	},
	path: {
		"path", "uri", "requesturi", "url", "requestpath", "requesturl", "csuristem", "clientrequesturi", "clientrequestpath", "originalpath", "requesteduri",
	},
	host:      {"host", "httphost", "servername", "vhost", "requesthost", "clientrequesthost", "cshost", "authority"},
	logger:    {"logger"},
	requestID: {"requestid", "xrequestid", "reqid", "req.id", "request.id", "xedgerequestid", "amznrequestid"},
}

// ranked is the meaning of a name.
type ranked struct {
	role role
	rank int
}

// byName is usualNames by the name.
var byName = func() map[string]ranked {
	m := make(map[string]ranked)
	for as, names := range usualNames {
		for rank, name := range names {
			m[name] = ranked{as, rank}
		}
	}
	return m
}()

// others are the fields whose inner fields belong to a server, or to the
// answer: an address in them is none of the client.
var others = []string{
	"server", "upstream", "origin", "destination", "dest", "backend", "target", "local", "host", "response", "resp", "res",
	"responseheaders", "respheaders", "agent", "node", "pod", "kubernetes", "resource", "observer", "proxy", "container",
}

// topOnly are the roles of fields that must not be inside another.
func (r role) topOnly() bool { return r == timeRole || r == logger }

// roleOf returns the meaning of a name, plain if it has none. A name with dots
// is of a field inside others.
func roleOf(name string) (as role, rank int) {
	segments := strings.Split(strings.ReplaceAll(name, "[]", ""), ".")
	for i := range segments {
		segments[i] = squeeze(segments[i])
	}
	last := len(segments) - 1
	if slices.ContainsFunc(segments[:last], func(s string) bool { return slices.Contains(others, s) }) {
		return plain, 0
	}
	if last > 0 {
		if m, ok := byName[segments[last-1]+"."+segments[last]]; ok {
			return m.role, m.rank
		}
		if bare[segments[last]] {
			return plain, 0
		}
	}
	m, ok := byName[segments[last]]
	if !ok {
		m, ok = byName[withoutHeaderPrefix(segments[last])]
		ok = ok && m.role == forwarded
	}
	if !ok || last > 0 && m.role.topOnly() {
		return plain, 0
	}
	return m.role, m.rank
}

// bare are the names that mean a client only where the field around them says
// so, or at the top.
var bare = map[string]bool{"ip": true, "client": true, "remote": true, "peer": true}

// withoutHeaderPrefix cuts the words that servers write before the name of a
// request's header.
func withoutHeaderPrefix(name string) string {
	for _, prefix := range []string{"requestheader", "reqheader", "request", "req", "http", "header", "cs"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return rest
		}
	}
	return name
}

// squeeze returns a name in lower case, with its letters and digits alone.
func squeeze(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return -1
	}, name)
}
