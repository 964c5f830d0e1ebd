package durable

import (
	"fmt"
	"io/fs"
	"syscall"

	"golang.org/x/sys/windows"
)

func ours(name string, info fs.FileInfo) error {
	if info.Mode()&(fs.ModeSymlink|fs.ModeIrregular) != 0 { // irregular is a reparse point of another kind
		return fmt.Errorf("%s is a link to somewhere else, so it %w: remove it", name, ErrNotOurs)
	}
	if _, here := info.Sys().(*syscall.Win32FileAttributeData); !here || !info.Mode().IsRegular() {
		return nil // a folder, or a disk that is not this machine's
	}
	f, err := open(name, syscall.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var file windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &file); err != nil {
		return &fs.PathError{Op: "look at", Path: name, Err: err}
	}
	if file.NumberOfLinks > 1 {
		return fmt.Errorf("%s has %d names (hard links), so it %w: remove it", name, file.NumberOfLinks, ErrNotOurs)
	}
	return nil
}

func oursAlone(name string, info fs.FileInfo) error { return ours(name, info) } // which has looked for names
