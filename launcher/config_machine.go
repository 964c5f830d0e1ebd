package main

import (
	"fmt"
	"os"
	"os/user"

	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/host"
	"github.com/turnstone-go/turnstone/launcher/relay"
)

// checkMachine says what is right in the file but not true on this machine.
func (c Config) checkMachine() error {
	doc, err := reread(c.File)
	if err != nil {
		return err
	}
	if st, err := os.Stat(c.Repository.Root); err != nil || !st.Mode().IsRegular() {
		doc.bad("repository.root", "copy the root.json that the vendor ships to this path", "cannot read %s", c.Repository.Root)
	} else if err := host.CheckFile(c.Repository.Root); err != nil {
		return err
	}
	if err := host.CheckFile(c.File); err != nil {
		return err
	}
	if err := child.CheckAccount(c.Payload.User); err != nil {
		doc.bad("payload.user", child.AccountHint, "%v", err)
	}
	if err := child.CheckKind(child.Kind(c.Payload.Kind)); err != nil {
		doc.bad("payload.kind", `use "sdk" (imports the payload package) or "plain" (any program)`, "%v", err)
	}
	for i, l := range c.Listen {
		if err := relay.CheckAddress(l.Address); err != nil {
			doc.bad(fmt.Sprintf("listen[%d].address", i), `write "host:port" with an IP address or "localhost", or ":port"`, "%v", err)
		}
	}
	return doc.err()
}

// checkReaders says whether read_group is one that is known now. Unlike what checkMachine finds it keeps nobody from
// serving: at a cold start a domain may not answer yet.
func (c Config) checkReaders() error {
	g := c.Control.ReadGroup
	if g == "" {
		return nil
	}
	doc, err := reread(c.File)
	if err != nil {
		return err
	}
	if _, err := user.LookupGroup(g); err != nil {
		doc.bad("control.read_group", "make the group, or remove the key", "%v", err)
	}
	return doc.err()
}

// reread takes a file apart that was found right before.
func reread(file string) (*document, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return parseDocument(file, data)
}
