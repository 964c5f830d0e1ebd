package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/manifest"
)

// A program that takes its sockets by activation need not have a health page, and one without sockets has no
// address: by default neither is asked.
func TestConfigProbeFollowsKind(t *testing.T) {
	for kind, want := range map[string]string{"sdk": "http", "plain": "http", "activation": "none"} {
		file := smallest + fmt.Sprintf("[payload]\nkind = %q\n[[listen]]\nname = \"http\"\naddress = \":0\"\n", kind)
		if c, err := parseConfig(conf, []byte(file), false); err != nil || c.Health.Probe != want {
			t.Errorf("%s: %q, %v", kind, c.Health.Probe, err)
		}
	}
	if c, err := parseConfig(conf, []byte(smallest+"[payload]\nkind = \"activation\"\n"), false); err != nil || c.Health.Probe != "none" {
		t.Errorf("%q, %v", c.Health.Probe, err)
	}
}

// Names are those that a repository can publish.
func TestConfigNames(t *testing.T) {
	for name, ok := range map[string]bool{"acme-agent": true, "3d": true, strings.Repeat("a", 64): true, "acme_agent": false, "acme-": false, "root": false, "timestamp": false, strings.Repeat("a", 65): false} {
		for _, old := range []string{`product = "acme"`, `channel = "beta"`} {
			file := strings.Replace(full, `product = "acme-agent"`, `product = "acme"`, 1)
			file = strings.Replace(file, old, old[:strings.Index(old, `"`)]+`"`+name+`"`, 1)
			if _, err := parseConfig(conf, []byte(file), false); (err == nil) != ok || (manifest.CheckName(name) == nil) != ok {
				t.Errorf("%s %q: %v", old, name, err)
			}
		}
	}
}
