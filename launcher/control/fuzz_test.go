package control

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/updater"
)

// patient is an answer that has no deadline.
type patient struct{ *httptest.ResponseRecorder }

func (patient) SetWriteDeadline(time.Time) error { return nil }

// FuzzRequest: whatever an administrator's client sends, it gets one JSON object of a known kind, and the engine gets
// an order only with the answer 200. A reader orders nothing at all.
func FuzzRequest(f *testing.F) {
	for _, s := range []struct{ method, path, body string }{
		{"GET", "status", ""}, {"GET", "why?version=1.0.0", ""}, {"GET", "history?limit=-1", ""}, {"GET", "quarantine", ""}, {"GET", "nothing", ""},
		{"POST", "update", `{"version":"1.0.0","now":true}`}, {"POST", "update", `{}{}`}, {"POST", "pin", `{"version":"../x","reason":"` + strings.Repeat("x", 3000) + `"}`},
		{"POST", "pause", `{"until":"9999-12-31T23:59:59Z"}`}, {"POST", "rollback", strings.Repeat("[", 9000)}, {"POST", "clear", `{"version":null}`}, {"POST", "resume", "\x00"}, {"POST", "unpin", `{"unknown":1}`}, {"DELETE", "status", ""},
	} {
		f.Add(s.method, s.path, []byte(s.body), true)
		f.Add(s.method, s.path, []byte(s.body), false)
	}
	f.Fuzz(func(t *testing.T, method, path string, body []byte, admin bool) {
		to, err := url.Parse("http://launcher/v1/" + path)
		if err != nil || slices.ContainsFunc([]string{"events", "check", "self-update", "stacks", "metrics"}, func(s string) bool { return strings.Contains(to.Path, s) }) {
			return // no request, or one whose answer is no single JSON object or needs a connection
		}
		req, err := http.NewRequest(method, to.String(), bytes.NewReader(body))
		if err != nil {
			return
		}
		d := &desk{}
		s := NewServer(d, slog.New(slog.DiscardHandler))
		who := caller{name: "somebody", admin: admin, reader: true}
		out := patient{httptest.NewRecorder()}
		s.routes().ServeHTTP(out, req.WithContext(context.WithValue(req.Context(), callerKey{}, who)))
		if loc := out.Header().Get("Location"); loc != "" {
			return // the multiplexer cleans paths
		}
		var object map[string]any
		if err := json.Unmarshal(out.Body.Bytes(), &object); err != nil && method != http.MethodHead {
			t.Errorf("%s %s: %d, %v: %.200s", method, path, out.Code, err, out.Body)
		}
		switch out.Code {
		case http.StatusOK, http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusMethodNotAllowed:
		default:
			t.Errorf("%s %s: %d: %.200s", method, path, out.Code, out.Body)
		}
		if len(d.orders) > 0 && (out.Code != http.StatusOK || !admin) {
			t.Errorf("ordered %+v with answer %d, administrator %v", d.orders, out.Code, admin)
		}
		for _, o := range d.orders {
			if len(o.Reason) > 4<<10 || len(o.Number) > 4<<10 {
				t.Errorf("an order with a text of %d and %d bytes", len(o.Reason), len(o.Number))
			}
		}
	})
}

// FuzzHistory: whatever a history file has become, it is read within its bounds, and what is appended is the newest
// entry with the highest number.
func FuzzHistory(f *testing.F) {
	f.Add([]byte(""), 3)
	f.Add([]byte("{\"n\":1,\"to\":\"1.0.0\"}\n{\"n\":2"), 1)
	f.Add([]byte("\n\n{}\n[]\nnull\n{\"n\":-1}\n{\"n\":1e9}\n"), 20)
	f.Fuzz(func(t *testing.T, file []byte, limit int) {
		d := durabletest.New()
		if err := durable.WriteFile(d, "history.jsonl", file, 0o640); err != nil {
			t.Fatal(err)
		}
		limit = max(1, limit%50)
		before, err := ReadHistory(d, "history.jsonl", limit)
		if err != nil || len(before) > limit {
			t.Fatalf("%d entries, %v", len(before), err)
		}
		if err := AppendHistory(d, "history.jsonl", updater.Entry{To: "9.9.9"}); err != nil {
			t.Fatal(err)
		}
		after, err := ReadHistory(d, "history.jsonl", 1)
		if err != nil || len(after) != 1 || after[0].To != "9.9.9" || len(before) > 0 && after[0].N != before[0].N+1 {
			t.Errorf("%+v, %v; before %+v", after, err, before)
		}
	})
}
