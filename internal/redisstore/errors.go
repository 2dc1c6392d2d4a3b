package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/seed-e56e777b/limiter/internal/exchange"
)

// errNoReply is the error of a command with neither a value nor an error.
var errNoReply = errors.New("no reply")

// explain puts advice in front of an error.
func explain(err error) error {
	if advice := advice(err); advice != "" {
		return fmt.Errorf("%s: %w", advice, err)
	}
	return err
}

// The commands that an ACL user needs, beside the keys.
const (
	aclNeeds        = "+evalsha +eval +time +hmget +hset +hscan +hdel +pexpireat"
	aclNeedsCluster = "+cluster|slots +asking"
)

func advice(err error) string {
	var lookup *net.DNSError
	switch {
	case redis.IsAuthError(err):
		return "redis refuses the login (check user, password and database)"
	case redis.IsPermissionError(err), scriptForbidden(err):
		return "redis forbids a command or key of the limiter (check the user's ACL: ~<prefix>:* " + aclNeeds + ", on a Cluster " + aclNeedsCluster + ")"
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return "redis shows a certificate that is not trusted (check RootCAs and ServerName of the client's TLSConfig)"
	case redis.IsOOMError(err):
		return "redis is out of memory (raise maxmemory)"
	case redis.IsMaxClientsError(err):
		return "redis has no connection left (raise maxclients)"
	case redis.HasErrorPrefix(err, "MISCONF"):
		return "redis refuses writes as it cannot save (check its disk)"
	case redis.IsReadOnlyError(err):
		return "redis is a read-only replica (connect to the primary)"
	case redis.IsNoReplicasError(err):
		return "redis refuses writes without enough replicas (min-replicas-to-write)"
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return "the limiter's key holds something else (delete it, or choose another prefix)"
	case hungUp(err):
		return "the connection was closed (if that goes on: raise maxclients, or it is no Redis)"
	case strings.Contains(err.Error(), "redis: can't parse"):
		return "the server is no Redis (check the address)"
	case errors.As(err, &lookup):
		return "the name of the Redis server is not known (check its address and the name service)"
	}
	return ""
}

// hungUp reports whether the server closed the connection. A Redis with too many
// connections says so before it closes one, but mostly the client's write fails
// before it has read that.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// scriptForbidden reports whether the ACL forbids a command or a key of the
// script. That error has no code of its own, and two texts: one of Redis 7.0, and
// one of Redis 7.2 and Valkey.
func scriptForbidden(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	text := reply.Error()
	return strings.Contains(text, "executing the script can't") || strings.Contains(text, "ACL failure in script")
}

// noScript reports whether the server does not know the script by its hash.
func noScript(err error) bool { return redis.HasErrorPrefix(err, "NOSCRIPT") }

// ofServer reports whether an error is of the connection or the whole server,
// rather than of one command: more calls would fail too.
func ofServer(err error) bool {
	var reply redis.Error
	switch {
	case err == nil, errors.Is(err, exchange.ErrReply), errors.Is(err, errNoReply):
		return false
	case !errors.As(err, &reply):
		return true
	}
	return redis.IsAuthError(err) || redis.IsMaxClientsError(err) || redis.IsLoadingError(err) ||
		redis.IsReadOnlyError(err) || redis.IsMasterDownError(err)
}

// ofTopology reports whether an error may come from an outdated map of slots to
// masters.
func ofTopology(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false
	}
	_, moved := redis.IsMovedError(err)
	_, ask := redis.IsAskError(err)
	return moved || ask || redis.IsClusterDownError(err) || redis.IsTryAgainError(err) || ofServer(err)
}
