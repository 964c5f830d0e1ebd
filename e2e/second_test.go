package e2e

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/turnstone-go/turnstone/manifest"
)

// Who has the channel's key and not the artifact key gets nothing run, and no archive opened: the second signature is
// looked at first. A genuine program of another platform is not run under this one's name either. The twin is signed by
// the vendor's artifact key, for this platform, and is installed.
func TestSecondSignature(t *testing.T) {
	program := func(t *testing.T) []string { return []string{example(t, "1.1.0", "")} }
	stranger := func(f *forger) { countersigned(f, f.stranger(), runtime.GOOS) }
	for name, c := range map[string]struct {
		pack func(*testing.T) []string
		evil func(*forger)
		want error
	}{
		"program": {program, stranger, manifest.ErrSignature},
		"archive": {func(t *testing.T) []string {
			return []string{archived(t, "example.tar.gz", example(t, "1.1.0", ""), "one"), "--main", "bin/example"}
		}, stranger, manifest.ErrSignature},
		"another platform": {program, func(f *forger) { countersigned(f, f.artifactKey(), "plan9") }, manifest.ErrComment},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, h, f := forged(t)
			h.shows(f) // from here on nothing of the vendor's comes by itself
			file := c.pack(t)
			file[0] = runtime.GOOS + "/" + runtime.GOARCH + "=" + file[0]
			change(t, s, slices.Concat([]string{"add", "1.1.0", "--patches", "0", "--pack=false", "--platform"}, file)...)
			f = forgery(t, s)
			evil := f.copy()
			c.evil(evil)
			twin := evil.copy() // the metadata of the other is in force by then, and only newer counts
			countersigned(twin, f.artifactKey(), runtime.GOOS)

			h.shows(evil)
			unmoved(t, s, func() {
				says(t, operator(t, s, 11, "update", "--now", "--follow"), c.want.Error())
			})
			if st := status(t, s); len(st.Quarantine) != 1 || st.Active.Number != "1.0.0" {
				t.Errorf("quarantine %v, active %v", st.Quarantine, st.Active)
			}
			if got, err := filepath.Glob(filepath.Join(s.State(), "store", "1.1.0-*", "tree", "bin", "*")); err != nil || len(got) > 0 {
				t.Errorf("unpacked: %v, %v", got, err)
			}
			h.shows(twin)
			checked(t, s, 10)
			operator(t, s, 0, "quarantine", "clear", "1.1.0") // and it is installed
			serving(t, s, "1.1.0")
		})
	}
}

// countersigned publishes 1.1.0 with the second signatures made by this key, for that system.
func countersigned(f *forger, key manifest.ArtifactKey, system string) {
	f.t.Helper()
	f.document("stable", "stable/1.1.0.json", func(text string) string {
		r, err := manifest.ParseRelease([]byte(text))
		f.do(err)
		r.Notes += "Signed once more.\n"
		for i, a := range r.Artifacts {
			artifact, err := os.Open(filepath.Join(f.dir, filepath.FromSlash(manifest.HashPath(a.SHA256))))
			f.do(err)
			a.OS = system
			r.Artifacts[i].Minisig, err = manifest.SignArtifact(key, r.Product, r.Version, a, artifact)
			f.do(err)
			f.do(artifact.Close())
		}
		return string(r.Bytes())
	})
}

func (f *forger) stranger() manifest.ArtifactKey {
	f.t.Helper()
	key, err := manifest.NewArtifactKey()
	f.do(err)
	return key
}

func (f *forger) artifactKey() manifest.ArtifactKey {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.keys, "artifact.key"))
	f.do(err)
	key, err := manifest.ParseArtifactKey(data, "")
	f.do(err)
	return key
}
