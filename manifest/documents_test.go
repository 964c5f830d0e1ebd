package manifest

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
)

var epoch2026 = time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)

func exampleChannel() Channel {
	return Channel{Schema: 1, Product: "demo", Name: "stable", MinEpoch: 1, SignedAt: epoch2026, Offers: []Offer{
		{Version: "1.2.0-rc.1", Epoch: 4, Share: 500},
		{Version: "1.1.0", Epoch: 3, Share: AllHosts},
		{Version: "1.0.0", Epoch: 1, Share: AllHosts, Yanked: "loses <data> & more"},
	}}
}

// exampleMinisig has the form of a signature and is none.
var exampleMinisig = minisign.Signature{
	Algorithm: minisign.HashEdDSA, KeyID: 1, UntrustedComment: "signature of demo 1.1.0 for linux/amd64", TrustedComment: "x",
}.String()

func exampleRelease() Release {
	a := Artifact{OS: "linux", Arch: "amd64", Name: "demo", SizeBytes: 5, SHA256: strings.Repeat("0a", 32), Minisig: exampleMinisig}
	b := a
	b.OS, b.Name = "windows", "demo.exe"
	b.Patches = []Patch{
		{From: strings.Repeat("0b", 32), Kind: PatchPlain, SizeBytes: 3, SHA256: strings.Repeat("0c", 32)},
		{From: strings.Repeat("0d", 32), Kind: PatchGo, SizeBytes: 4, SHA256: strings.Repeat("0c", 32)},
	}
	return Release{1, "demo", "1.1.0", 3, "Faster.\n", Protocol{1, 2}, []Artifact{a, b}}
}

