//go:build linux || windows

package payload

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
)

func TestLauncherDiesAndComesBack(t *testing.T) {
	public := listenTCP(t)
	l := newLauncher(t)
	p := l.start("serve", public)
	health := p.ready()
	p.accept()
	if h := p.hellos[0]; h.Protocol != wire.Protocol {
		t.Errorf("hello says protocol %d", h.Protocol)
	}
	l.down()
	for range 20 {
		ask(t, public.Addr(), "/") // it goes on serving
	}
	l.up()
	p.until("hello and ready come again", func() bool { return len(p.hellos) == 2 && len(p.readys) >= 2 })
	if again := p.ready(); again != health {
		t.Errorf("health is asked at %s now, it was %s", again, health)
	}
	p.until("the counters come again", func() bool { return p.stats.Requests >= 20 })
	ask(t, public.Addr(), "/") // parked or not is not forgotten
	p.park()
	p.drain(wire.Grace{Deadline: time.Second})
	if err := p.ended(); err != nil {
		t.Error(err)
	}
}

func TestOrphanEndsItself(t *testing.T) {
	public := listenTCP(t)
	l := newLauncher(t)
	p := l.start("serve", public, "PAYLOAD_TEST_ORPHAN=200ms")
	p.ready()
	p.accept()
	l.down()
	if err := p.ended(); err != nil {
		t.Error(err)
	}
}

// The bound is a quarter of an hour, as the documents say: until then it serves, and soon after it has drained.
func TestOrphanHasAQuarterOfAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, begun := newProgram(environment{wire: filepath.Join(t.TempDir(), "nobody")}, nil), time.Now()
		go p.link.run()
		time.Sleep(15 * time.Minute)
		select {
		case <-p.done:
			t.Errorf("it has ended after %s", time.Since(begun))
		default:
		}
		select {
		case <-p.done:
		case <-time.After(2 * lastPause):
			t.Errorf("it has not ended after %s", time.Since(begun))
			p.drain(defaultGrace)
		}
	})
}

func TestLeaseNeverOverlaps(t *testing.T) {
	l := newLauncher(t)
	file := filepath.Join(t.TempDir(), "work")
	one := l.start("lease", nil, "PAYLOAD_TEST_FILE="+file)
	two := l.start("lease", nil, "PAYLOAD_TEST_FILE="+file)
	for _, p := range []*proc{one, two} {
		p.until("it wants the lease", func() bool { return p.wants >= 1 })
	}
	holder, other := one, two
	var want strings.Builder
	for fence := uint64(1); fence <= 6; fence++ {
		pid := holder.cmd.Process.Pid
		holder.order(wire.Message{Kind: wire.Grant, Fence: fence})
		awaitFile(t, file, fmt.Sprintf("%sbegin %d %d\n", want.String(), pid, fence))
		holder.order(wire.Message{Kind: wire.Yield})
		fmt.Fprintf(&want, "begin %[1]d %[2]d\nend %[1]d %[2]d\n", pid, fence)
		if got, _ := os.ReadFile(file); string(got) != want.String() {
			t.Fatalf("after yield %d the work says\n%s", fence, got)
		}
		holder, other = other, holder
	}
	if err := holder.try(wire.Message{Kind: wire.Grant, Fence: 2}); err == nil {
		t.Error("a fence that is over was taken")
	}
	one.until("it wants the lease again", func() bool { return one.wants >= 4 })
}

// awaitFile waits until file says want.
func awaitFile(t *testing.T, file, want string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // a poll of a file
		got, _ := os.ReadFile(file)
		if string(got) == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s says\n%s\nwant\n%s", file, got, want)
		}
	}
}

func TestLeaseIsKeptWhileTheLauncherIsDown(t *testing.T) {
	l := newLauncher(t)
	file := filepath.Join(t.TempDir(), "work")
	p := l.start("lease", nil, "PAYLOAD_TEST_FILE="+file)
	p.until("it wants the lease", func() bool { return p.wants >= 1 })
	p.order(wire.Message{Kind: wire.Grant, Fence: 7})
	awaitFile(t, file, fmt.Sprintf("begin %d 7\n", p.cmd.Process.Pid))
	l.down()
	l.up()
	p.until("hello comes again", func() bool { return len(p.hellos) == 2 })
	if fence := p.hellos[1].Fence; fence != 7 {
		t.Errorf("hello says fence %d", fence)
	}
	awaitFile(t, file, fmt.Sprintf("begin %d 7\n", p.cmd.Process.Pid))
	p.order(wire.Message{Kind: wire.Grant, Fence: 7}) // the same again is no news
	p.park()
	awaitFile(t, file, fmt.Sprintf("begin %[1]d 7\nend %[1]d 7\n", p.cmd.Process.Pid))
}

func TestStubbornHolderIsReported(t *testing.T) {
	l := newLauncher(t)
	file := filepath.Join(t.TempDir(), "work")
	p := l.start("lease", nil, "PAYLOAD_TEST_FILE="+file, "PAYLOAD_TEST_STUBBORN=1")
	p.until("it wants the lease", func() bool { return p.wants >= 1 })
	p.order(wire.Message{Kind: wire.Grant, Fence: 1})
	awaitFile(t, file, fmt.Sprintf("begin %d 1\n", p.cmd.Process.Pid))
	yield := p.send(wire.Message{Kind: wire.Yield})
	p.park() // is not held up by it
	p.until("the yield fails", func() bool { return p.acks[yield].Error != "" })
	l.down()
	l.up()
	p.until("hello comes again", func() bool { return len(p.hellos) == 2 })
	if fence := p.hellos[1].Fence; fence != 0 {
		t.Errorf("hello says fence %d of a lease that has ended", fence)
	}
	if err := p.try(wire.Message{Kind: wire.Grant, Fence: 2}); err == nil {
		t.Error("the lease was taken again while its work goes on")
	}
}

func TestAgent(t *testing.T) {
	l := newLauncher(t)
	p := l.start("agent", nil)
	health := p.ready()
	p.until("it is busy", func() bool { return p.busy != nil && p.busy.Reason == "warming up" })
	if body := ask(t, tcpAddr(health), "/healthz"); body != "ok\n" {
		t.Errorf("health says %q", body)
	}
	p.accept()
	p.until("it is busy no more", func() bool { return p.busy == nil })
	if err := terminate(t, p.cmd); err != nil {
		t.Fatal(err)
	}
	if err := p.ended(); err != nil {
		t.Error(err)
	}
}

type tcpAddr string

func (a tcpAddr) Network() string { return "tcp" }
func (a tcpAddr) String() string  { return string(a) }

func TestRunsAlone(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "PAYLOAD_TEST_ROLE=serve", "PAYLOAD_TEST_ADDR=127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	c := dialClient(t, tcpAddr(strings.TrimSpace(addr)))
	c.say(get)
	if _, closes := c.answer(); closes {
		t.Error("a program alone does not keep connections")
	}
	c.say("GET /slow?ms=300 HTTP/1.1\r\nHost: test\r\n\r\n")
	late := dialClient(t, tcpAddr(strings.TrimSpace(addr)))
	defer late.Close()
	if err := terminate(t, cmd); err != nil {
		t.Fatal(err)
	}
	c.answer()
	late.say(get)
	late.answer()
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM it ended with %v", err)
	}
}
