package e2e

import "testing"

// A release of another platform's change has the bytes that run here already: nothing is switched, and nobody waits
// for it.
func TestSameBytesAgain(t *testing.T) {
	s := launched(t, quick(nil))
	publish(t, s, "1.1.0", example(t, "1.0.0", ""))
	unmoved(t, s, func() { says(t, operator(t, s, 3, "update", "--now", "--follow"), "its bytes are those of 1.0.0") })
	publish(t, s, "1.2.0", example(t, "1.2.0", ""))
	operator(t, s, 0, "update", "--now", "--follow")
	serving(t, s, "1.2.0")
}

// Bytes that failed are tried again when the vendor releases them anew, and not before.
func TestFailedBytesAreReleasedAnew(t *testing.T) {
	s := launched(t, quick(nil))
	bad := example(t, "1.1.0", "ready-then-die")
	publish(t, s, "1.1.0", bad)
	operator(t, s, 14, "update", "--now", "--follow")
	says(t, operator(t, s, 10, "update", "--now", "--follow"), "or the vendor releases it anew")
	publish(t, s, "1.2.0", bad)
	operator(t, s, 14, "update", "--now", "--follow")
	operator(t, s, 10, "update", "--now", "--follow")
	serving(t, s, "1.0.0")
}
