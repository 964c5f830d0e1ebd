package manifest

import (
	"errors"
	"fmt"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// ErrVerify is below every refusal: what was read is not what the vendor signed for this host, or not
// any more. Errors of the network and the disk are passed through without it.
var ErrVerify = errors.New("verification failed")

// What a refusal can be about. Each one satisfies errors.Is(err, ErrVerify).
var (
	// ErrDocument is a document or metadata file that is malformed, not canonical or out of bounds.
	ErrDocument = refusal("malformed document")
	// ErrSignature is too few valid signatures of the keys that must sign, or a wrong minisign signature.
	ErrSignature = refusal("signature not valid")
	// ErrExpired is metadata whose time is over: a mirror that was left behind, or one that hides news.
	ErrExpired = refusal("signed metadata has expired; the vendor must publish anew, or this machine's clock is wrong")
	// ErrRollback is a version number lower than one already seen, or other than the one signed above it.
	ErrRollback = refusal("wrong version number")
	// ErrOlder is a genuine timestamp of lower version than one already seen: a mirror that was left behind, or one
	// that replays. It is an ErrRollback.
	ErrOlder = fmt.Errorf("%w: older than what is known here", ErrRollback)
	// ErrMismatch is bytes whose length or digest is not the signed one.
	ErrMismatch = refusal("length or digest differs from the signed one")
	// ErrPath is a target outside the path rule or outside its role's folder.
	ErrPath = refusal("target path not allowed")
	// ErrHash is a target without exactly one sha256 digest.
	ErrHash = refusal("exactly one sha256 digest expected")
	// ErrDelegation is a delegation other than one path-scoped role per channel.
	ErrDelegation = refusal("delegation not allowed")
	// ErrRoots is more new roots than one refresh follows; the next refresh goes on from there.
	ErrRoots = refusal("too many new roots")
	// ErrDamaged is a file of the trust folder that no longer verifies.
	ErrDamaged = refusal("trust folder damaged")
	// ErrFloor is a channel whose min_epoch is lower than one already seen.
	ErrFloor = refusal("the least epoch was lowered")
	// ErrDowngrade is a channel that offers nothing but releases below its own min_epoch.
	ErrDowngrade = refusal("all that is offered is below the least epoch")
	// ErrLeap is a channel whose newest epoch is farther above the one already seen than releases ever take it.
	ErrLeap = refusal("the newest epoch is too far above the last one")
	// ErrClock is a channel signed at a time later than the end of the metadata that carries it.
	ErrClock = refusal("signed time is later than the expiry")

	ErrWrongProduct  = refusal("document of another product")
	ErrWrongChannel  = refusal("document of another channel")
	ErrWrongVersion  = refusal("document of another version")
	ErrWrongPlatform = refusal("nothing for this platform")
	// ErrComment is a valid minisign signature whose trusted comment names another artifact.
	ErrComment = refusal("trusted comment names another artifact")
)

func refusal(text string) error { return fmt.Errorf("%w: %s", ErrVerify, text) }

// fromTUF gives an error of go-tuf its place among the refusals. Everything that go-tuf returns is about
// the bytes it was given, since it does no input or output here.
func fromTUF(file string, err error) error {
	kind := ErrDocument
	switch {
	case errors.Is(err, &metadata.ErrExpiredMetadata{}):
		return fmt.Errorf("%w (%v)", ErrExpired, err) // it may be a file above this one, which err names
	case errors.Is(err, &metadata.ErrBadVersionNumber{}):
		kind = ErrRollback
	case errors.Is(err, &metadata.ErrUnsignedMetadata{}):
		kind = ErrSignature
	case errors.Is(err, &metadata.ErrLengthOrHashMismatch{}):
		kind = ErrMismatch
	}
	return fmt.Errorf("%s: %w (%v)", file, kind, err)
}
