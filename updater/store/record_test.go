package store

import (
	"bytes"
	"testing"

	"github.com/turnstone-go/turnstone/updater/journal"
)

func FuzzSeal(f *testing.F) {
	f.Add(encode(sealOf(v1)))
	f.Add(encode(sealOf(version("1.0.0-a.b", 1<<63))))
	f.Add([]byte(`{"schema":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseSeal(b); err == nil && (!bytes.Equal(encode(s), b) || checkName(s.Version) != nil) {
			t.Errorf("parsed %q, printed %q", b, encode(s))
		}
	})
}

func FuzzProof(f *testing.F) {
	f.Add(encode(proof{schema, v1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parseProof(b); err == nil && (!bytes.Equal(encode(p), b) || checkName(p.Version) != nil) {
			t.Errorf("parsed %q, printed %q", b, encode(p))
		}
	})
}

func TestRecordsParseAsPrinted(t *testing.T) {
	for _, v := range []journal.Version{v1, v2, v3} {
		if s, err := parseSeal(encode(sealOf(v))); err != nil || s.Version != v {
			t.Errorf("%+v, %v", s, err)
		}
		if p, err := parseProof(encode(proof{schema, v})); err != nil || p.Version != v {
			t.Errorf("%+v, %v", p, err)
		}
	}
	for name, b := range map[string][]byte{
		"newer schema": bytes.Replace(encode(sealOf(v1)), []byte(`"schema": 1`), []byte(`"schema": 2`), 1),
		"unknown key":  bytes.Replace(encode(sealOf(v1)), []byte(`"files"`), []byte(`"more": 1, "files"`), 1),
		"trailing":     append(encode(sealOf(v1)), ' '),
		"two files":    encode(seal{schema, v1, []sealedFile{{"app.exe", 1, v1.Digest}, {"b", 1, v1.Digest}}}),
		"other digest": encode(seal{schema, v1, []sealedFile{{"app.exe", v1.SizeBytes, v2.Digest}}}),
		"outside":      encode(seal{schema, v1, []sealedFile{{"../app.exe", v1.SizeBytes, v1.Digest}}}),
	} {
		if _, err := parseSeal(b); err == nil {
			t.Errorf("%s: accepted %s", name, b)
		}
	}
}
