package control

import "fmt"

// Code is an outcome as programs see it: the exit code of the command line, and "code" in the API. The
// numbers are stable.
type Code int

const (
	OK            Code = 0
	Internal      Code = 1
	Usage         Code = 2
	NothingToDo   Code = 3
	NotHealthy    Code = 4
	NotRunning    Code = 5  // no launcher answered; reads are answered from the journal
	HeldBack      Code = 10 // by policy: pin, pause, share, quarantine, hold
	NotVerified   Code = 11 // a signature, a digest or the freshness of the metadata
	NotDownloaded Code = 12
	NotPrepared   Code = 13 // preflight: space, memory, permissions
	NeverHealthy  Code = 14 // the candidate was turned away before anything moved
	RolledBack    Code = 20 // switched, and back again; exclusive: the old version was stopped, and started again
	NoWayBack     Code = 21
	NoPrivilege   Code = 30
)

var reasons = map[Code]string{
	OK: "ok", Internal: "internal_error", Usage: "usage", NothingToDo: "nothing_to_do", NotHealthy: "unhealthy",
	NotRunning: "launcher_not_running", HeldBack: "held_back", NotVerified: "verification_failed",
	NotDownloaded: "download_failed", NotPrepared: "preflight_failed", NeverHealthy: "never_healthy",
	RolledBack: "rolled_back", NoWayBack: "rollback_impossible", NoPrivilege: "no_privilege",
}

// String returns the code's stable word.
func (c Code) String() string {
	if s, ok := reasons[c]; ok {
		return s
	}
	return fmt.Sprintf("code_%d", int(c))
}

// Error is a refusal or a failure with its code. Text is for people and says what to do next.
type Error struct {
	Code Code
	Text string
}

func (e *Error) Error() string { return e.Text }
