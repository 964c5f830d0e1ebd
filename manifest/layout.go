package manifest

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// target is a document as its role signs it.
type target struct {
	path      string
	sizeBytes int64
	sha256    string
}

// newTarget reads a signed target entry. One digest algorithm is the rule: with two, which one makes the
// file's name would be a matter of map order.
func newTarget(path string, f *metadata.TargetFiles) (target, error) {
	if err := checkPath(path); err != nil {
		return target{}, err
	}
	if f == nil {
		return target{}, fmt.Errorf("%s: %w: not signed", path, ErrDocument)
	}
	sum := f.Hashes["sha256"]
	if len(f.Hashes) != 1 || len(sum) != 32 {
		return target{}, fmt.Errorf("%s: %w", path, ErrHash)
	}
	if f.Length < 1 || f.Length > maxDocumentBytes {
		return target{}, fmt.Errorf("%s: %w: %d bytes, 1 to %d allowed", path, ErrDocument, f.Length, maxDocumentBytes)
	}
	return target{path, f.Length, hex.EncodeToString(sum)}, nil
}

func (t target) name() string { return targetName(t.path, t.sha256) }

func (t target) check(data []byte) error {
	if int64(len(data)) != t.sizeBytes || digestOf(data) != t.sha256 {
		return fmt.Errorf("%s: %w", t.path, ErrMismatch)
	}
	return nil
}

// channelPaths is the pattern that scopes a channel's role. go-tuf matches it part by part.
func channelPaths(channel string) string { return channel + "/*" }

// checkDelegations holds the top-level targets role to the one layout that this package makes: flat, one
// role for each channel, each scoped to its own folder, each named once. With a second delegator for a
// role name, which keys count would depend on the order in which a client walks (go-tuf issue 759).
func checkDelegations(t *metadata.TargetsType) error {
	d := t.Delegations
	if d == nil || d.SuccinctRoles != nil || len(d.Roles) > maxChannels {
		return fmt.Errorf("targets: %w: 1 to %d channels expected", ErrDelegation, maxChannels)
	}
	seen := map[string]bool{}
	for _, r := range d.Roles {
		if err := CheckName(r.Name); err != nil {
			return fmt.Errorf("targets: %w: %v", ErrDelegation, err)
		}
		if seen[r.Name] {
			return fmt.Errorf("targets: %w: %s is delegated twice", ErrDelegation, r.Name)
		}
		seen[r.Name] = true
		if !r.Terminating || len(r.PathHashPrefixes) > 0 || len(r.Paths) != 1 || r.Paths[0] != channelPaths(r.Name) {
			return fmt.Errorf("targets: %w: %s must be terminating and limited to %s", ErrDelegation, r.Name, channelPaths(r.Name))
		}
	}
	for path, f := range t.Targets {
		if _, err := newTarget(path, f); err != nil {
			return fmt.Errorf("targets: %w", err)
		}
		// TUF asks the delegator first, so such a target would overrule the channel.
		if folder, _, _ := strings.Cut(path, "/"); seen[folder] {
			return fmt.Errorf("targets: %w: %q belongs to channel %s", ErrPath, path, folder)
		}
	}
	return nil
}

// checkChannelTargets holds a channel's role to its folder and keeps it from delegating.
func checkChannelTargets(channel string, t *metadata.TargetsType) error {
	if t.Delegations != nil {
		return fmt.Errorf("%s: %w: only targets delegates", channel, ErrDelegation)
	}
	for path, f := range t.Targets {
		if _, err := newTarget(path, f); err != nil {
			return fmt.Errorf("%s: %w", channel, err)
		}
		if base, ok := strings.CutPrefix(path, channel+"/"); !ok || strings.Contains(base, "/") {
			return fmt.Errorf("%s: %w: %q is outside the channel's folder", channel, ErrPath, path)
		}
	}
	return nil
}

// openTrust, openChannel and openRelease read a document and hold it to what it must be about.

func openTrust(data []byte, product string) (Trust, error) {
	t, err := ParseTrust(data)
	if err != nil {
		return Trust{}, err
	}
	return t, checkProduct(t.Product, product)
}

func openChannel(data []byte, product, channel string) (Channel, error) {
	c, err := ParseChannel(data)
	if err != nil {
		return Channel{}, err
	}
	if c.Name != channel {
		return Channel{}, fmt.Errorf("channel document: %w: %s, expected %s", ErrWrongChannel, c.Name, channel)
	}
	return c, checkProduct(c.Product, product)
}

func openRelease(data []byte, product, version string) (Release, error) {
	r, err := ParseRelease(data)
	if err != nil {
		return Release{}, err
	}
	if r.Version != version {
		return Release{}, fmt.Errorf("release document: %w: %s, expected %s", ErrWrongVersion, r.Version, version)
	}
	return r, checkProduct(r.Product, product)
}

func checkProduct(got, want string) error {
	if got != want {
		return fmt.Errorf("%w: %s, expected %s", ErrWrongProduct, got, want)
	}
	return nil
}

// recovered turns a panic of a parser into a refusal: go-tuf has had panics on malformed metadata before
// any signature was checked (GHSA-846p-jg2w-w324), and the launcher must outlive the next one.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: panic while reading it: %v", ErrDocument, r)
	}
}
