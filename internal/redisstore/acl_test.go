package redisstore

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter/internal/exchange"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// The rights that docs/design.md §11 documents.
var (
	aclNode    = strings.Fields("reset on >pw ~limiter:* +evalsha +eval +time +hmget +hset +hscan +hdel +pexpireat")
	aclCluster = append(slices.Clone(aclNode), "+cluster|slots", "+asking")
	// Sentinels have users of their own, without keys.
	aclSentinel = strings.Fields("reset on >pw &+switch-master &+replica-reconf-done +subscribe" +
		" +ping +sentinel|get-master-addr-by-name +sentinel|sentinels")
)

// grantTo makes a user "limiter" on every server.
func grantTo(t testing.TB, rules []string, servers ...*redisserver.Server) {
	t.Helper()
	for _, s := range servers {
		rdb := s.Client()
		closeLater(t, rdb)
		args := []any{"acl", "setuser", "limiter"}
		for _, r := range rules {
			args = append(args, r)
		}
		require.NoError(t, rdb.Do(t.Context(), args...).Err())
	}
}

// denials returns the commands that servers have refused to the user.
func denials(t testing.TB, servers ...*redisserver.Server) (all []string) {
	t.Helper()
	for _, s := range servers {
		rdb := s.Client()
		closeLater(t, rdb)
		log, err := rdb.Do(t.Context(), "acl", "log").Slice()
		require.NoError(t, err)
		for _, entry := range log {
			all = append(all, fmt.Sprint(entry))
		}
	}
	return all
}

// everyCall makes each call that there is, as a limiter does from its start to its end.
func everyCall(t testing.TB, c *Client) {
	t.Helper()
	require.NoError(t, try(t.Context(), c, 1))
	last := charge(id(1, 0), 2, 5)
	last.Leave = true
	one(t, c, last)
	callFleet(t, c, exchange.FleetCall{Process: [8]byte{1}, Leave: true})
}

func asLimiter(o *redis.UniversalOptions) *redis.UniversalOptions {
	o.Username, o.Password = "limiter", "pw"
	return o
}

func TestDocumentedACLSuffices(t *testing.T) {
	t.Parallel()
	server, _ := newReal(t, redisserver.Options{})
	grantTo(t, aclNode, server)
	client := New(tuned(t, asLimiter(&redis.UniversalOptions{Addrs: []string{server.Addr()}})), "limiter")
	everyCall(t, client)
	require.Empty(t, denials(t, server))

	require.ErrorContains(t, allFail(t, New(client.rdb, "elsewhere"), 1), "check the user's ACL")
	rdb := server.Client()
	closeLater(t, rdb)
	require.NoError(t, rdb.Do(t.Context(), "acl", "setuser", "limiter", "-hset").Err())
	c := charge(id(2, 0), 1, 5)
	client.Exchange(t.Context(), nil, []*exchange.Chunk{c})
	require.ErrorContains(t, c.Err, "check the user's ACL")
}

// No right is documented that the scripts could do without.
func TestDocumentedACLIsMinimal(t *testing.T) {
	t.Parallel()
	for i, right := range aclNode {
		if right[0] != '+' {
			continue
		}
		server, _ := newReal(t, redisserver.Options{})
		grantTo(t, slices.Delete(slices.Clone(aclNode), i, i+1), server)
		client := New(tuned(t, asLimiter(&redis.UniversalOptions{Addrs: []string{server.Addr()}})), "limiter")
		err := try(t.Context(), client, 1)
		last := charge(id(1, 0), 2, 5)
		last.Leave = true
		client.Exchange(t.Context(), &exchange.FleetCall{Process: [8]byte{1}, Leave: true}, []*exchange.Chunk{last})
		if err == nil && last.Err == nil {
			t.Errorf("%s is not needed", right)
		}
	}
}

