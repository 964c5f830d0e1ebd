package durabletest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Small is a real file system in memory that a test can fill: a tmpfs, which needs root. Its size can change
// while it is in use.
type Small struct {
	Dir string // where it is mounted
	t   *testing.T
}

// NewSmall mounts one of the given size for the length of a test.
func NewSmall(t *testing.T, sizeBytes int64) *Small {
	t.Helper()
	s := &Small{Dir: filepath.Join(t.TempDir(), "small"), t: t}
	if err := os.Mkdir(s.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("turnstone-test", s.Dir, "tmpfs", 0, options(sizeBytes)); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount a tmpfs: %v; this test needs root", err)
		}
		t.Skipf("mount a tmpfs: %v; run this test as root", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(s.Dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", s.Dir, err)
		}
	})
	return s
}

func options(sizeBytes int64) string { return fmt.Sprintf("size=%d,mode=0755", sizeBytes) }

// Leave makes the file system as large as what is in it and freeBytes more, in whole pages. Who writes or
// removes in that moment changes the sum.
func (s *Small) Leave(freeBytes int64) {
	s.t.Helper()
	var err error
	for range 100 { // refused when somebody has written since the question
		var st unix.Statfs_t
		if err = unix.Statfs(s.Dir, &st); err != nil {
			break
		}
		pages := st.Blocks - st.Bfree + uint64(freeBytes)/uint64(st.Bsize)
		if err = unix.Mount("", s.Dir, "", unix.MS_REMOUNT, options(int64(pages)*st.Bsize)); err == nil {
			return
		}
	}
	s.t.Fatalf("make the file system smaller: %v", err)
}
