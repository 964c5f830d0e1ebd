// Package delta turns an old file and a patch into the new file, and makes such patches.
//
// The promise of Apply: whatever the patch says, no more than the announced bytes are written, no byte
// outside of the old file is read, it comes to an end, and its memory does not grow with the files. Whether
// the result is right the caller sees from its digest; nothing here is evidence for it.
//
// A patch has the form of the classic bsdiff, which its tools read and write as well:
//
//	"BSDIFF40", then the sizes of the first two streams and of the new file, 8 bytes each
//	control stream: copy x bytes of old adding difference bytes, take y new bytes, move z in old; again
//	difference stream, then extra stream; all three compressed by bzip2
//
// Integers are 64 bits, little-endian, sign and magnitude.
//
// A second form is for Go executables, where one new function moves what lies behind it, and with it every address
// that refers to it. It is
//
//	"TSGODLT1", then the size of the layout, 8 bytes
//	the layout, compressed by bzip2: where references stand in the old file, and what has moved by how much
//	a classic patch, to be applied to the old file with its references moved
//
// A file that is packed by zstd counts as a patch that starts from nothing.
//
// The package opens no file, chooses no patch, and checks no signature: a patch is authenticated before it
// gets here.
package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// Kinds of patches, as release documents name them.
const (
	Plain = "bsdiff40" // the classic form
	Go    = "go1"      // the form for Go executables
)

// ErrPatch says that a patch is malformed, or is not for these two files.
var ErrPatch = errors.New("patch is malformed or for other files")

const (
	plainMagic  = "BSDIFF40"
	headerBytes = 32
	goMagic     = "TSGODLT1"
	goBytes     = 16
	stepBytes   = 24
)

// Kind names the kind of a patch, "" if it is none.
func Kind(patch []byte) string {
	switch {
	case bytes.HasPrefix(patch, []byte(plainMagic)):
		return Plain
	case bytes.HasPrefix(patch, []byte(goMagic)):
		return Go
	case bytes.HasPrefix(patch, []byte(packedMagic)):
		return Packed
	}
	return ""
}

// putInt writes an integer as the classic tools do. The smallest int64 has no such form.
func putInt(b []byte, v int64) {
	u := uint64(v)
	if v < 0 {
		u = uint64(-v) | 1<<63
	}
	binary.LittleEndian.PutUint64(b, u)
}

func getInt(b []byte) int64 {
	u := binary.LittleEndian.Uint64(b)
	v := int64(u &^ (1 << 63))
	if u>>63 != 0 {
		return -v
	}
	return v
}