// A slot on its way from one master to another is reached by way of ASK.
func TestDocumentedACLSufficesOnACluster(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs without -short, where only TestCluster starts a Cluster")
	}
	cluster := servertest.Cluster(t)
	grantTo(t, aclCluster, cluster.Nodes...)
	client := New(tuned(t, asLimiter(&redis.UniversalOptions{Addrs: cluster.Addrs()})), "limiter")
	everyCall(t, client)
	migrating(t, cluster, client.names[0])
	one(t, client, chunk(id(7, 0), 1, exchange.Record{Field: "kx", Delta: 5}))
	require.Empty(t, denials(t, cluster.Nodes...))

	grantTo(t, append(slices.Clone(aclNode), "+cluster|slots"), cluster.Nodes...)
	c := charge(id(8, 0), 1, 5)
	client.Exchange(within(t, time.Second), nil, []*exchange.Chunk{c})
	require.Error(t, c.Err, "a slot under way needs +asking")
	grantTo(t, append(slices.Clone(aclNode), "+asking"), cluster.Nodes...)
	require.Error(t, try(within(t, time.Second), New(tuned(t, asLimiter(&redis.UniversalOptions{Addrs: cluster.Addrs()})), "limiter"), 9))
}

// migrating begins to move the slot of a key, which its new master holds already.
func migrating(t testing.TB, cluster *redisserver.Cluster, key string) {
	t.Helper()
	ctx := t.Context()
	slot := int(crc16([]byte(key[strings.Index(key, "{")+1:strings.Index(key, "}")])) % slots)
	from, to := cluster.Nodes[slot*3/slots], cluster.Nodes[(slot*3/slots+1)%3]
	a, b := from.Client(), to.Client()
	closeLater(t, a)
	closeLater(t, b)
	fromID, err := a.Do(ctx, "cluster", "myid").Text()
	require.NoError(t, err)
	toID, err := b.Do(ctx, "cluster", "myid").Text()
	require.NoError(t, err)
	require.NoError(t, b.Do(ctx, "cluster", "setslot", slot, "importing", fromID).Err())
	require.NoError(t, a.Do(ctx, "cluster", "setslot", slot, "migrating", toID).Err())
	require.NoError(t, a.Migrate(ctx, "127.0.0.1", fmt.Sprint(to.Port()), key, 0, time.Second).Err())
}

// Behind Sentinels: the data nodes have one user, the Sentinels another.
func TestDocumentedACLSufficesWithSentinels(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs without -short, where only TestSentinel starts Sentinels")
	}
	s := servertest.SentinelWith(t, redisserver.Options{Password: "data", Sentinel: "watch"})
	data := []*redisserver.Server{s.Primary, s.Replica}
	grantTo(t, aclNode, data...)
	grantTo(t, aclSentinel, s.Sentinels...)
	for name, login := range map[string][2]string{"a user": {"limiter", "pw"}, "the password": {"", "watch"}} {
		o := asLimiter(&redis.UniversalOptions{Addrs: s.Addrs(), MasterName: redisserver.MasterName})
		o.SentinelUsername, o.SentinelPassword = login[0], login[1]
		require.NoError(t, try(t.Context(), New(tuned(t, o), "limiter"), 1), name)
	}
	o := asLimiter(&redis.UniversalOptions{Addrs: s.Addrs(), MasterName: redisserver.MasterName, SentinelPassword: "wrong"})
	require.Error(t, try(within(t, 3*time.Second), New(tuned(t, o), "limiter"), 2))

	o = asLimiter(&redis.UniversalOptions{Addrs: s.Addrs(), MasterName: redisserver.MasterName})
	o.SentinelUsername, o.SentinelPassword = "limiter", "pw"
	client := New(tuned(t, o), "limiter")
	everyCall(t, client)
	require.Empty(t, refused(denials(t, append(data, s.Sentinels...)...)))
	require.NoError(t, s.Primary.Kill())
	require.Eventually(t, func() bool { return try(within(t, time.Second), client, 3) == nil },
		30*time.Second, 100*time.Millisecond)
	require.Empty(t, refused(denials(t, append(s.Sentinels, s.Replica)...)))
}

// refused are the denials of commands, keys and channels: failed logins are on purpose here.
func refused(denials []string) []string {
	return slices.DeleteFunc(denials, func(d string) bool { return strings.Contains(d, "reason:auth") })
}
