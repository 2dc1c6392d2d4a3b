package faultmatrix

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// accessFaults returns the faults of a server that refuses commands.
func accessFaults() []*Fault {
	says := func(words string) Want { return Want{Outage: true, Says: words} }
	full := cmd("config", "set", "maxmemory", "1mb")
	return []*Fault{
		{
			Name: "wrong password at start", House: standalone(redisserver.Options{Password: "right"}), Start: true, Lasts: lasting,
			Inject: do(func(h *House) error { h.Job.Password = "wrong"; return nil }),
			Heal:   admin(cmd("config", "set", "requirepass", "wrong")), Want: says("password"),
		},
		{
			Name: "password changed, connections killed", House: standalone(redisserver.Options{Password: "right"}), Lasts: lasting,
			Inject: admin(cmd("config", "set", "requirepass", "new"), killClients),
			Heal:   healPassword, Want: says("password"),
		},
		{
			Name: "ACL user deleted", House: withUser, Lasts: lasting,
			Inject: admin(cmd("acl", "deluser", aclUser)), Heal: allowUser, Want: says("user"),
		},
		{
			Name: "ACL forbids a command (HSET)", House: withUser, Lasts: lasting,
			Inject: admin(cmd("acl", "setuser", aclUser, "-hset")), Heal: allowUser, Want: says("ACL"),
		},
		{
			Name: "ACL forbids EVALSHA", House: withUser, Lasts: lasting,
			Inject: admin(cmd("acl", "setuser", aclUser, "-evalsha")), Heal: allowUser, Want: says("ACL"),
		},
		{
			Name: "ACL forbids the keys", House: withUser, Lasts: lasting,
			Inject: admin(cmd("acl", "setuser", aclUser, "resetkeys", "~other:*")), Heal: allowUser, Want: says("ACL"),
		},
		{Name: "maxclients reached", House: plain, Lasts: lasting, Inject: crowd, Heal: uncrowd, Want: says("maxclients")},
		{
			Name: "OOM under noeviction", House: plain, Lasts: lasting,
			Inject: admin(full), Heal: admin(cmd("config", "set", "maxmemory", "0")), Want: says("maxmemory"),
		},
		{Name: "MISCONF: it can't save", House: plain, Lasts: lasting, Inject: unsavable, Heal: savable, Want: says("disk")},
		{
			Name: "READONLY after REPLICAOF", House: plain, Lasts: lasting,
			Inject: admin(cmd("replicaof", "127.0.0.1", "1")), Heal: admin(cmd("replicaof", "no", "one")), Want: says("replica"),
		},
	}
}

// healPassword logs in with the new password to set the old one.
func healPassword(ctx context.Context, h *House) error {
	conn := h.Admin.Conn()
	defer conn.Close()
	return conn.ConfigSet(ctx, "requirepass", "right").Err()
}

// crowd allows no connection beside the present one.
func crowd(ctx context.Context, h *House) error {
	return admin(cmd("config", "set", "maxclients", "1"), killClients)(ctx, h)
}

func uncrowd(ctx context.Context, h *House) error {
	return admin(cmd("config", "set", "maxclients", "10000"))(ctx, h)
}

// unsavable puts a directory in place of the server's file.
func unsavable(ctx context.Context, h *House) error {
	if err := os.Mkdir(filepath.Join(h.server.Dir(), "dump.rdb"), 0o700); err != nil {
		return err
	}
	if err := admin(cmd("config", "set", "save", "3600 1000000"), cmd("bgsave"))(ctx, h); err != nil {
		return err
	}
	return untilInfo(ctx, h, "persistence", "rdb_last_bgsave_status:err")
}

func savable(ctx context.Context, h *House) error {
	if err := os.Remove(filepath.Join(h.server.Dir(), "dump.rdb")); err != nil {
		return err
	}
	return admin(cmd("save"), cmd("config", "set", "save", ""))(ctx, h)
}

// untilInfo waits until the server's INFO contains a text.
func untilInfo(ctx context.Context, h *House, section, want string) error {
	for range 500 {
		info, err := h.Admin.Info(ctx, section).Result()
		if err != nil {
			return err
		}
		if strings.Contains(info, want) {
			return nil
		}
		pause(ctx, 10*time.Millisecond)
	}
	return errors.New("the server's INFO never contained " + want)
}
