package archive

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// names remembers the paths of an archive as a disk that ignores case would see them: true is a file.
type names map[string]bool

// file takes note of the path of a file.
func (n names) file(path string) error {
	if err := CheckPath(path); err != nil {
		return err
	}
	key := strings.ToLower(path)
	if _, twice := n[key]; twice {
		return fmt.Errorf("%w: %.200q is there twice, perhaps in another case, or as a folder", ErrArchive, path)
	}
	if i := strings.LastIndexByte(key, '/'); i >= 0 {
		if err := n.parents(key[:i]); err != nil {
			return err
		}
	}
	n[key] = true
	return n.count()
}

// folder takes note of a folder of its own entry.
func (n names) folder(path string) error {
	path = strings.TrimSuffix(strings.TrimPrefix(path, "./"), "/")
	if path == "" || path == "." {
		return nil // the root of what tar was given
	}
	if err := CheckPath(path); err != nil {
		return err
	}
	if err := n.parents(strings.ToLower(path)); err != nil {
		return err
	}
	return n.count()
}

// parents takes note of a folder and of those above it.
func (n names) parents(key string) error {
	for {
		if n[key] {
			return fmt.Errorf("%w: %.200q is a file and a folder", ErrArchive, key)
		}
		n[key] = false
		i := strings.LastIndexByte(key, '/')
		if i < 0 {
			return nil
		}
		key = key[:i]
	}
}

func (n names) count() error {
	if len(n) > MaxFiles {
		return fmt.Errorf("%w: more than %d files and folders", ErrArchive, MaxFiles)
	}
	return nil
}

// CheckPath reports whether a path in an archive is allowed: relative, with slashes, no empty part, none that is
// "." or "..", none that Windows gives a meaning of its own or changes, at most MaxPath bytes.
func CheckPath(path string) error {
	if path == "" || len(path) > MaxPath || !utf8.ValidString(path) {
		return fmt.Errorf("%w: path %.200q: 1 to %d bytes of UTF-8 are allowed", ErrArchive, path, MaxPath)
	}
	parts := strings.Split(path, "/")
	if len(parts) > maxDepth {
		return fmt.Errorf("%w: path %.200q: deeper than %d folders", ErrArchive, path, maxDepth)
	}
	for _, part := range parts {
		if why := impossible(part); why != "" {
			return fmt.Errorf("%w: path %.200q: %s", ErrArchive, path, why)
		}
	}
	return nil
}

// impossible says why a part of a path cannot be one on every system, "" if it can.
func impossible(part string) string {
	switch {
	case part == "":
		return "an empty part, or one that begins or ends with a slash"
	case part == "." || part == "..":
		return "a part that leads elsewhere"
	case strings.ContainsAny(part, `<>:"\|?*`):
		return `one of < > : " \ | ? *`
	case strings.ContainsFunc(part, func(r rune) bool { return !unicode.IsGraphic(r) || r == utf8.RuneError }):
		return "a control character"
	case strings.HasSuffix(part, ".") || strings.HasSuffix(part, " ") || strings.HasPrefix(part, " "):
		return "a dot or a space at the end of a part, which Windows drops, or a space in front"
	case device(part):
		return "the name of a Windows device"
	}
	return ""
}

// device says whether Windows takes the name for a device, whatever comes after its first dot.
func device(part string) bool {
	base, _, _ := strings.Cut(strings.ToUpper(part), ".")
	base = strings.TrimRight(base, " ")
	switch base {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	for _, port := range []string{"COM", "LPT"} {
		if digit, ok := strings.CutPrefix(base, port); ok && (len(digit) == 1 && digit >= "0" && digit <= "9" || digit == "¹" || digit == "²" || digit == "³") {
			return true
		}
	}
	return false
}
