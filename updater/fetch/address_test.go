package fetch

import (
	"net/http/httptest"
	"path/filepath"
	"testing"
)

func TestSharePath(t *testing.T) {
	for _, c := range []struct{ host, path, want string }{
		{"server", "/share/repo", `\\server\share\repo`},
		{"server", "/share", `\\server\share`},
		{"10.0.0.7", "/share/a b/c/", `\\10.0.0.7\share\a b\c`},
		{"nas.example.com", "/releases$/x", `\\nas.example.com\releases$\x`},
	} {
		if got, err := sharePath(c.host, c.path); err != nil || got != c.want {
			t.Errorf("%s %s: %q, %v", c.host, c.path, got, err)
		}
	}
	for _, c := range []struct{ host, path string }{
		{"server", ""}, {"server", "/"}, {"server", "/share/../other"}, {"server", "/share/./x"}, {"server", "/share//x"},
		{".", "/pipe/x"}, {"?", "/C:/x"}, {"-x", "/share"}, {"server", "/share/x:stream"}, {"server", `/share/a\b`}, {"server", "/sha?e"}, {"server:445", "/share"},
	} {
		if got, err := sharePath(c.host, c.path); err == nil {
			t.Errorf("%s %s: %q", c.host, c.path, got)
		}
	}
}

// The same addresses on either system: a share opens on Windows, and elsewhere the error says what to do.
func TestAddresses(t *testing.T) {
	windows := filepath.Separator == '\\'
	for _, c := range []struct {
		address string
		windows string // the folder there; "" is refused
		linux   string
	}{
		{"file:///srv/repo", `\srv\repo`, "/srv/repo"},
		{"file://localhost/srv/repo", `\srv\repo`, "/srv/repo"},
		{"file:///C:/repo", `C:\repo`, "/C:/repo"},
		{"file://server/share/repo", `\\server\share\repo`, ""},
		{`\\server\share\repo`, `\\server\share\repo`, ""},
		{"file://server", "", ""}, {"file:repo", "", ""}, {"repo", "", ""}, {"ftp://x/y", "", ""}, {"https:///y", "", ""}, {"", "", ""},
	} {
		want := c.linux
		if windows {
			want = c.windows
		}
		src, err := parse(c.address, Options{})
		if dir, ok := src.(folder); want == "" && err == nil || want != "" && (err != nil || !ok || string(dir) != want) {
			t.Errorf("%q: %v, %v; want the folder %q", c.address, src, err, want)
		}
		if (CheckAddress(c.address) == nil) != (want != "") {
			t.Errorf("%q: checked otherwise", c.address)
		}
	}
	if _, err := Open("https://a", Options{Mirrors: []string{"b"}}); err == nil {
		t.Error("a mirror without an address")
	}
}

// What the environment says of proxies is not asked.
func TestEnvironmentIsNotAsked(t *testing.T) {
	proxy := httptest.NewServer(nil)
	proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	if Transport().Proxy != nil {
		t.Error("a proxy without being told")
	}
}
