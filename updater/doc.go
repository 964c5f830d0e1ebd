// Package updater moves a service from one version to the next without a gap, and back again by itself
// when the next one turns out bad.
//
// An update is the nine rows of one table (table.go): each phase has a step of work, the phase that
// follows when it is done, and the phase that follows when it is not. Updater.Run is the only loop and the
// only writer: it saves the whole State, does the step, follows the edge, and begins again.
//
// # What holds
//
//   - One record says what is active: State.Good[0]. The roles do not move when the traffic does; until its
//     probation is over a candidate is only a candidate, and commit is one write that puts it in front.
//   - No forward step begins before the state that calls for it is saved. So whatever cuts the launcher
//     short, the next one finds the step in the journal and does it again: every step is idempotent and
//     begins by making true what it needs.
//   - A step works on a copy of the State. When it fails the copy is dropped, except for the probation
//     that has been counted.
//   - The verdict on a candidate and the mark that keeps it from being chosen again (quarantine, hold) are
//     one write, made before anything is taken away. A cut after it cannot bring the version back.
//   - In probation and reverting a journal that cannot be written delays nothing: the traffic goes where it
//     must, an alarm is given, and the write is tried again. Everything else waits for the journal.
//   - Gates hold back what is newly chosen only. Serving, and going back, ask neither the network nor the
//     metadata nor a gate.
//
// # Errors
//
// A step ends in one of five ways. Done. Bad: evidence against this digest, made with the function Bad; the
// right-hand edge and quarantine. Refused: what arrived is not what the vendor signed, made with the function
// Refused; evidence against the source that sent it and against no version, so the right-hand edge at once,
// without quarantine, and the same release again after a back-off. World, which is every other error: the
// machine, the network or a neighbour was at fault, so the same step is tried again after a back-off, and after
// the third start of a phase its right-hand edge is taken without quarantine. Stopped: the context ended or an
// order came; the phase is kept.
//
// # Orders
//
// Pin, pause, rollback and the like are values. Updater.Order hands one to Run, which interrupts the step if
// that step may be interrupted (idle, fetching, staging, warming, probation; the others are short and move
// traffic), applies the order by a pure function, saves, and goes on. A version that was committed and then
// fails is left by the same order that an operator gives: a rollback is a forward update to an older version.
//
// # At boot
//
// Run first makes the right version serve: the candidate in probation, Good[0] in every other phase, else
// the next good one, else the newest proven one in the store. It does so with a journal that is damaged, or
// from a newer launcher, or missing.
//
// # What it does not do
//
// It starts no goroutine and no process, opens no connection and no file of its own. The network is behind
// Feed, living processes and traffic are behind Site, durable bytes are behind journal and store. It does not
// watch a committed version; the launcher does, and sends a rollback order when it crash-loops.
package updater
