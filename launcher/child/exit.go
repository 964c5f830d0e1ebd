package child

import (
	"fmt"
	"time"
)

// Exit is how a process ended.
type Exit struct {
	Code    int           // exit code, when Signal is "" and Adopted is false
	Signal  string        // the signal that ended it ("killed"), else ""
	Adopted bool          // it was adopted and somebody else reaped it: its code is not known
	At      time.Time     // when the launcher saw it; zero while it runs
	Ran     time.Duration // since its start, or since its adoption
}

// String says it for people: "exit code 2 after 1.3s", "signal: killed after 4s", "unknown (adopted)".
func (e Exit) String() string {
	switch ran := e.Ran.Round(time.Millisecond); {
	case e.At.IsZero():
		return "still running"
	case e.Adopted:
		return "unknown (adopted)"
	case e.Signal != "":
		return fmt.Sprintf("signal: %s after %v", e.Signal, ran)
	default:
		return fmt.Sprintf("exit code %d after %v", e.Code, ran)
	}
}
