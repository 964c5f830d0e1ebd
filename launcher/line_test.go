package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/updater/fetch"
)

// authority is a CA of a company's own.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, file: filepath.Join(t.TempDir(), "ca.pem")}
	a.cert, a.key = a.issue(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	write(t, a.file, toPEM("CERTIFICATE", a.cert.Raw))
	return a
}

// issue signs a certificate, the first one by itself.
func (a *authority) issue(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: "test"}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := c, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// pair writes a client's certificate and key.
func (a *authority) pair(dir string) (cert, key string) {
	a.t.Helper()
	c, k := a.issue(&x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature})
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")
	write(a.t, cert, toPEM("CERTIFICATE", c.Raw))
	writePrivate(a.t, key, toPEM("PRIVATE KEY", der))
	return cert, key
}

func toPEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// server is an https server of this authority that serves one file, to clients with a certificate of the given
// authority if that is not nil.
func (a *authority) server(clients *authority) *httptest.Server {
	a.t.Helper()
	cert, key := a.issue(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "the file") }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
	if clients != nil {
		pool := x509.NewCertPool()
		pool.AddCert(clients.cert)
		s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, pool
	}
	s.Config.ErrorLog = nil
	s.StartTLS()
	a.t.Cleanup(s.Close)
	return s
}

// got fetches the one file over the line that r describes.
func got(t *testing.T, r RepositoryConfig) error {
	t.Helper()
	address, o := r.sources()
	o.Backoff, o.Attempts = time.Millisecond, 1
	repo, err := fetch.Open(address, o)
	if err != nil {
		t.Fatal(err)
	}
	b, err := repo.Get(t.Context(), "x.json", 100)
	if err == nil && string(b) != "the file" {
		t.Errorf("came: %q", b)
	}
	return err
}

func TestLineTrustsTheAuthorityThatIsNamed(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	s := ours.server(nil)
	if err := got(t, RepositoryConfig{URL: s.URL, CA: ours.file}); err != nil {
		t.Errorf("our authority: %v", err)
	}
	var untrusted *tls.CertificateVerificationError
	for _, ca := range []string{"", theirs.file} {
		if err := got(t, RepositoryConfig{URL: s.URL, CA: ca}); !errors.As(err, &untrusted) {
			t.Errorf("authority %q: %v", ca, err)
		}
	}
}

// The certificate is read at each connection: one that was renewed is used at once.
func TestLineShowsItsCertificate(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	s := ours.server(ours)
	dir := t.TempDir()
	cert, key := ours.pair(dir)
	r := RepositoryConfig{URL: s.URL, CA: ours.file, ClientCert: cert, ClientKey: key}
	if err := got(t, r); err != nil {
		t.Errorf("our certificate: %v", err)
	}
	if err := got(t, RepositoryConfig{URL: s.URL, CA: ours.file}); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without one: %v", err)
	}
	theirs.pair(dir)
	if err := got(t, r); err == nil || strings.Contains(err.Error(), "certificate required") {
		t.Errorf("one that the server does not know: %v", err)
	}
	address, o := r.sources()
	o.Backoff = time.Millisecond
	repo, err := fetch.Open(address, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Get(t.Context(), "x.json", 100); err == nil {
		t.Error("theirs was accepted")
	}
	ours.pair(dir) // renewed, under the same line
	if _, err := repo.Get(t.Context(), "x.json", 100); err != nil {
		t.Errorf("renewed: %v", err)
	}
}

// connectProxy is a proxy that tunnels and forwards, for those who say the password if there is one.
type connectProxy struct {
	*httptest.Server
	login string

	mu    sync.Mutex
	asked []string // "CONNECT host:port", "GET http://..."
}

