package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
)

// Shortage says that a disk has not the room for what is to come.
type Shortage struct {
	Dir                  string // on the disk in question
	NeedBytes, FreeBytes int64
}

// Error tells a person how much to free, and where.
func (s *Shortage) Error() string {
	return fmt.Sprintf("not enough space: %s needed, %s free; make room for %s on the disk of %s",
		mebi(s.NeedBytes), mebi(s.FreeBytes), mebi(s.NeedBytes-s.FreeBytes), s.Dir)
}

// mebi rounds up, so that nobody frees too little.
func mebi(n int64) string {
	tenths := int64(math.Ceil(float64(n) * 10 / (1 << 20)))
	return fmt.Sprintf("%d.%d MiB", tenths/10, tenths%10)
}

// Room returns a *Shortage if the disk of a directory has less than needBytes free. A disk that cannot be
// asked is given the benefit of the doubt: writing will tell.
func Room(d Disk, dir string, needBytes int64) error {
	free, err := d.Free(dir)
	if err != nil || free >= needBytes {
		return nil
	}
	return &Shortage{Dir: dir, NeedBytes: needBytes, FreeBytes: free}
}

// Full says whether an error means that a disk or a quota has no room.
func Full(err error) bool {
	var s *Shortage
	return errors.As(err, &s) || slices.ContainsFunc(fullErrors, func(e error) bool { return errors.Is(err, e) })
}

// Held is the space on the disk that a file takes, with what Allocate took and nobody has written yet.
func Held(info fs.FileInfo) int64 { return held(info) }
