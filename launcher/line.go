package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/turnstone-go/turnstone/launcher/host"
	"github.com/turnstone-go/turnstone/updater/fetch"
)

// proxyFromEnvironment is the value of repository.proxy that means HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
const proxyFromEnvironment = "environment"

// maxPEM bounds the files that are read for the line to the repository: a bundle of all public authorities has
// 250 KiB.
const maxPEM = 4 << 20

// sources are the repository's address and how it is reached. What is wrong with the files for that, which may
// have come about since the launcher was started the last time, stops updates and not the service: then every
// request fails with it.
func (r RepositoryConfig) sources() (address string, o fetch.Options) {
	o = fetch.Options{Mirrors: r.Mirrors, MaxRate: int64(r.MaxRate), Client: &http.Client{}}
	if t, err := r.transport(); err != nil {
		o.Client.Transport = broken{err}
	} else {
		o.Client.Transport = t
	}
	return r.URL, o
}

// broken is a line over which nothing can be asked.
type broken struct{ err error }

func (b broken) RoundTrip(*http.Request) (*http.Response, error) { return nil, b.err }

// transport is the line to web servers.
func (r RepositoryConfig) transport() (*http.Transport, error) {
	t := fetch.Transport()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if r.CA != "" {
		pool, err := readCA(r.CA)
		if err != nil {
			return nil, fmt.Errorf("repository.ca: %w", err)
		}
		t.TLSClientConfig.RootCAs = pool
	}
	if r.ClientCert != "" { // read for every connection, so that a renewed one is used without a restart
		t.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := readPair(r.ClientCert, r.ClientKey)
			if err != nil {
				return nil, fmt.Errorf("repository.client_cert: %w", err)
			}
			return &pair, nil
		}
	}
	proxy, err := r.proxy()
	t.Proxy = proxy
	return t, err
}

// proxy says through whom a request goes; nil is directly.
func (r RepositoryConfig) proxy() (func(*http.Request) (*url.URL, error), error) {
	switch r.Proxy {
	case "":
		return nil, nil
	case proxyFromEnvironment:
		return http.ProxyFromEnvironment, nil
	}
	u, err := url.Parse(r.Proxy)
	if err != nil {
		return nil, fmt.Errorf("repository.proxy: %w", err)
	}
	if r.ProxyLogin != "" {
		if u.User, err = readLogin(r.ProxyLogin); err != nil {
			return nil, fmt.Errorf("repository.proxy_login: %w", err)
		}
	}
	return http.ProxyURL(u), nil
}

// readSmall reads a file that people keep.
func readSmall(name string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxPEM:
		return nil, fmt.Errorf("%s is not a small file", name)
	}
	return os.ReadFile(name)
}

// readCA reads who is believed about web servers, in place of whom the system believes.
func readCA(name string) (*x509.CertPool, error) {
	data, err := readSmall(name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)", name)
	}
	return pool, nil
}

// readPair reads the certificate that this host shows to web servers, and its key.
func readPair(cert, key string) (tls.Certificate, error) {
	certPEM, err := readSmall(cert)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyPEM, err := readSecret(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s and %s: %w", cert, key, err)
	}
	return pair, nil
}

// readSecret reads a file that nobody else may read.
func readSecret(name string) ([]byte, error) {
	if err := host.CheckSecret(name); err != nil {
		return nil, err
	}
	return readSmall(name)
}

// readLogin reads "user:password" and nothing else from the first line of a file.
func readLogin(name string) (*url.Userinfo, error) {
	data, err := readSecret(name)
	if err != nil {
		return nil, err
	}
	user, password, ok := strings.Cut(strings.TrimRight(string(data), "\r\n"), ":")
	if !ok || user == "" || strings.ContainsAny(password, "\r\n") {
		return nil, fmt.Errorf("%s does not hold one line user:password", name)
	}
	return url.UserPassword(user, password), nil
}

// checkLine says what is wrong with the files that the line to the repository needs. Unlike what checkMachine
// finds it keeps nobody from serving.
func (c Config) checkLine() error {
	doc, err := reread(c.File)
	if err != nil {
		return err
	}
	r := c.Repository
	if r.CA != "" {
		if _, err := readCA(r.CA); err != nil {
			doc.bad("repository.ca", "name a file with the certificates of the authority, in PEM form; without the key the system's authorities count", "%v", plainly(err))
		}
	}
	if r.ClientCert != "" {
		if _, err := readPair(r.ClientCert, r.ClientKey); err != nil {
			doc.bad("repository.client_cert", "name the certificate and, as client_key, its own key, both in PEM form, the key readable by the launcher alone", "%v", plainly(err))
		}
	}
	if r.ProxyLogin != "" {
		if _, err := readLogin(r.ProxyLogin); err != nil {
			doc.bad("repository.proxy_login", "name a file with one line user:password, readable by the launcher alone", "%v", plainly(err))
		}
	}
	return doc.err()
}

// plainly says of a file that is missing only that.
func plainly(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not there", path.Path)
	}
	return err
}
