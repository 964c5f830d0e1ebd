package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal: what is typed goes into the first, the program has the second.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return person, program
}

// typed runs the program on a terminal, answers its prompts one after the other, and returns what the screen showed.
func typed(t *testing.T, answers []string, args ...string) (screen string, code int) {
	t.Helper()
	person, inside := terminal(t)
	cmd := program(t, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inside, inside, inside
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = inside.Close() // the program has it
	var shown bytes.Buffer
	for next, seen := 0, 0; ; {
		buf := make([]byte, 4096)
		n, err := person.Read(buf)
		shown.Write(buf[:n])
		if err != nil { // the program has ended
			break
		}
		// A prompt is a line that waits: it ends with a colon and a blank. The echo is off before it is printed or
		// after; only what is typed then matters, so it is typed when the program reads without echo.
		if text := shown.String()[seen:]; strings.HasSuffix(text, ": ") && next < len(answers) {
			waitSilent(t, person)
			seen = shown.Len()
			if _, err := person.WriteString(answers[next] + "\n"); err != nil {
				t.Fatal(err)
			}
			next++
		}
	}
	_ = cmd.Wait() // the code says it
	return shown.String(), cmd.ProcessState.ExitCode()
}

// waitSilent waits until the terminal no longer echoes.
func waitSilent(t *testing.T, terminal *os.File) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		if state.Lflag&unix.ECHO == 0 {
			return
		}
	}
	t.Fatal("the terminal shows what is typed")
}

// A person types passphrases without seeing them; two that differ, or a wrong one, change nothing.
func TestPrompt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	plain := b.keyData("stable")
	screen, code := typed(t, []string{"correct horse", "correct house"}, "keys", "encrypt", "stable", "--dir", b.dir)
	if code != codePreflight || !bytes.Equal(plain, b.keyData("stable")) {
		t.Errorf("two that differ: exit %d: %s", code, screen)
	}
	contains(t, screen, "new passphrase: ", "the same again: ", "differ")
	if screen, code = typed(t, []string{"correct horse", "correct horse"}, "keys", "encrypt", "stable", "--dir", b.dir); code != 0 {
		t.Fatalf("exit %d: %s", code, screen)
	}
	if strings.Contains(screen, "horse") {
		t.Errorf("the screen shows what was typed: %s", screen)
	}
	program := b.build("1.0.0", "linux_amd64", "x")
	if screen, code = typed(t, []string{"wrong"}, "add", "1.0.0", program, "--dir", b.dir); code != codePreflight {
		t.Errorf("a wrong one: exit %d: %s", code, screen)
	}
	contains(t, screen, "passphrase of stable: ", "wrong passphrase")
	if screen, code = typed(t, []string{"correct horse"}, "add", "1.0.0", program, "--dir", b.dir); code != 0 {
		t.Errorf("the right one: exit %d: %s", code, screen)
	}
	b.publish()
	if got := b.verify(b.public).versions("stable"); got != "1.0.0" {
		t.Errorf("stable has %q", got)
	}
}
