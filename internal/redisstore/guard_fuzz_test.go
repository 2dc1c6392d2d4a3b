package redisstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// plain reads replies as go-redis does, one after the other, by recursion, and
// notes the most that one claims. It is the guard's plain twin.
type plain struct {
	in      *bytes.Buffer
	claimed int
}

var errPlain = errors.New("no reply")

func (p *plain) line() (string, error) {
	line, err := p.in.ReadString('\n')
	p.claimed += len(line)
	if len(line) > maxLine || p.claimed > maxReply {
		return "", errPlain
	}
	return line, err
}

func (p *plain) value(depth int) error {
	line, err := p.line()
	if err != nil {
		return err
	}
	if !strings.ContainsRune("$=!*~>%|", rune(line[0])) {
		return nil
	}
	text, whole := strings.CutSuffix(line[1:], "\r\n")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || !whole || len(line) > maxHead || n > maxReply || text[0] == '+' || text[0] == '-' && text != "-1" {
		return errPlain
	}
	switch line[0] {
	case '$', '=', '!':
		return p.payload(int(n))
	case '%':
		return p.values(2*int(n), depth)
	case '|':
		if n >= 0 {
			n = 2*n + 1
		}
	}
	return p.values(int(n), depth)
}

func (p *plain) payload(n int) error {
	if n < 0 {
		return nil
	}
	p.claimed += n + 2
	if p.claimed > maxReply {
		return errPlain
	}
	if len(p.in.Next(n+2)) < n+2 {
		return io.EOF
	}
	return nil
}

func (p *plain) values(n, depth int) error {
	if n <= 0 {
		return nil
	}
	p.claimed += n * perValue
	if p.claimed > maxReply || depth == maxDepth {
		return errPlain
	}
	for range n {
		if err := p.value(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

// followable says whether the plain reader reads to the end of a stream.
func followable(says string) bool {
	p := &plain{in: bytes.NewBufferString(says)}
	for {
		p.claimed = 0
		if err := p.value(0); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// FuzzGuard: the guard passes any reply, cut anywhere, unchanged or up to the same byte.
// It ends exactly the replies that a plain reader can't read within the bounds.
func FuzzGuard(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, says string, piece int) {
		whole, err := readAll(says, len(says)+1)
		if !strings.HasPrefix(says, whole) || (err == nil) != (whole == says) {
			t.Errorf("passed %q of %q: %v", whole, says, err)
		}
		pieces, inPieces := readAll(says, 1+max(0, piece%64))
		if pieces != whole || (inPieces == nil) != (err == nil) {
			t.Errorf("%q in pieces: %q, %v", says, pieces, inPieces)
		}
		if followable(says) != (err == nil) {
			t.Errorf("%q: %v", says, err)
		}
		if !followable(whole) {
			t.Errorf("passed %q of %q", whole, says)
		}
	})
}

// FuzzGuardedClient: go-redis reads every reply that passes the guard without a panic.
func FuzzGuardedClient(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, says string, piece int) {
		read(t, says, 1+max(0, piece%64), 2)
		read(t, says, 1+max(0, piece%64), 3)
	})
}

func seed(f *testing.F) {
	for _, table := range []map[string]string{replies, claims} {
		for _, says := range table {
			if len(says) < 4096 {
				f.Add(says, 1)
				f.Add("*2\r\n"+says+says, 3)
			}
		}
	}
}

// read makes go-redis read the replies of a server, from the first one on.
func read(t *testing.T, says string, piece, protocol int) {
	rdb := redis.NewClient(&redis.Options{
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			return guard(&server{says: []byte(says), piece: piece}), nil
		},
		Protocol: protocol, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true,
	})
	defer rdb.Close()
	_ = rdb.Do(t.Context(), "ping").Err()
}
