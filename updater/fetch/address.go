package fetch

import (
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// CheckAddress returns nil for what Open takes.
func CheckAddress(address string) error {
	_, err := parse(address, Options{})
	return err
}

// parse makes a source of an address.
func parse(address string, o Options) (source, error) {
	if filepath.IsAbs(address) {
		return folder(address), nil
	}
	if strings.HasPrefix(address, `\\`) { // an absolute path on Windows
		return nil, fmt.Errorf("address of the repository %q: shares are named so on Windows only; mount it, and give the absolute path", address)
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("address of the repository: %w", err)
	}
	switch {
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		return newWeb(u, o), nil
	case u.Scheme == "file" && u.Path != "":
		dir, err := filePath(u)
		return folder(dir), err
	}
	return nil, fmt.Errorf("address of the repository %q: give an http:// or https:// URL, file:///PATH, or an absolute path", u.Redacted())
}

// filePath turns a file URL into a path of this system: on Windows file:///C:/repo is C:\repo, and
// file://server/share/repo is \\server\share\repo (RFC 8089, appendix E.3).
func filePath(u *url.URL) (string, error) {
	if u.Host != "" && !strings.EqualFold(u.Host, "localhost") {
		share, err := sharePath(u.Host, u.Path)
		if err == nil && filepath.Separator != '\\' {
			err = fmt.Errorf("address of the repository %q is on another computer: mount it here, and give the absolute path", u.Redacted())
		}
		return share, err
	}
	if trimmed := filepath.FromSlash(strings.TrimPrefix(u.Path, "/")); filepath.VolumeName(trimmed) != "" {
		return trimmed, nil
	}
	return filepath.FromSlash(u.Path), nil
}

// What Windows may be asked for by a file URL. The names of computers and shares that it gives a meaning of their
// own, such as "." and "?", are not among them.
var (
	shareHost = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	sharePart = regexp.MustCompile(`^[^<>:"/\\|?*\x00-\x1f]+$`)
)

// sharePath is the UNC path of a folder on a share.
func sharePath(host, path string) (string, error) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	ok := shareHost.MatchString(host)
	for _, p := range parts {
		ok = ok && sharePart.MatchString(p) && p != "." && p != ".."
	}
	if !ok {
		return "", fmt.Errorf("address of the repository: %q and %q name no folder on a share: write file://server/share/folder", host, path)
	}
	return `\\` + host + `\` + strings.Join(parts, `\`), nil
}
