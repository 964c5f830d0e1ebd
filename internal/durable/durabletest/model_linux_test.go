package durabletest_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"pgregory.net/rapid"
)

// The model is worth nothing where it answers differently from a real disk. It answers as a disk of Unix: Windows calls
// a file missing whose path leads through a file.
func TestAnswersAsARealDisk(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		real, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		disks := [2]durable.Disk{durable.OS(), durabletest.New()}
		roots := [2]string{real, "/"}
		names := rapid.SampledFrom([]string{"a", "b", "a/x", "a/y", "b/x", "a/x/deep"})
		for range rapid.IntRange(1, 30).Draw(r, "steps") {
			step := drawStep(r, names)
			var said [2]string
			for i, d := range disks {
				said[i] = step.do(d, roots[i])
			}
			if said[0] != said[1] {
				r.Fatalf("%s:\nreal  %s\nmodel %s", step.name, said[0], said[1])
			}
		}
		if a, b := tree(t, disks[0], real), tree(t, disks[1], "/"); a != b {
			r.Fatalf("trees differ:\nreal  %s\nmodel %s", a, b)
		}
	})
}

type step struct {
	name string
	do   func(d durable.Disk, root string) string
}

func drawStep(r *rapid.T, names *rapid.Generator[string]) step {
	a, b := names.Draw(r, "a"), names.Draw(r, "b")
	size := rapid.IntRange(1, 2000).Draw(r, "size")
	off := rapid.Int64Range(0, 1500).Draw(r, "off")
	flag := rapid.SampledFrom([]int{os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREATE, os.O_WRONLY | os.O_CREATE | os.O_EXCL,
		os.O_RDWR | os.O_TRUNC, os.O_WRONLY | os.O_CREATE | os.O_APPEND}).Draw(r, "flag")
	steps := []step{
		{"mkdir " + a, func(d durable.Disk, root string) string { return kind(d.Mkdir(filepath.Join(root, a), 0o755)) }},
		{"remove " + a, func(d durable.Disk, root string) string { return kind(d.Remove(filepath.Join(root, a))) }},
		{"rename " + a + " " + b, func(d durable.Disk, root string) string {
			return kind(d.Rename(filepath.Join(root, a), filepath.Join(root, b)))
		}},
		{"removeall " + a, func(d durable.Disk, root string) string { return kind(durable.RemoveAll(d, filepath.Join(root, a))) }},
		{fmt.Sprintf("write %s %d at %d flag %x", a, size, off, flag), func(d durable.Disk, root string) string {
			return write(d, filepath.Join(root, a), flag, size, off)
		}},
	}
	if a == b || filepath.Dir(b) == a || filepath.Dir(filepath.Dir(b)) == a {
		steps[2] = steps[0] // a directory into itself: nobody does it and the model does not say
	}
	return rapid.SampledFrom(steps).Draw(r, "step")
}

// write tries every operation of an open file and says what came of each.
func write(d durable.Disk, name string, flag, size int, off int64) string {
	f, err := d.OpenFile(name, flag, 0o644)
	if err != nil {
		return kind(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.IsDir() {
		return fmt.Sprint("directory ", err)
	}
	said := ""
	n, err := f.WriteAt(bytes.Repeat([]byte{'w'}, size), off)
	said += fmt.Sprint(n, err == nil, ";")
	n, err = f.Write([]byte("abc"))
	said += fmt.Sprint(n, err == nil, ";")
	if flag == os.O_RDWR {
		said += fmt.Sprint(f.Truncate(off) == nil, ";")
	}
	end, err := f.Seek(0, 2)
	said += fmt.Sprint(end, err == nil, ";")
	buf := make([]byte, 10)
	n, err = f.ReadAt(buf, 1)
	return said + fmt.Sprint(n, err == nil, buf)
}
