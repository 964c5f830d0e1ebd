package host

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/windows"
)

func privileged() bool { return windows.GetCurrentProcessToken().IsElevated() }

// checkFile looks at the file and at every folder on the way to it.
func checkFile(name string) error {
	if !privileged() { // we have no rights that its writer could want
		return nil
	}
	chain, err := components(filepath.Dir(name))
	if err != nil {
		return err
	}
	file, err := describe(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	file.protected = true // a file takes what its folder gives, and that was looked at
	return judge(append(chain, file))
}

func checkSecret(string) error { return nil }

func letIn(string, string) error { return nil }
