package updater

import (
	"errors"

	"github.com/turnstone-go/turnstone/updater/journal"
)

// Errors with which Order refuses. The text that goes with them says what to do.
var (
	ErrNothing    = errors.New("nothing to do")
	ErrNoPrevious = errors.New("no version to go back to")
	ErrOrder      = errors.New("not an order")
	ErrTooMany    = errors.New("too many orders are waiting")
	ErrStalled    = errors.New("updates wait until the journal can be used, see the alarm in the status")
)

// ErrHeld is why an ordered update did not begin: no release passed every gate.
var ErrHeld = errors.New("held back by policy")

// ErrCurrent is why an ordered update did not begin: the channel offers nothing newer.
var ErrCurrent = errors.New("nothing newer is offered")

// ErrNoActive says that no version could be made to serve.
var ErrNoActive = errors.New("no version serves")

// errStranded ends a way back when every version before the candidate is broken.
var errStranded = errors.New("no version to go back to can be started")

// Internal causes that end a step without being failures of it.
var (
	errOrder   = errors.New("an order came") // the step is done again after it
	errHalfWay = errors.New("the engine ended while it carried out the order, which may hold or not; see the status")
	errPoll    = errors.New("time to ask the channel")
)

// Bad marks err as evidence against the version at hand: it exited, its probe failed while the baseline was
// healthy, or the vendor's second signature does not match the bytes that the vendor's metadata names. The
// version is turned away and quarantined.
func Bad(err error) error {
	if err == nil {
		return nil
	}
	return &turned{journal.Bad, err}
}

// Refused marks err as evidence against whoever sent something: the bytes or the metadata that arrived are not
// what the vendor signed. It says nothing about the version, which is turned away at once, without a mark, and
// tried again after a back-off, when another answer may come.
func Refused(err error) error {
	if err == nil {
		return nil
	}
	return &turned{journal.Refused, err}
}

// unready marks err as the machine's fault, and as one that trying again at once does not mend: the candidate
// is turned away without a mark, and chosen again after a back-off.
func unready(err error) error { return &turned{journal.World, err} }

// turned is an error that turns a candidate away.
type turned struct {
	verdict journal.Verdict
	err     error
}

func (t *turned) Error() string { return t.err.Error() }
func (t *turned) Unwrap() error { return t.err }

// final says that err was marked: the step is not tried again.
func final(err error) bool {
	var t *turned
	return errors.As(err, &t)
}

// blame returns the verdict that err amounts to.
func blame(err error) journal.Verdict {
	var t *turned
	if errors.As(err, &t) {
		return t.verdict
	}
	return journal.World
}