func exampleTrust() Trust {
	return Trust{1, "demo", []string{"RWQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}
}

func TestDocuments(t *testing.T) {
	if c, err := ParseChannel(exampleChannel().Bytes()); err != nil || !reflect.DeepEqual(c, exampleChannel()) {
		t.Errorf("channel %+v, %v", c, err)
	}
	if r, err := ParseRelease(exampleRelease().Bytes()); err != nil || !reflect.DeepEqual(r, exampleRelease()) {
		t.Errorf("release %+v, %v", r, err)
	}
	if r, err := ParseTrust(exampleTrust().Bytes()); err != nil || !reflect.DeepEqual(r, exampleTrust()) {
		t.Errorf("trust %+v, %v", r, err)
	}
	if c, err := ParseChannel(Channel{Schema: 1, Product: "demo", Name: "beta", SignedAt: epoch2026}.Bytes()); err != nil || len(c.Offers) != 0 {
		t.Errorf("channel without offers: %v", err)
	}
	if o, ok := exampleChannel().Offer("1.1.0"); !ok || o.Epoch != 3 {
		t.Errorf("offer %+v", o)
	}
	if a, ok := exampleRelease().Artifact("windows", "amd64"); !ok || a.Name != "demo.exe" {
		t.Errorf("artifact %+v", a)
	}
	if _, ok := exampleRelease().Artifact("windows", "arm64"); ok {
		t.Error("artifact for a platform that is not there")
	}
}

// There is one spelling of a document.
func TestSpelling(t *testing.T) {
	good := string(exampleChannel().Bytes())
	_, err := ParseChannel([]byte(strings.Replace(good, `"schema"`, `"more": 1, "schema"`, 1)))
	if err == nil || !strings.Contains(err.Error(), `"more"`) {
		t.Errorf("the unknown key is not named: %v", err)
	}
	for name, data := range map[string]string{
		"unknown key":     strings.Replace(good, `"schema"`, `"more": 1, "schema"`, 1),
		"repeated key":    strings.Replace(good, `"schema": 1,`, `"schema": 1, "schema": 1,`, 1),
		"data after":      good + "{}",
		"space after":     good + "\n",
		"no line end":     strings.TrimSuffix(good, "\n"),
		"byte order mark": "\ufeff" + good,
		"spacing":         strings.Replace(good, `"schema": 1`, `"schema":1`, 1),
		"key case":        strings.Replace(good, `"schema"`, `"Schema"`, 1),
		"escape":          strings.Replace(good, `"demo"`, `"\u0064emo"`, 1),
		"html escape":     strings.Replace(good, `<data>`, `\u003cdata\u003e`, 1),
		"broken UTF-8":    strings.Replace(good, `<data>`, "\xff", 1),
		"number form":     strings.Replace(good, `"schema": 1`, `"schema": 1.0`, 1),
		"null":            strings.Replace(good, `"epoch": 3`, `"epoch": null`, 1),
		"time zone":       strings.Replace(good, "09:30:00Z", "10:30:00+01:00", 1),
		"fraction":        strings.Replace(good, "09:30:00Z", "09:30:00.5Z", 1),
		"empty":           "",
		"two lines":       "{}\n{}\n",
		"too long":        good + strings.Repeat(" ", maxDocumentBytes),
	} {
		if data == good {
			t.Fatalf("%s changes nothing", name)
		}
		_, err := ParseChannel([]byte(data))
		if err == nil {
			t.Errorf("%s is accepted", name)
			continue
		}
		refused(t, err, ErrDocument)
	}
}

// archived makes the artifact a sound archive.
func archived(a *Artifact) { a.Format, a.Main, a.UnpackedBytes = "zip", "bin/app", 9 }

func TestArchiveIsAnArtifact(t *testing.T) {
	r := exampleRelease()
	archived(&r.Artifacts[0])
	again, err := ParseRelease(r.Bytes())
	if err != nil || again.Artifacts[0].Main != "bin/app" || again.Artifacts[0].UnpackedBytes != 9 {
		t.Errorf("%v: %+v", err, again)
	}
}

func TestChannelBounds(t *testing.T) {
	for name, change := range map[string]func(*Channel){
		"schema":        func(c *Channel) { c.Schema = 2 },
		"product":       func(c *Channel) { c.Product = "De mo" },
		"name":          func(c *Channel) { c.Name = "../x" },
		"role name":     func(c *Channel) { c.Name = "timestamp" },
		"min epoch":     func(c *Channel) { c.MinEpoch = 1 << 60 },
		"no time":       func(c *Channel) { c.SignedAt = time.Time{} },
		"version":       func(c *Channel) { c.Offers[0].Version = "v1.2" },
		"twice":         func(c *Channel) { c.Offers[0].Version = "1.1.0" },
		"order":         func(c *Channel) { c.Offers[0].Epoch = 2 },
		"epoch twice":   func(c *Channel) { c.Offers[0].Epoch = 3 },
		"epoch 0":       func(c *Channel) { c.Offers[2].Epoch = 0 },
		"share":         func(c *Channel) { c.Offers[0].Share = AllHosts + 1 },
		"share below 0": func(c *Channel) { c.Offers[0].Share = -1 },
		"reason":        func(c *Channel) { c.Offers[0].Yanked = strings.Repeat("x", maxYankedBytes+1) },
		"not UTF-8":     func(c *Channel) { c.Offers[0].Yanked = "\xff" },
		"escape":        func(c *Channel) { c.Offers[0].Yanked = "\x1b[2J" },
		"lines":         func(c *Channel) { c.Offers[0].Yanked = "a\nb" },
		"offers": func(c *Channel) {
			c.Offers = make([]Offer, maxOffers+1)
		},
	} {
		c := exampleChannel()
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		change(&c)
		t.Run(name, func(t *testing.T) { refused(t, c.Check(), ErrDocument) })
	}
}

func TestReleaseBounds(t *testing.T) {
	for name, change := range map[string]func(*Release){
		"schema":       func(r *Release) { r.Schema = 0 },
		"product":      func(r *Release) { r.Product = "" },
		"version":      func(r *Release) { r.Version = "1.1.0+linux" },
		"epoch":        func(r *Release) { r.Epoch = 0 },
		"notes":        func(r *Release) { r.Notes = strings.Repeat("x", maxNotesBytes+1) },
		"not UTF-8":    func(r *Release) { r.Notes = "\xff" },
		"escape":       func(r *Release) { r.Notes = "\x1b[2J" },
		"protocol":     func(r *Release) { r.Protocol = Protocol{3, 2} },
		"protocol 0":   func(r *Release) { r.Protocol = Protocol{0, 2} },
		"no artifacts": func(r *Release) { r.Artifacts = nil },
		"order":        func(r *Release) { r.Artifacts[0], r.Artifacts[1] = r.Artifacts[1], r.Artifacts[0] },
		"twice":        func(r *Release) { r.Artifacts[1] = r.Artifacts[0] },
		"os":           func(r *Release) { r.Artifacts[0].OS = "Linux" },
		"arch":         func(r *Release) { r.Artifacts[0].Arch = "" },
		"name":         func(r *Release) { r.Artifacts[0].Name = "../demo" },
		"name device":  func(r *Release) { r.Artifacts[0].Name = "nul.exe" },
		"name long":    func(r *Release) { r.Artifacts[0].Name = strings.Repeat("x", maxNameBytes+1) },
		"version long": func(r *Release) { r.Version = "1.0.0-" + strings.Repeat("x", maxNameBytes) },
		"name end":     func(r *Release) { r.Artifacts[0].Name = "demo." },
		"name slash":   func(r *Release) { r.Artifacts[0].Name = `a\b` },
		"patch from":   func(r *Release) { r.Artifacts[1].Patches[0].From = strings.Repeat("0B", 32) },
		"patch digest": func(r *Release) { r.Artifacts[1].Patches[0].SHA256 = "../x" },
		"patch kind":   func(r *Release) { r.Artifacts[1].Patches[0].Kind = "xdelta" },
		"patch empty":  func(r *Release) { r.Artifacts[1].Patches[0].SizeBytes = 0 },
		"patch size":   func(r *Release) { r.Artifacts[1].Patches[0].SizeBytes = 5 },
		"patch itself": func(r *Release) { r.Artifacts[1].Patches[0].From = strings.Repeat("0a", 32) },
		"patch twice":  func(r *Release) { r.Artifacts[1].Patches[1].From = r.Artifacts[1].Patches[0].From },
		"patch order": func(r *Release) {
			p := r.Artifacts[1].Patches
			p[0], p[1] = p[1], p[0]
		},
		"patches": func(r *Release) {
			r.Artifacts[1].Patches = nil
			for i := range MaxPatches + 1 {
				from := fmt.Sprintf("%064x", i)
				r.Artifacts[1].Patches = append(r.Artifacts[1].Patches, Patch{from, PatchPlain, 1, from})
			}
		},
		"empty":        func(r *Release) { r.Artifacts[0].SizeBytes = 0 },
		"endless":      func(r *Release) { r.Artifacts[0].SizeBytes = 1 << 62 },
		"main alone":   func(r *Release) { r.Artifacts[0].Main = "app" },
		"format":       func(r *Release) { archived(&r.Artifacts[0]); r.Artifacts[0].Format = "rar" },
		"no main":      func(r *Release) { archived(&r.Artifacts[0]); r.Artifacts[0].Main = "" },
		"main outside": func(r *Release) { archived(&r.Artifacts[0]); r.Artifacts[0].Main = "../app" },
		"unpacked":     func(r *Release) { archived(&r.Artifacts[0]); r.Artifacts[0].UnpackedBytes = 0 },
		"bomb":         func(r *Release) { archived(&r.Artifacts[0]); r.Artifacts[0].UnpackedBytes = 1 << 62 },
		"digest":       func(r *Release) { r.Artifacts[0].SHA256 = strings.Repeat("0A", 32) },
		"signature":    func(r *Release) { r.Artifacts[0].Minisig = "" },
		"line end":     func(r *Release) { r.Artifacts[0].Minisig = strings.ReplaceAll(exampleMinisig, "\n", "\r\n") },
		"comment":      func(r *Release) { r.Artifacts[0].Minisig = strings.Replace(exampleMinisig, "signature", "\x1b[2J", 1) },
		"not prehashed": func(r *Release) {
			r.Artifacts[0].Minisig = strings.Replace(exampleMinisig, "RUQ", "RWQ", 1)
		},
	} {
		r := exampleRelease()
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		change(&r)
		t.Run(name, func(t *testing.T) { refused(t, r.Check(), ErrDocument) })
	}
	r := exampleRelease()
	r.Artifacts[0], r.Artifacts[1] = r.Artifacts[1], r.Artifacts[0]
	if r.SortArtifacts(); r.Check() != nil {
		t.Error("sorting does not sort")
	}
}

func TestTrustBounds(t *testing.T) {
	for name, change := range map[string]func(*Trust){
		"schema":  func(r *Trust) { r.Schema = 7 },
		"product": func(r *Trust) { r.Product = "-" },
		"no keys": func(r *Trust) { r.Minisign = nil },
		"three":   func(r *Trust) { r.Minisign = append(r.Minisign, "a", "b") },
		"twice":   func(r *Trust) { r.Minisign = append(r.Minisign, r.Minisign[0]) },
		"file":    func(r *Trust) { r.Minisign[0] = "untrusted comment: x\n" + r.Minisign[0] },
		"no key":  func(r *Trust) { r.Minisign[0] = "RWQ" },
	} {
		r := exampleTrust()
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		change(&r)
		t.Run(name, func(t *testing.T) { refused(t, r.Check(), ErrDocument) })
	}
}

func TestCheckVersion(t *testing.T) {
	for _, v := range []string{"1.2.3", "0.0.0", "1.2.3-rc.1", "1.2.3-0", "10.20.30-beta.2.x-y"} {
		if err := CheckVersion(v); err != nil {
			t.Error(err)
		}
	}
	for _, v := range []string{"", "1", "1.2", "v1.2.3", "01.2.3", "1.2.3+b", "1.2.3-RC.1", "1.2.3-", "1.2.3 ", "../1.2.3", "channel", "1.2.3-" + strings.Repeat("x", 200)} {
		if err := CheckVersion(v); err == nil {
			t.Errorf("%q is accepted", v)
		}
	}
}

func FuzzChannel(f *testing.F) {
	f.Add(exampleChannel().Bytes())
	f.Add(Channel{Schema: 1, Product: "demo", Name: "beta", SignedAt: epoch2026}.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := ParseChannel(data); err == nil {
			same(t, data, c.Bytes())
		}
	})
}

func FuzzRelease(f *testing.F) {
	f.Add(exampleRelease().Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := ParseRelease(data); err == nil {
			same(t, data, r.Bytes())
		}
	})
}

