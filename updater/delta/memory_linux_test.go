package delta

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// memoryMost is what applying a patch may add to a process: a quarter of what its files have in the test.
const memoryMost = 16 << 20

const memoryEnv = "DELTA_TEST_APPLY"

// TestMain lets the test program be the process whose memory is measured.
func TestMain(m *testing.M) {
	if dir := os.Getenv(memoryEnv); dir != "" {
		if err := applyFolder(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// applyFolder applies the patch in a folder and prints by how much that raised the most that this process ever had.
func applyFolder(dir string) error {
	var f Files
	var sizes [2]int64
	for i, name := range []string{"old", "patch"} {
		file, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		info, err := file.Stat()
		if err != nil {
			return err
		}
		if sizes[i] = info.Size(); i == 0 {
			f.Old = file
		} else {
			f.Patch = file
		}
	}
	f.OldBytes, f.PatchBytes, f.NewBytes = sizes[0], sizes[1], sizes[0]
	out, err := os.Create(filepath.Join(dir, "new"))
	if err != nil {
		return err
	}
	before, err := peak()
	if err != nil {
		return err
	}
	if err := Apply(context.Background(), f, out); err != nil {
		return err
	}
	after, err := peak()
	fmt.Println(after - before)
	return err
}

// peak is the most memory that this process had resident.
func peak() (bytes int64, err error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(text), "\n") {
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &bytes); n == 1 {
			return bytes << 10, nil
		}
	}
	return 0, fmt.Errorf("no VmHWM in %q", text)
}

// A process that makes a file of 64 MB by a patch whose three streams are all long needs no more for it than for
// a small one, whatever its form.
func TestApplyIsFlatInMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 256 MiB, and measures memory, of which the race detector takes its own; -short was given")
	}
	const size = 64 << 20
	old, fresh := make([]byte, size), make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(old) // never fails
	_, _ = r.Read(fresh[:4<<20])
	var blocks []block
	for at := 4 << 20; at < size; at += 1000 { // the differences and the steps are many, and not all the same
		n := min(1000, size-at, at)
		copy(fresh[at:at+n], old[size-at:])
		fresh[at+int(old[at])] += old[at+1]
		blocks = append(blocks, block{old: size - at, new: at, n: n})
	}
	t.Run("plain", func(t *testing.T) { flat(t, old, fresh, encode(old, fresh, blocks)) })
	t.Run("go", func(t *testing.T) {
		l := layout{low: minAddr, high: 1 << 62, segments: []segment{{0, size, minAddr}}, regions: []region{
			{kind: code, n: size / 2}, {kind: pointers, at: size / 2, n: size / 2},
		}}
		for i := range uint64(maxShifts) {
			l.shifts = append(l.shifts, shift{minAddr + i<<8, int64(i)})
		}
		was := make([]byte, size)
		if _, err := newMoved(l, bytes.NewReader(old), size).ReadAt(was, 0); err != nil {
			t.Fatal(err)
		}
		flat(t, old, fresh, wrap(&l, encode(was, fresh, blocks)))
	})
}

func flat(t *testing.T, old, fresh, patch []byte) {
	dir := t.TempDir()
	for name, data := range map[string][]byte{"old": old, "patch": patch} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), memoryEnv+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.Output()
	if err != nil {
		t.Fatal(err)
	}
	var grown int64
	if _, err := fmt.Sscan(string(out), &grown); err != nil || grown > memoryMost || grown < 1<<20 {
		t.Errorf("applying took %d bytes more, at most %d are allowed: %v", grown, memoryMost, err)
	}
	t.Logf("a patch of %d bytes took %d bytes of memory", len(patch), grown)
	made, err := os.ReadFile(filepath.Join(dir, "new"))
	if err != nil || !bytes.Equal(made, fresh) {
		t.Errorf("%d other bytes, %v", len(made), err)
	}
}
