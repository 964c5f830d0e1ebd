package fetch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// What somebody has put where a download goes is neither written to nor gone on from. The twin is a part of our own.
func TestDownloadIntoAPlantedPart(t *testing.T) {
	data := random(300_000)
	for name, plant := range map[string]func(part, victim string) error{
		"hard link": func(part, victim string) error { return os.Link(victim, part) },
		"writable for all": func(part, _ string) error {
			return errors.Join(os.WriteFile(part, data[:9], 0o600), os.Chmod(part, 0o602))
		},
		"": func(part, _ string) error { return os.WriteFile(part, data[:9], 0o600) },
	} {
		s := newServer(t, data)
		dst := part1(t)
		victim := filepath.Join(filepath.Dir(dst), "victim")
		if err := errors.Join(os.WriteFile(victim, data[:9], 0o600), plant(dst, victim)); err != nil {
			t.Fatal(err)
		}
		err := open(t, s.URL, quick).Download(t.Context(), durable.OS(), want(data), dst, nil)
		if errors.Is(err, durable.ErrNotOurs) != (name != "") || (err == nil) != (name == "") {
			t.Errorf("%s: %v", name, err)
		}
		if b, err := os.ReadFile(victim); err != nil || len(b) != 9 {
			t.Errorf("%s: the victim has %d bytes, %v", name, len(b), err)
		}
	}
}

// planting is a disk on which somebody is quicker: a link is there as soon as we have looked.
type planting struct {
	durable.Disk
	part, victim string
}

func (p planting) Lstat(name string) (fs.FileInfo, error) {
	info, err := p.Disk.Lstat(name)
	if name == p.part && errors.Is(err, fs.ErrNotExist) && p.victim != "" {
		return info, errors.Join(err, os.Symlink(p.victim, p.part))
	}
	return info, err
}

func TestDownloadIntoALinkThatComesMeanwhile(t *testing.T) {
	data := random(100)
	s := newServer(t, data)
	dst := part1(t)
	victim := filepath.Join(filepath.Dir(dst), "victim")
	err := open(t, s.URL, quick).Download(t.Context(), planting{durable.OS(), dst, victim}, want(data), dst, nil)
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(victim); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the link was followed: %v", err)
	}
	twin := part1(t)
	if err := open(t, s.URL, quick).Download(t.Context(), planting{durable.OS(), twin, ""}, want(data), twin, nil); err != nil {
		t.Errorf("the twin: %v", err)
	}
}