// FuzzPatchValues: every patch that Check lets through is read back as it was.
func FuzzPatchValues(f *testing.F) {
	f.Add(strings.Repeat("0b", 32), PatchPlain, int64(3), strings.Repeat("0c", 32))
	f.Add(strings.Repeat("0a", 32), PatchGo, int64(5), "")
	f.Fuzz(func(t *testing.T, from, kind string, size int64, sum string) {
		r := exampleRelease()
		r.Artifacts[1].Patches = []Patch{{from, kind, size, sum}}
		if r.Check() != nil {
			return
		}
		back, err := ParseRelease(r.Bytes())
		if err != nil || !reflect.DeepEqual(back, r) {
			t.Errorf("%+v comes back as %+v, %v", r, back, err)
		}
	})
}

func FuzzTrust(f *testing.F) {
	f.Add(exampleTrust().Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := ParseTrust(data); err == nil {
			same(t, data, r.Bytes())
		}
	})
}

// FuzzChannelValues goes the other way: every document that Check lets through is read back as it was.
func FuzzChannelValues(f *testing.F) {
	f.Add("demo", "stable", uint64(1), int64(1772357400), "1.1.0", uint64(3), 10000, "")
	f.Add("demo", "stable", uint64(0), int64(0), "1.0.0-rc.1", uint64(1), 0, "loses \"data\"\u2028<&>\\")
	f.Fuzz(func(t *testing.T, product, name string, minEpoch uint64, signed int64, version string, epoch uint64, share int, yanked string) {
		c := Channel{Schema: Schema, Product: product, Name: name, MinEpoch: minEpoch, SignedAt: time.Unix(signed, 0).UTC(),
			Offers: []Offer{{version, epoch, share, yanked}}}
		if c.Check() != nil {
			return
		}
		back, err := ParseChannel(c.Bytes())
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("%+v comes back as %+v, %v", c, back, err)
		}
	})
}

func same(t *testing.T, data, printed []byte) {
	t.Helper()
	if !bytes.Equal(data, printed) {
		t.Errorf("accepted\n%q\nbut prints\n%q", data, printed)
	}
}