func newConnectProxy(t *testing.T, login string) *connectProxy {
	p := &connectProxy{login: login}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.RequestURI)
	p.mu.Unlock()
	if want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.login)); p.login != "" && r.Header.Get("Proxy-Authorization") != want {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	if r.Method != http.MethodConnect {
		r.RequestURI = ""
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		io.Copy(w, resp.Body)
		return
	}
	far, err := net.Dial("tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer far.Close()
	near, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer near.Close()
	io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { io.Copy(far, near); far.Close() }()
	io.Copy(near, far)
}

func (p *connectProxy) last() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.asked) == 0 {
		return ""
	}
	return p.asked[len(p.asked)-1]
}

func TestLineGoesThroughTheProxy(t *testing.T) {
	ours := newAuthority(t)
	secure := ours.server(nil)
	plain := httptest.NewServer(secure.Config.Handler)
	defer plain.Close()
	proxy := newConnectProxy(t, "")
	if err := got(t, RepositoryConfig{URL: secure.URL, CA: ours.file, Proxy: proxy.URL}); err != nil || proxy.last() != "CONNECT "+strings.TrimPrefix(secure.URL, "https://") {
		t.Errorf("https: %v, asked %q", err, proxy.last())
	}
	if err := got(t, RepositoryConfig{URL: plain.URL, Proxy: proxy.URL}); err != nil || proxy.last() != "GET "+plain.URL+"/x.json" {
		t.Errorf("http: %v, asked %q", err, proxy.last())
	}
	proxy.Close()
	if err := got(t, RepositoryConfig{URL: plain.URL, Proxy: proxy.URL}); err == nil {
		t.Error("went around a proxy that is down")
	}
}

func TestLineSaysItsNameToTheProxy(t *testing.T) {
	ours := newAuthority(t)
	s := ours.server(nil)
	proxy := newConnectProxy(t, "acme:s3cr:et")
	login := filepath.Join(t.TempDir(), "login")
	r := RepositoryConfig{URL: s.URL, CA: ours.file, Proxy: proxy.URL, ProxyLogin: login}
	for text, ok := range map[string]bool{"acme:s3cr:et\n": true, "acme:wrong": false} {
		writePrivate(t, login, text)
		if err := got(t, r); (err == nil) != ok || err != nil && strings.Contains(err.Error(), "wrong") {
			t.Errorf("%q: %v", text, err)
		}
	}
	r.ProxyLogin = ""
	if err := got(t, r); err == nil || !strings.Contains(err.Error(), "Proxy Authentication Required") {
		t.Errorf("nothing: %v", err)
	}
}

// The proxies of the environment are used when that is said, and else not.
func TestLineAndTheEnvironment(t *testing.T) {
	r := RepositoryConfig{Proxy: proxyFromEnvironment}
	if p, err := r.proxy(); err != nil || p == nil {
		t.Errorf("said: %v", err)
	}
	if tr, err := (RepositoryConfig{}).transport(); err != nil || tr.Proxy != nil {
		t.Errorf("not said: %v", err)
	}
}

