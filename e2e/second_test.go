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
// looked at first. The twin is signed by the vendor's artifact key instead, and is installed.
func TestSecondSignature(t *testing.T) {
	for name, pack := range map[string]func(*testing.T) string{
		"program": func(t *testing.T) string { return example(t, "1.1.0", "") },
		"archive": func(t *testing.T) string { return archived(t, "example.tar.gz", example(t, "1.1.0", ""), "one") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, h, f := forged(t)
			h.shows(f) // from here on nothing of the vendor's comes by itself
			main := []string{"--main", "bin/example"}
			if name == "program" {
				main = nil
			}
			change(t, s, slices.Concat([]string{"add", "1.1.0", "--platform", runtime.GOOS + "/" + runtime.GOARCH + "=" + pack(t), "--patches", "0", "--pack=false"}, main)...)
			f = forgery(t, s)
			stranger, err := manifest.NewArtifactKey()
			f.do(err)
			evil := f.copy()
			countersigned(evil, stranger)
			twin := evil.copy() // the metadata of the other is in force by then, and only newer counts
			countersigned(twin, f.artifactKey())

			h.shows(evil)
			unmoved(t, s, func() {
				says(t, operator(t, s, 11, "update", "--now", "--follow"), manifest.ErrSignature.Error())
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

// countersigned publishes 1.1.0 with the second signatures made by this key.
func countersigned(f *forger, key manifest.ArtifactKey) {
	f.t.Helper()
	f.document("stable", "stable/1.1.0.json", func(text string) string {
		r, err := manifest.ParseRelease([]byte(text))
		f.do(err)
		r.Notes += "Signed once more.\n"
		for i, a := range r.Artifacts {
			artifact, err := os.Open(filepath.Join(f.dir, filepath.FromSlash(manifest.HashPath(a.SHA256))))
			f.do(err)
			r.Artifacts[i].Minisig, err = manifest.SignArtifact(key, r.Product, r.Version, a, artifact)
			f.do(err)
			f.do(artifact.Close())
		}
		return string(r.Bytes())
	})
}

func (f *forger) artifactKey() manifest.ArtifactKey {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.keys, "artifact.key"))
	f.do(err)
	key, err := manifest.ParseArtifactKey(data, "")
	f.do(err)
	return key
}
