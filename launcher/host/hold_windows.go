package host

import (
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// hold shares the file with readers alone. CreateProcess opens a program to read and to execute, so it may.
func hold(file string) (io.Closer, error) {
	text, err := windows.UTF16PtrFromString(file)
	if err != nil {
		return nil, err
	}
	h, err := windows.CreateFile(text, windows.GENERIC_READ, windows.FILE_SHARE_READ, nil, windows.OPEN_EXISTING, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: file, Err: err}
	}
	return os.NewFile(uintptr(h), file), nil
}
