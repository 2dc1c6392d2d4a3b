package suite_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-e56e777b/limiter"
	"github.com/seed-e56e777b/limiter/internal/servertest"
	"github.com/seed-e56e777b/limiter/internal/servertest/redisserver"
)

// authority issues certificates.
type authority struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	tmpl := template("authority")
	tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign
	a.cert, a.key = a.sign(tmpl, nil, nil)
	a.write("ca.pem", "CERTIFICATE", a.cert.Raw)
	return a
}

func template(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// sign makes a certificate, signed by a parent, or by itself.
func (a *authority) sign(tmpl, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	if parent == nil {
		parent, by = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, by)
	require.NoError(a.t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(a.t, err)
	return cert, key
}

func (a *authority) write(name, kind string, der []byte) string {
	path := filepath.Join(a.dir, name)
	require.NoError(a.t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

// issue returns a certificate and its key, as files and as one.
func (a *authority) issue(name string) (certFile, keyFile string, pair tls.Certificate) {
	cert, key := a.sign(template(name), a.cert, a.key)
	der, err := x509.MarshalECPrivateKey(key)
	require.NoError(a.t, err)
	certFile = a.write(name+".pem", "CERTIFICATE", cert.Raw)
	keyFile = a.write(name+".key", "EC PRIVATE KEY", der)
	return certFile, keyFile, tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// trust is a client's configuration that trusts the authority.
func (a *authority) trust(own ...tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &tls.Config{RootCAs: roots, Certificates: own}
}

// TestTLS: a Redis with TLS and client certificates works like any other. With wrong
// certificates, decisions go on, and the status has the reason.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	certFile, keyFile, _ := ca.issue("server")
	_, _, own := ca.issue("client")
	s := servertest.Server(t, redisserver.Options{TLS: &redisserver.TLS{
		CertFile: certFile, KeyFile: keyFile, CAFile: filepath.Join(ca.dir, "ca.pem"), Client: ca.trust(own),
	}})
	connect := func(config *tls.Config) *limiter.Limiter {
		o := tuned(s.Addr())
		o.TLSConfig = config
		return start(t, o, limiter.Config{Limit: slow, Processes: 2})
	}
	a, b := connect(ca.trust(own)), connect(ca.trust(own))
	eventually(t, "synced over TLS", func() bool { return synced(a)() && synced(b)() })
	require.True(t, a.AllowN("k", 60))
	exchanged(t, a)
	b.AllowN("k", 0)
	b.AllowN("k", 1)
	exchanged(t, b)
	require.Equal(t, 39, seen(b, "k"))

	for name, tc := range map[string]struct {
		config *tls.Config
		says   string
	}{
		"a certificate of somebody else": {newAuthority(t).trust(own), "not trusted"},
		"none of its own":                {ca.trust(), "certificate required"},
		"the name of somebody else":      {withName(ca.trust(own), "redis.example"), "not trusted"},
		"no TLS":                         {nil, ""},
	} {
		l := connect(tc.config)
		fails(t, name, tc.says, func() error { return l.Status().Err })
		require.Equal(t, limiter.Connecting, l.Status().State, name)
		require.True(t, l.Allow("k"), name)
	}

	require.NoError(t, s.Kill())
	eventually(t, "degraded", func() bool { return a.Status().State == limiter.Degraded })
	require.NoError(t, s.Restart(false))
	eventually(t, "synced again", synced(a))
}

func withName(c *tls.Config, name string) *tls.Config {
	c.ServerName = name
	return c
}

// TestClientFromURLSpeaksTLS: a rediss:// URL trusts the system's authorities alone, unless
// it says skip_verify.
func TestClientFromURLSpeaksTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	certFile, keyFile, _ := ca.issue("server")
	s := servertest.Server(t, redisserver.Options{TLS: &redisserver.TLS{CertFile: certFile, KeyFile: keyFile, Client: ca.trust()}})
	sync := func(query string) error {
		client, err := limiter.ClientFromURL("rediss://" + s.Addr() + query)
		require.NoError(t, err)
		defer client.Close()
		l, err := limiter.New(limiter.Config{Limit: limiter.Per(1, time.Second), Redis: client, Processes: 1})
		require.NoError(t, err)
		defer l.Close()
		return l.Sync(t.Context())
	}
	eventually(t, "an exchange without verification", func() bool { return sync("?skip_verify=true") == nil })
	fails(t, "a server of an unknown authority", "certificate signed by unknown authority", func() error { return sync("") })
}
