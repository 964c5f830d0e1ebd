package durable

import (
	"fmt"
	"strings"
)

// blame adds to an error that somebody else caused who that was, as far as the system tells: an operator can
// only help if he knows which program to close. Other errors stay as they are.
func blame(err error, name string, holders func(name string) []string) error {
	if err == nil || !transient(err) {
		return err
	}
	who := "holder unknown"
	if list := holders(name); len(list) > 0 {
		who = "held by " + strings.Join(list[:min(len(list), 5)], ", ")
	}
	return fmt.Errorf("%w (%s)", err, who)
}