// Files that are missing or wrong are shown where the configuration names them, and stop updates, not the start.
func TestLineWithBrokenFiles(t *testing.T) {
	ours := newAuthority(t)
	s := ours.server(nil)
	dir := t.TempDir()
	cert, key := ours.pair(dir)
	other := t.TempDir()
	_, otherKey := ours.pair(other)
	text := filepath.Join(dir, "text")
	login := filepath.Join(dir, "login")
	write(t, text, "not PEM")
	writePrivate(t, login, "no colon")
	open, none := filepath.Join(dir, "open.key"), filepath.Join(dir, "none")
	b, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	writeOpen(t, open, string(b))
	for _, c := range []struct{ name, keys, at, text string }{
		{"right", "ca = '" + ours.file + "'\nclient_cert = '" + cert + "'\nclient_key = '" + key + "'", "", ""},
		{"no file", "ca = '" + none + "'", "'" + none + "'", "repository.ca: " + none + " is not there"},
		{"a folder", "ca = '" + dir + "'", "'" + dir + "'", "is not a small file"},
		{"no PEM", "ca = '" + text + "'", "'" + text + "'", "holds no certificate in PEM form"},
		{"key of another", "client_cert = '" + cert + "'\nclient_key = '" + otherKey + "'", "'" + cert + "'", "does not match"},
		{"key that others can read", "client_cert = '" + cert + "'\nclient_key = '" + open + "'", "'" + cert + "'", closeHint(open)},
		{"login", "proxy = 'http://p:1'\nproxy_login = '" + login + "'", "'" + login + "'", "does not hold one line user:password"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "launcher.toml")
			file := "product = 'acme'\n[repository]\nurl = '" + s.URL + "'\nroot = 'root.json'\n" + c.keys + "\n[state]\ndir = 'state'\n[payload]\nuser = 'same'\n"
			write(t, name, file)
			cfg, err := loadConfig(name)
			if err != nil {
				t.Fatal(err)
			}
			err = cfg.checkLine()
			if c.at == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := got(t, cfg.Repository); err != nil {
					t.Errorf("and yet: %v", err)
				}
				return
			}
			checkFault(t, file, err, c.at, c.text, "")
			if err := got(t, cfg.Repository); err == nil || !strings.Contains(err.Error(), "repository.") && c.name != "key of another" && c.name != "key that others can read" {
				t.Errorf("fetched over it: %v", err)
			}
		})
	}
}

func TestRate(t *testing.T) {
	for text, want := range map[string]Rate{"": 0, "1B": 1, "500kB": 500_000, "2MiB": 2 << 20, "1GiB": 1 << 30, "3MB": 3_000_000, "1KiB": 1024, "1GB": 1e9} {
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err != nil || r != want {
			t.Errorf("%q: %d, %v", text, r, err)
		}
		if back, err := r.MarshalText(); err != nil || string(back) != text {
			t.Errorf("%d is printed as %q, %v; want %q", r, back, err, text)
		}
	}
	for _, text := range []string{"1", "B", "-1B", "+1B", "1.5MiB", "1 MiB", "1mib", "1MiB/s", "9999999GiB", "0B", "1kiB", "1BB"} {
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %d", text, r)
		}
	}
}

func FuzzRate(f *testing.F) {
	for _, s := range []string{"1B", "500kB", "2MiB", "1GiB", "x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var r, again Rate
		if r.UnmarshalText(text) != nil {
			return
		}
		printed, err := r.MarshalText()
		if err != nil || again.UnmarshalText(printed) != nil || again != r || len(printed) > 0 && bytes.HasPrefix(printed, []byte("0")) {
			t.Errorf("%q is %d is %q is %d, %v", text, r, printed, again, err)
		}
	})
}

// What the configuration says of mirrors and rate reaches the fetcher.
func TestLineIsMadeOfTheConfiguration(t *testing.T) {
	c, err := parseConfig(conf, []byte(full), false)
	if err != nil {
		t.Fatal(err)
	}
	address, o := c.Repository.sources()
	if address != c.Repository.URL || len(o.Mirrors) != 2 || o.Mirrors[0] != "https://eu.example.com/agent" || o.MaxRate != 1_500_000 {
		t.Errorf("%s with %+v", address, o)
	}
	if c.Repository.CA != native("/etc/acme/ca.pem") || c.Repository.ClientCert != native("/etc/acme/client.pem") || c.Repository.ClientKey != native("/etc/acme/client.key") || c.Repository.ProxyLogin != native("/etc/acme/proxy.login") {
		t.Errorf("files: %+v", c.Repository)
	}
	c, err = parseConfig(native("/etc/acme/launcher.toml"), []byte(strings.Replace(full, native(`"/etc/acme/ca.pem"`), `"ca.pem"`, 1)), false)
	if err != nil || c.Repository.CA != path("/etc/acme/ca.pem") {
		t.Errorf("beside the configuration: %s, %v", c.Repository.CA, err)
	}
}
