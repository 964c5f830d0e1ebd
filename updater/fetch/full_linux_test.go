package fetch

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

// A disk that is too small is found out before a byte of the file is read, and is left as it was.
func TestDownloadTakesItsSpaceFirst(t *testing.T) {
	small := durabletest.NewSmall(t, 8<<20)
	data := random(3 << 20)
	s := newServer(t, data)
	dst := filepath.Join(small.Dir, "abc.part")
	small.Leave(2 << 20)
	err := open(t, s.URL, quick).Download(t.Context(), durable.OS(), want(data), dst, func(done, _ int64) {
		if done > 0 {
			t.Errorf("%d bytes came", done)
		}
	})
	if !errors.Is(err, syscall.ENOSPC) || !durable.Full(err) {
		t.Errorf("no room: %v", err)
	}
	if free, err := durable.OS().Free(small.Dir); err != nil || free < 2<<20-1<<16 {
		t.Errorf("%d bytes are free afterwards, %v", free, err)
	}
	small.Leave(4 << 20)
	if err := open(t, s.URL, quick).Download(t.Context(), durable.OS(), want(data), dst, nil); err != nil {
		t.Errorf("with room: %v", err)
	}
	mustHold(t, dst, data)
}

// Taken space is not bytes that came: what another process left is resumed from the last of those, and the
// space is still taken, even when somebody filled the disk in between.
func TestDownloadResumesInTakenSpace(t *testing.T) {
	small := durabletest.NewSmall(t, 8<<20)
	data := random(3 << 20)
	s := newServer(t, data)
	const some = 1 << 20
	s.handle = func(w http.ResponseWriter, r *http.Request, n int) bool {
		return s.cutAfter(some)(w, r, n) // and then never again
	}
	dst := filepath.Join(small.Dir, "abc.part")
	once := quick
	once.Attempts = 1
	if err := open(t, s.URL, once).Download(t.Context(), durable.OS(), want(data), dst, nil); err == nil {
		t.Fatal("a broken transfer was no error")
	}
	info, err := os.Lstat(dst)
	if err != nil || info.Size() != some || durable.Held(info) < int64(len(data)) {
		t.Fatalf("%d bytes came, %d are taken, %v", info.Size(), durable.Held(info), err)
	}
	small.Leave(0)
	_, before := s.count()
	if err := open(t, s.URL, once).Download(t.Context(), durable.OS(), want(data), dst, nil); err != nil {
		t.Fatal(err)
	}
	rest := int64(len(data)) - some
	if _, served := s.count(); served-before != rest {
		t.Errorf("%d bytes were sent for the rest of %d", served-before, rest)
	}
	mustHold(t, dst, data)
}
