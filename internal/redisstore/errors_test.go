package redisstore

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// errorOf returns the error of a reply.
func errorOf(t *testing.T, reply string) error {
	t.Helper()
	client := foreign(t, "-"+reply+"\r\n")
	err := client.rdb.Ping(t.Context()).Err()
	require.ErrorContains(t, err, reply)
	return err
}

// TestErrorsSayWhatToDo: an error that an operator can fix has advice, and can still be
// matched.
func TestErrorsSayWhatToDo(t *testing.T) {
	for _, c := range []struct {
		err  error
		says string
	}{
		{errorOf(t, "WRONGPASS invalid username-password pair or user is disabled."), "password"},
		{errorOf(t, "NOAUTH Authentication required."), "password"},
		{errorOf(t, "NOPERM this user has no permissions to run the 'evalsha' command"), "~<prefix>:* +evalsha"},
		{errorOf(t, "ERR The user executing the script can't run this command or subcommand script: 1, on @user_script:1."), "+pexpireat"},
		{errorOf(t, "ERR ACL failure in script: User limiter has no permissions to run the 'pexpireat' command script: 1, on @user_script:1."), "+pexpireat"},
		{errorOf(t, "ERR ACL failure in script: User limiter has no permissions to access the 'limiter:2:fleet:{f}' key"), "~<prefix>:*"},
		{errorOf(t, "OOM command not allowed when used memory > 'maxmemory'."), "maxmemory"},
		{errorOf(t, "ERR max number of clients reached"), "maxclients"},
		{errorOf(t, "MISCONF Redis is configured to save RDB snapshots"), "disk"},
		{errorOf(t, "READONLY You can't write against a read only replica."), "primary"},
		{errorOf(t, "NOREPLICAS Not enough good replicas to write."), "min-replicas-to-write"},
		{errorOf(t, "WRONGTYPE Operation against a key holding the wrong kind of value"), "delete it"},
		{errors.New(`redis: can't parse map reply: "HTTP/1.1 400 Bad Request"`), "no Redis"},
		{io.EOF, "maxclients"},
		{&net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", syscall.EPIPE)}, "maxclients"},
		{&net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, "maxclients"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "redis.test"}}, "name service"},
	} {
		got := explain(fmt.Errorf("wrapped: %w", c.err))
		if !strings.Contains(got.Error(), c.says) || !strings.HasSuffix(got.Error(), c.err.Error()) || !errors.Is(got, c.err) {
			t.Errorf("explain(%q) = %q, want %q in it and the error at its end", c.err, got, c.says)
		}
	}
}

// TestPlainErrorsStay: where there is nothing to advise, the error says it all.
func TestPlainErrorsStay(t *testing.T) {
	for _, err := range []error{
		&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
		errorOf(t, "LOADING Redis is loading the dataset in memory"),
		errorOf(t, "BUSY Redis is busy running a script."),
		os.ErrDeadlineExceeded, errNoReply,
	} {
		if got := explain(err); got.Error() != err.Error() {
			t.Errorf("explain(%q) = %q", err, got)
		}
	}
}
