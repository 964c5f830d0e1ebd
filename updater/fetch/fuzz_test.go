package fetch

import (
	"net/http"
	"strings"
	"testing"
)

// FuzzHeader: whatever header a server sends, it is refused or gives a place in the file that was asked for, and a tag
// that may be sent back as it is.
func FuzzHeader(f *testing.F) {
	f.Add(206, "bytes 100-199/200", `"a"`, int64(200), int64(100))
	f.Add(206, "bytes 0-0/*", `W/"a"`, int64(-1), int64(0))
	f.Add(206, "bytes 9223372036854775807-9223372036854775808/1", "\"\r\nX: y\"", int64(1), int64(5))
	f.Add(200, "", "", int64(-1), int64(7))
	f.Add(206, "bytes 50-199/200", "", int64(200), int64(100)) // from elsewhere
	f.Add(416, "bytes */5", `"`, int64(5), int64(9))
	f.Fuzz(func(t *testing.T, code int, contentRange, tag string, length, from int64) {
		resp := &http.Response{StatusCode: code, ContentLength: length, Header: http.Header{"Content-Range": {contentRange}, "Etag": {tag}}}
		s, err := read(resp, max(from, 0))
		if err != nil {
			return
		}
		if code == http.StatusPartialContent && (s.from != from || s.total >= 0 && s.from >= s.total) {
			t.Errorf("%q for byte %d: from %d of %d", contentRange, from, s.from, s.total)
		}
		if code == http.StatusOK && s.from != 0 {
			t.Errorf("a whole file begins at %d", s.from)
		}
		if s.tag != "" && (s.tag != tag || strings.ContainsAny(s.tag, " \r\n\x00") || s.tag[0] != '"') {
			t.Errorf("tag %q of %q", s.tag, tag)
		}
	})
}
