package child

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

// heard is a process of which nothing is real but what it says, and its connection.
func heard(t *testing.T, kind Kind) (*Process, *link) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	go func() { _, _ = io.Copy(io.Discard, theirs) }() // until the test closes it
	sum := sha256.Sum256([]byte("secret"))
	h := &Host{o: Options{Log: slog.New(slog.DiscardHandler), Disk: durabletest.New()}}
	p := h.process(Spec{Kind: kind, ReadyTimeout: time.Minute}, record{Token: hex.EncodeToString(sum[:])})
	p.handle = &handle{pid: 1}
	return p, &link{conn: ours, p: p, ended: make(chan struct{})}
}

// FuzzWire: whatever a payload says, and however it is cut into reads, it is not believed before its token, has the
// launcher probe nothing but this machine, and leaves no text that is long.
func FuzzWire(f *testing.F) {
	hello := `{"kind":"hello","token":"secret","protocol":1}` + "\n"
	for _, line := range []string{
		"", hello, `{"kind":"ready","health":"127.0.0.1:80"}` + "\n", hello + `{"kind":"ready","health":"127.0.0.1:80"}` + "\n", hello + `{"kind":"ready","health":"10.0.0.1:80"}` + "\n",
		hello + `{"kind":"ack","id":1,"error":"x","handles":[1]}` + "\n", hello + `{"kind":"hold","busy":{"reason":"` + strings.Repeat("x", 9000) + `","for":9223372036854775807}}` + "\n",
		hello + `{"kind":"count","stats":{"open":-1,"requests":18446744073709551615}}` + "\n", hello + `{"kind":"want"}` + "\n" + `{"kind":"want"}` + "\n", hello + "[]\n", strings.Repeat("[", 10000) + "\n",
		`{"kind":"hello","token":"Secret","protocol":1}` + "\n", hello + `{"kind":"hold","busy":null}` + "\n" + `{"kind":"novelty"}` + "\n",
	} {
		f.Add([]byte(line), uint16(7))
	}
	f.Fuzz(func(t *testing.T, said []byte, cut uint16) {
		p, l := heard(t, SDK)
		greeted, known := false, false
		var have []byte
		for at := 0; at < len(said); {
			n := min(len(said)-at, int(cut)%1024+1)
			have = append(have, said[at:at+n]...)
			at += n
			rest, err := l.lines(have, &greeted)
			if err != nil {
				break
			}
			have = append([]byte(nil), rest...)
		}
		select {
		case <-p.found:
			known = true
		default:
		}
		if known && !strings.Contains(string(said), "secret") && !strings.Contains(string(said), `\u`) {
			t.Error("believed without its token")
		}
		if !known && (p.isReady || p.busy != nil || p.link != nil) {
			t.Error("heard before its hello")
		}
		if p.health != "" {
			if a, err := netip.ParseAddrPort(p.health); err != nil || !a.Addr().Unmap().IsLoopback() {
				t.Errorf("health at %q", p.health)
			}
		}
		if p.busy != nil && len(p.busy.Reason) > maxText+3 {
			t.Errorf("a reason of %d bytes", len(p.busy.Reason))
		}
	})
}

// FuzzNotify: whatever comes on a notify socket, the deadline moves forward and within its bound until the program
// is ready, which only READY=1 makes it, and then there is none.
func FuzzNotify(f *testing.F) {
	for _, text := range []string{"READY=1", "READY=1\nSTATUS=up\n", "STATUS=" + strings.Repeat("x", 9000), "EXTEND_TIMEOUT_USEC=18446744073709551615", "STOPPING=1\nREADY=0", "MAINPID=1\nFDSTORE=1\n\x00", "=\n==\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, _ := heard(t, Plain)
		before := p.deadline
		p.notified(text)
		if p.isReady != p.deadline.IsZero() {
			t.Errorf("ready %v, deadline %v", p.isReady, p.deadline)
		}
		if !p.isReady && (p.deadline.Before(before) || p.deadline.After(p.began.Add(extendLimit))) {
			t.Errorf("the deadline is %s after the start", p.deadline.Sub(p.began))
		}
		if p.isReady && !strings.Contains(text, "READY=1") {
			t.Error("ready without a word")
		}
		if len(p.status) > maxText+3 {
			t.Errorf("a status of %d bytes", len(p.status))
		}
	})
}
