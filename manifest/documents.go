package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Schema is the number of the document formats that this package reads and writes.
const Schema = 1

// AllHosts is the share of an offer that is meant for every host: shares are counted in basis points.
const AllHosts = 10000

// Channel says which releases a host of one channel should run. It is the target CHANNEL/channel.json,
// signed by that channel's role.
type Channel struct {
	Schema   int       `json:"schema"`
	Product  string    `json:"product"`
	Name     string    `json:"channel"`
	MinEpoch uint64    `json:"min_epoch"` // nothing below is newly chosen
	SignedAt time.Time `json:"signed_at"` // UTC, whole seconds
	Offers   []Offer   `json:"offers"`    // by epoch, newest first
}

// Offer is one release in a channel.
type Offer struct {
	Version string `json:"version"`
	Epoch   uint64 `json:"epoch"`
	Share   int    `json:"share"`            // of the hosts, in basis points: 0 to AllHosts
	Yanked  string `json:"yanked,omitempty"` // why it was taken back; "" is offered
}

// Release describes one immutable version. It is the target CHANNEL/VERSION.json in each channel that
// carries it, with the same bytes in each, so promoting copies it.
type Release struct {
	Schema    int        `json:"schema"`
	Product   string     `json:"product"`
	Version   string     `json:"version"`
	Epoch     uint64     `json:"epoch"` // grows with every release of the product
	Notes     string     `json:"notes"`
	Protocol  Protocol   `json:"protocol"`
	Artifacts []Artifact `json:"artifacts"` // by os, then arch; one for each platform
}

// Protocol is the range of launcher protocols that a release works with.
type Protocol struct {
	Min int `json:"min"`
	Max int `json:"max"`
}

// Artifact is the executable of a release for one platform, or an archive with it. Its bytes are at HashPath(SHA256).
type Artifact struct {
	OS        string `json:"os"`   // as GOOS
	Arch      string `json:"arch"` // as GOARCH
	Name      string `json:"name"` // base name of the file on the host
	SizeBytes int64  `json:"size_bytes"`
	SHA256    string `json:"sha256"`  // 64 lower-case hex digits
	Minisig   string `json:"minisig"` // the minisign signature file, whole

	Patches []Patch `json:"patches,omitempty"` // by From; a client may use one instead of the file

	// Of an archive, which is unpacked on the host; absent for a program that is one file.
	Format        string `json:"format,omitempty"`         // tar.gz, tar.zst or zip
	Main          string `json:"main,omitempty"`           // path of the program in it, with slashes
	UnpackedBytes int64  `json:"unpacked_bytes,omitempty"` // of all files in it together
}

// Trust names the minisign public keys whose signatures on artifacts count, two during a rotation. It is
// the target trust.json, signed by the top-level targets role.
type Trust struct {
	Schema   int      `json:"schema"`
	Product  string   `json:"product"`
	Minisign []string `json:"minisign"` // as in the second line of minisign.pub
}

// ParseChannel reads a channel document. It refuses with ErrDocument whatever Bytes would not have
// printed: an unknown or repeated key, data after the end, another order or spacing.
func ParseChannel(data []byte) (Channel, error) {
	var c Channel
	err := parse("channel document", data, &c, func() ([]byte, error) { return c.Bytes(), c.Check() })
	return c, err
}

// ParseRelease reads a release document as strictly as ParseChannel.
func ParseRelease(data []byte) (Release, error) {
	var r Release
	err := parse("release document", data, &r, func() ([]byte, error) { return r.Bytes(), r.Check() })
	return r, err
}

// ParseTrust reads a trust document as strictly as ParseChannel.
func ParseTrust(data []byte) (Trust, error) {
	var t Trust
	err := parse("trust document", data, &t, func() ([]byte, error) { return t.Bytes(), t.Check() })
	return t, err
}

// Bytes prints the document in its only accepted spelling.
func (c Channel) Bytes() []byte {
	if c.Offers == nil {
		c.Offers = []Offer{}
	}
	return printJSON(c)
}

// Bytes prints the document in its only accepted spelling.
func (r Release) Bytes() []byte {
	if r.Artifacts == nil {
		r.Artifacts = []Artifact{}
	}
	return printJSON(r)
}

// Bytes prints the document in its only accepted spelling.
func (t Trust) Bytes() []byte {
	if t.Minisign == nil {
		t.Minisign = []string{}
	}
	return printJSON(t)
}

// Offer returns the channel's offer of a version, yanked or not.
func (c Channel) Offer(version string) (Offer, bool) {
	for _, o := range c.Offers {
		if o.Version == version {
			return o, true
		}
	}
	return Offer{}, false
}

// Artifact returns the artifact for a platform.
func (r Release) Artifact(os, arch string) (Artifact, bool) {
	for _, a := range r.Artifacts {
		if a.OS == os && a.Arch == arch {
			return a, true
		}
	}
	return Artifact{}, false
}

// HashPath returns the repository name of the artifact with the given sha256.
func HashPath(sha256 string) string { return "artifacts/" + sha256 }

// parse decodes data into doc and compares what doc prints with data. The comparison is the strict part:
// it needs no list of the ways in which two texts can mean the same. The decoder's own errors come first
// because they say more.
func parse(what string, data []byte, doc any, reprint func() ([]byte, error)) error {
	if len(data) > maxDocumentBytes {
		return fmt.Errorf("%s: %w: %d bytes, at most %d allowed", what, ErrDocument, len(data), maxDocumentBytes)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(doc); err != nil {
		return fmt.Errorf("%s: %w: %v", what, ErrDocument, err)
	}
	printed, err := reprint()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if !bytes.Equal(printed, data) {
		return fmt.Errorf("%s: %w: not in canonical form", what, ErrDocument)
	}
	return nil
}

func printJSON(doc any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(doc); err != nil {
		// Only a time outside the years 0 to 9999 gets here; Check refuses it, and no text parses to it.
		return nil
	}
	return b.Bytes()
}
