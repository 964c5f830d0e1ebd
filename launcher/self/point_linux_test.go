package self

import (
	"errors"
	"os"
)

// point makes a link, which is what systemd starts.
func point(link, target string) error {
	return errors.Join(os.RemoveAll(link), os.Symlink(target, link))
}

func pointed(link string) (string, error) { return os.Readlink(link) }
