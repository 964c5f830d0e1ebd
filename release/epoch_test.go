package main

import (
	"errors"
	"testing"

	"github.com/turnstone-go/turnstone/manifest"
)

// A thief of a pipeline has spent epochs far above the vendor's, and a host has taken his release. With other keys and
// an epoch above his the vendor has the host back; without other keys nobody goes so far that nothing could follow.
func TestEpochsSpentByAThief(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add("1.0.0")
	b.publish()
	host, other := b.host("stable"), b.host("stable")
	for _, h := range []*manifest.Client{host, other} {
		if _, err := b.refresh(h); err != nil {
			t.Fatal(err)
		}
	}
	thief := *b
	thief.dir = copyTree(t, b.dir)
	closeKeys(t, thief.dir)
	thief.public = t.TempDir()
	thief.add("6.6.6", "--epoch", "4000000000")
	thief.publish()
	if view, err := thief.refresh(host); err != nil || view.Channel.Offers[0].Epoch != 4_000_000_000 {
		t.Fatalf("before the keys are replaced: %+v, %v", view, err)
	}

	program := b.build("1.0.1", "linux_amd64", "program 1.0.1")
	contains(t, b.must(codeUsage, "add", "1.0.1", program, "--epoch", "1").err, "2 is the next")
	contains(t, b.must(codeUsage, "add", "1.0.1", program, "--epoch", "9007199254740991").err, "too far above")
	for _, role := range []string{"stable", "snapshot", "timestamp"} {
		b.must(0, "keys", "replace", role)
	}
	b.must(0, "add", "1.0.1", program, "--epoch", "4000000001")
	b.publish()
	for _, h := range []*manifest.Client{host, other, b.host("stable")} {
		view, err := b.refresh(h)
		if err != nil || view.Channel.Offers[0] != (manifest.Offer{Version: "1.0.1", Epoch: 4_000_000_001, Share: manifest.AllHosts}) {
			t.Errorf("after: %+v, %v", view, err)
		}
	}
	if _, err := thief.refresh(host); !errors.Is(err, manifest.ErrSignature) {
		t.Errorf("what the thief published: %v", err)
	}
}
