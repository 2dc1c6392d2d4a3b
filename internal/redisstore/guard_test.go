package redisstore

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/longtest"
)

// server is a connection to a server that sends its replies in pieces, and reads nothing.
type server struct {
	net.Conn
	says   []byte
	piece  int
	closed bool
}

func (s *server) Read(p []byte) (int, error) {
	if len(s.says) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.says[:min(s.piece, len(s.says))])
	s.says = s.says[n:]
	return n, nil
}

func (s *server) Write(p []byte) (int, error)      { return len(p), nil }
func (s *server) SetDeadline(time.Time) error      { return nil }
func (s *server) SetReadDeadline(time.Time) error  { return nil }
func (s *server) SetWriteDeadline(time.Time) error { return nil }
func (s *server) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *server) Close() error                     { s.closed = true; return nil }

// readAll returns the bytes that a guarded connection passes on.
func readAll(says string, piece int) (string, error) {
	passed, err := io.ReadAll(guard(&server{says: []byte(says), piece: piece}))
	return string(passed), err
}

// replies is complete replies of servers.
var replies = map[string]string{
	"a simple string": "+OK\r\n",
	"an error":        "-ERR unknown command 'HELLO'\r\n",
	"a number":        ":-42\r\n",
	"null":            "_\r\n",
	"a double":        ",3.25\r\n",
	"a boolean":       "#t\r\n",
	"a big number":    "(3492890328409238509324850943850943825024385\r\n",
	"a string":        "$5\r\nhello\r\n",
	"an empty string": "$0\r\n\r\n",
	"no string":       "$-1\r\n",
	"claims within":   "$19\r\n$9999999999999\r\n*1\r\n\r\n",
	"a blob error":    "!4\r\nEVIL\r\n",
	"a verbatim one":  "=8\r\ntxt:Some\r\n",
	"an array":        "*3\r\n:1\r\n$1\r\na\r\n*1\r\n*0\r\n",
	"no array":        "*-1\r\n",
	"a map":           "%2\r\n+a\r\n:1\r\n+b\r\n%0\r\n",
	"a set":           "~2\r\n+a\r\n+b\r\n",
	"a push":          ">2\r\n+message\r\n$2\r\nhi\r\n",
	"an attribute":    "|1\r\n+ttl\r\n:3600\r\n*1\r\n|0\r\n+a\r\n",
	"deep":            strings.Repeat("*1\r\n", maxDepth) + ":1\r\n",
	"long":            "+" + strings.Repeat("x", maxLine-3) + "\r\n",
	"wide":            "*400000\r\n" + strings.Repeat("_\r\n", 400000),
	"large":           "$" + strconv.Itoa(15<<20) + "\r\n" + strings.Repeat("x", 15<<20) + "\r\n",
}

// claims is replies that no Redis sends to a limiter.
var claims = map[string]string{
	"a string that no memory holds":    "$9999999999999\r\n",
	"a string that no int counts":      "$9999999999999999999999\r\n",
	"a string of the largest int":      "$9223372036854775807\r\n",
	"a string beyond the bound":        "$16777217\r\n",
	"a string at the bound":            "$16777216\r\n", // the line itself counts as well
	"a blob error":                     "!9999999999999\r\n",
	"a verbatim string":                "=9999999999999\r\n",
	"an array":                         "*9999999999\r\n",
	"an array beyond the bound":        "*524288\r\n",
	"a map":                            "%9999999999\r\n",
	"a map beyond the bound":           "%262144\r\n",
	"a set":                            "~9999999999\r\n",
	"a push":                           ">9999999999\r\n",
	"an attribute":                     "|9999999999\r\n",
	"a streamed string":                "$?\r\n",
	"a streamed array":                 "*?\r\n",
	"no length":                        "$\r\n",
	"a negative length":                "$-2\r\n",
	"a negative array":                 "*-9999999999\r\n",
	"a sign":                           "$+5\r\n",
	"zeros":                            "$0000000000000000000005\r\n",
	"a length that a NUL ends":         "$5\x00\r\n",
	"a length without a return":        "$5\n",
	"null and a digit":                 "$-10\n",
	"a length without a line":          "$\n",
	"a line without an end":            "+" + strings.Repeat("x", maxLine) + "\r\n",
	"a length without an end":          "$" + strings.Repeat("0", maxLine) + "\r\n",
	"arrays without an end":            strings.Repeat("*1\r\n", maxDepth+1),
	"attributes without an end":        strings.Repeat("|0\r\n", maxDepth+1),
	"sets in maps":                     strings.Repeat("%1\r\n~2\r\n+a\r\n", maxDepth),
	"large strings, one by one":        "*3\r\n" + strings.Repeat("$8000000\r\n"+strings.Repeat("x", 8000000)+"\r\n", 3),
	"wide arrays within one another":   strings.Repeat("*300000\r\n", 2),
	"wide arrays beside one another":   "*2\r\n" + strings.Repeat("*300000\r\n"+strings.Repeat("_\r\n", 300000), 2),
	"an array of lines of some length": "*999\r\n" + strings.Repeat("+"+strings.Repeat("x", maxLine/2)+"\r\n", 999),
}

