package main

import (
	"os"
	"testing"
)

// What the kernel says of this process is there and makes sense.
func TestProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/schedstat"); err != nil {
		t.Skip("the kernel keeps no account of its scheduler here: ", err)
	}
	before, err := cpuOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 50_000_000; n++ {
		if n%2 == 3 {
			t.Fatal(n)
		}
	}
	after, err := cpuOf(os.Getpid())
	if err != nil || after <= before {
		t.Errorf("after some work %v, before it %v: %v", after, before, err)
	}
	if rss, err := rssOf(os.Getpid()); err != nil || rss < 1<<20 || rss > 1<<33 {
		t.Errorf("resident memory %d: %v", rss, err)
	}
}
