package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
)

// The bounds of a product file.
const (
	productFile  = "product.toml"
	productLimit = 64 << 10
	maxChannels  = 16
	artifactRole = "artifact" // names the key of no TUF role
)

// product is product.toml: what a person may set. Everything else is in the signed metadata.
type product struct {
	Schema   int      `toml:"schema"`
	Name     string   `toml:"product" comment:"the name that every signed document of this product carries"`
	Channels []string `toml:"channels" comment:"the first one is where 'release add' puts a version"`
	Expiry   expiry   `toml:"expiry" comment:"How long a signature is good for. A host that sees only expired metadata stops updating, never serving.\npublish renews what is past half of its time, so run it more often than half of timestamp."`
	// Keys come last, as TOML wants its tables.
	Keys []keyEntry `toml:"key" comment:"What the keys are called. Which of them count stands in the signed metadata. A key without a file in keys/ may have\na command that signs with it: signer = 'exec:COMMAND ARGS'. This list is kept by 'release keys' and 'release channel'."`
}

type expiry struct {
	Root      string `toml:"root"`
	Targets   string `toml:"targets"`
	Channel   string `toml:"channel"`
	Snapshot  string `toml:"snapshot"`
	Timestamp string `toml:"timestamp"`
}

func newProduct(name string, channels []string) product {
	return product{Schema: 1, Name: name, Channels: channels,
		Expiry: expiry{Root: lifetime(manifest.RoleRoot), Targets: lifetime(manifest.RoleTargets), Channel: lifetime(""),
			Snapshot: lifetime(manifest.RoleSnapshot), Timestamp: lifetime(manifest.RoleTimestamp)}}
}

// lifetime is the default of a role in the way that the product file writes it; "" is any channel.
func lifetime(role string) string {
	return fmt.Sprintf("%dh", int(manifest.DefaultLifetime(role).Hours()))
}

// check refuses what could not be a product, with what to change.
func (p product) check() error {
	if p.Schema != 1 {
		return usage("%s: schema is %d: this program knows 1 only, use a newer one", productFile, p.Schema)
	}
	if err := manifest.CheckName(p.Name); err != nil {
		return misgiven("product: ", err)
	}
	if len(p.Channels) == 0 || len(p.Channels) > maxChannels {
		return usage("%s: a product has 1 to %d channels", productFile, maxChannels)
	}
	for i, c := range p.Channels {
		if err := manifest.CheckName(c); err != nil {
			return misgiven("channel: ", err)
		}
		if c == artifactRole {
			return usage("channel %q: its key file would be the one that signs artifacts, choose another name", c)
		}
		if slices.Contains(p.Channels[:i], c) {
			return usage("channel %q is there twice", c)
		}
	}
	for _, c := range p.Channels {
		if base := keyNameRule.FindStringSubmatch(c)[1]; base != c && slices.Contains(append(p.roles(), artifactRole), base) {
			return usage("channel %q: its key file would be the second one of %s, choose another name", c, base)
		}
	}
	if _, err := p.lifetimes(); err != nil {
		return err
	}
	return checkKeys(p)
}

// lifetimes is the expiry of each role.
func (p product) lifetimes() (map[string]time.Duration, error) {
	all := map[string]string{manifest.RoleRoot: p.Expiry.Root, manifest.RoleTargets: p.Expiry.Targets,
		manifest.RoleSnapshot: p.Expiry.Snapshot, manifest.RoleTimestamp: p.Expiry.Timestamp}
	for _, c := range p.Channels {
		all[c] = p.Expiry.Channel
	}
	parsed := map[string]time.Duration{}
	for role, text := range all {
		d, err := time.ParseDuration(text)
		if err != nil || d < time.Minute {
			return nil, usage("%s: expiry of %s is %q: write a duration of at least a minute, for instance \"72h\"", productFile, role, text)
		}
		parsed[role] = d
	}
	return parsed, nil
}

// roles are all that sign, in the order in which they vouch for each other.
func (p product) roles() []string {
	return slices.Concat([]string{manifest.RoleRoot, manifest.RoleTargets}, p.Channels, []string{manifest.RoleSnapshot, manifest.RoleTimestamp})
}

func (p product) channel(name string) error {
	if slices.Contains(p.Channels, name) {
		return nil
	}
	return usage("product %s has no channel %q: it has %s", p.Name, name, strings.Join(p.Channels, ", "))
}

func (p product) save(d durable.Disk, dir string) error {
	data, err := toml.Marshal(p)
	if err != nil {
		return err
	}
	return durable.WriteFile(d, filepath.Join(dir, productFile), data, 0o644)
}

func loadProduct(d durable.Disk, dir string) (product, error) {
	file := filepath.Join(dir, productFile)
	data, err := durable.ReadFile(d, file, productLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return product{}, usage("%s holds no product: run 'release init NAME' there, or give --dir", absolute(dir))
	}
	if err != nil {
		return product{}, fmt.Errorf("read the product: %w", err)
	}
	var p product
	decoder := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return product{}, usage("%s: %s", file, tomlError(err))
	}
	return p, p.check()
}

// tomlError shows the line and a caret below the mistake.
func tomlError(err error) string {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		return "unknown key\n" + unknown.String()
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		return bad.Error() + "\n" + bad.String()
	}
	return err.Error()
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// exists says whether there is something under a name, whatever it is.
func exists(file string) bool {
	_, err := os.Lstat(file)
	return !errors.Is(err, fs.ErrNotExist)
}