// pieces returns the sizes of the pieces of a reply: all sizes for a short one.
func pieces(says string) []int {
	if len(says) > 4096 {
		return longtest.Choose([]int{1000}, []int{1000, len(says)}, []int{1000, len(says)})
	}
	var all []int
	for n := 1; n <= len(says); n++ {
		if n <= longtest.Choose(8, 40, n) || n == len(says) {
			all = append(all, n)
		}
	}
	return all
}

// What servers say passes unchanged, wherever it is cut, and leaves nothing behind.
func TestGuardPassesReplies(t *testing.T) {
	t.Parallel()
	for name, says := range replies {
		for _, piece := range pieces(says) {
			if passed, err := readAll(says, piece); err != nil || passed != says {
				t.Fatalf("%s in pieces of %d: %d of %d bytes, %v", name, piece, len(passed), len(says), err)
			}
		}
		var s stream
		_, err := s.follow([]byte(says))
		require.NoError(t, err, name)
		require.Equal(t, []int{0, 0, 0, 0}, []int{s.payload, s.line, s.depth, s.claimed}, name)
	}
}

// What claims too much ends the connection before its last line has an end, at
// the first reply as after and within others, wherever it is cut.
func TestGuardStopsClaims(t *testing.T) {
	t.Parallel()
	for name, claim := range claims {
		for _, before := range []string{"", replies["an attribute"] + replies["a push"], "*3\r\n$2\r\n\r\n\r\n"} {
			if testing.Short() && before != "" && len(claim) > 1<<20 {
				continue
			}
			says := before + claim
			for _, piece := range pieces(says) {
				passed, err := readAll(says+"+OK\r\n", piece)
				if !errors.Is(err, errClaim) || len(passed) >= len(says) || !strings.HasPrefix(says, passed) {
					t.Fatalf("%s after %q in pieces of %d: %d of %d bytes, %v", name, before, piece, len(passed), len(says), err)
				}
				if len(passed) < len(before) {
					t.Fatalf("%s after %q: %q is lost", name, before, before[len(passed):])
				}
			}
		}
	}
}

func TestGuardEndsTheConnection(t *testing.T) {
	t.Parallel()
	below := &server{says: []byte("$99999999\r\n+OK\r\n"), piece: 100}
	c := guard(below)
	buf := make([]byte, 100)
	for range 3 {
		_, err := c.Read(buf)
		require.ErrorIs(t, err, errClaim)
		require.True(t, below.closed)
	}
}

// go-redis looks at the socket of an idle connection, where there is nothing
// between, to see whether the server has closed it.
func TestGuardShowsTheSocket(t *testing.T) {
	t.Parallel()
	_, seen := guard(&net.TCPConn{}).(syscall.Conn)
	require.True(t, seen)
	_, seen = guard(&tls.Conn{}).(syscall.Conn)
	require.False(t, seen)
}

func TestGuardAllocatesNothing(t *testing.T) {
	says := []byte(replies["an array"] + replies["a map"] + replies["a string"])
	below := &server{piece: 7}
	c, buf := guard(below), make([]byte, 100)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for below.says = says; len(below.says) > 0; {
			_, _ = c.Read(buf)
		}
	}))
}
