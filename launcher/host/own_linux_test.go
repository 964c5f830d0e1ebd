package host

import (
	"os"
	"strconv"
	"testing"
)

// A number that a thread has by now is that of no process: who had it is dead.
func TestThreadIsNoProcess(t *testing.T) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, th := range threads {
		n, err := strconv.Atoi(th.Name())
		if err != nil || n == os.Getpid() {
			continue
		}
		tried++
		if o, err := openPID(n); o != nil || err != nil {
			t.Errorf("thread %d: %v, %v", n, o, err)
		}
	}
	if tried == 0 {
		t.Error("this program has one thread")
	}
}
