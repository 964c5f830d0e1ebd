package payload

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
)

func TestParsePairs(t *testing.T) {
	got, err := parsePairs("http=4,admin=127.0.0.1:80")
	if want := []pair{{"http", "4"}, {"admin", "127.0.0.1:80"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"http", "=4", "http=", "http=4,", "http=4,http=5"} {
		if got, err := parsePairs(bad); err == nil {
			t.Errorf("%q gives %v", bad, got)
		}
	}
}

func TestBusyEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []string
		b := newBusy(func(b *wire.Busy) {
			if b == nil {
				said = append(said, "free")
			} else {
				said = append(said, b.Reason+" "+b.For.String())
			}
		})
		short := b.add("short", time.Second)
		b.add("long", time.Minute)
		time.Sleep(10 * time.Second)
		short() // over already
		time.Sleep(time.Hour)
		synctest.Wait()
		want := []string{"short 1s", "long 1m0s", "long 59s", "free"}
		if !slices.Equal(said, want) {
			t.Errorf("it said %q, want %q", said, want)
		}
	})
}

// Nobody stands beside a program alone: what waits in its queue when it is told to stop would be reset.
func TestDrainEmptiesItsOwnQueue(t *testing.T) {
	p := newProgram(environment{}, nil)
	ln, err := p.listen("http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	waiting, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	d := &drainage{p: p, grace: defaultGrace, begin: time.Now()}
	if !d.look(d.begin) || !p.openGates()[0].isOpen() {
		t.Fatal("the listener is shut, and nobody has looked into its queue")
	}
	if c, err := ln.Accept(); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	if !d.look(d.begin.Add(queueAccept)) || p.openGates()[0].isOpen() {
		t.Error("its listener is not shut, or without another look at what came last")
	}
}

// sink is the far end of a connection.
type sink struct {
	net.Conn
	bytes.Buffer
}

func (s *sink) Write(b []byte) (int, error) { return s.Buffer.Write(b) }
func (s *sink) Read(b []byte) (int, error)  { return s.Buffer.Read(b) }

// FuzzFrames: however the frames are cut into writes and whenever the GOAWAY is wanted, what comes out is
// the same frames, with one GOAWAY between two of them and not before the first.
func FuzzFrames(f *testing.F) {
	for seed := range uint64(50) {
		f.Add(seed, uint16(3+seed), uint16(seed*7))
	}
	f.Fuzz(func(t *testing.T, seed uint64, cut, when uint16) {
		r := rand.New(rand.NewPCG(seed, 0))
		var all [][]byte
		for range 1 + r.IntN(10) {
			body := make([]byte, r.IntN(40))
			all = append(all, append([]byte{0, 0, byte(len(body)), 1, 0, 0, 0, 0, 1}, body...))
		}
		in := bytes.Join(all, nil)
		out := &sink{}
		c := &frames{Conn: out, leaving: func() bool { return false }}
		wanted := false
		for sent := 0; len(in) > 0; {
			n := min(len(in), 1+r.IntN(int(cut)%64+1))
			if sent >= int(when)%256 && !wanted {
				wanted = true
				c.goAway()
			}
			if _, err := c.Write(in[:n]); err != nil {
				t.Fatal(err)
			}
			in, sent = in[n:], sent+n
		}
		checkFrames(t, out.Bytes(), all, wanted)
	})
}

func checkFrames(t *testing.T, out []byte, frames [][]byte, wanted bool) {
	t.Helper()
	said := 0
	for i := 0; len(out) > 0; {
		if i > 0 && bytes.HasPrefix(out, []byte(lastStream)) {
			said++
			out = out[len(lastStream):]
			continue
		}
		if i >= len(frames) || !bytes.HasPrefix(out, frames[i]) {
			t.Fatalf("frame %d is torn: %x", i, out)
		}
		out = out[len(frames[i]):]
		i++
	}
	if said > 1 || wanted && said == 0 {
		t.Errorf("GOAWAY was said %d times", said)
	}
}

// The methods that net/http's own writers have beyond the interface must be there, and no others.
func TestWritersAreComplete(t *testing.T) {
	var w1, w2 any = &writer1{}, &writer2{}
	for what, ok := range map[string]bool{
		"1 Flusher":      is[http.Flusher](w1),
		"1 Hijacker":     is[http.Hijacker](w1),
		"1 ReaderFrom":   is[io.ReaderFrom](w1),
		"1 StringWriter": is[io.StringWriter](w1),
		"1 not Pusher":   !is[http.Pusher](w1),
		"2 Flusher":      is[http.Flusher](w2),
		"2 Pusher":       is[http.Pusher](w2),
		"2 StringWriter": is[io.StringWriter](w2),
		"2 not Hijacker": !is[http.Hijacker](w2),
	} {
		if !ok {
			t.Error(what)
		}
	}
}

func is[T any](v any) bool {
	_, ok := v.(T)
	return ok
}
