package journal

import "time"

// Phase is where an update stands.
type Phase string

const (
	Idle       Phase = "idle"
	Fetching   Phase = "fetching"
	Staging    Phase = "staging"
	Warming    Phase = "warming"
	Switching  Phase = "switching"
	Probation  Phase = "probation"
	Retiring   Phase = "retiring"
	Reverting  Phase = "reverting"
	Discarding Phase = "discarding"
)

// Version is one immutable version for this host's platform, with all that is needed to fetch, verify
// and start it again without the network.
type Version struct {
	Number    string `json:"number"`            // semver, strict: 1.2.3 or 1.2.3-rc.1
	Digest    string `json:"digest"`            // sha256 of the artifact, 64 lower-case hex digits: the identity
	Epoch     uint64 `json:"epoch"`             // signed, grows with every release of the product
	File      string `json:"file"`              // base name of the artifact inside its store directory
	SizeBytes int64  `json:"size_bytes"`        // of the artifact
	Minisig   string `json:"minisig,omitempty"` // the artifact's minisign signature file, whole

	// Of an artifact that is an archive; empty for one that is the program itself.
	Format        string `json:"format,omitempty"`         // as in internal/archive
	Main          string `json:"main,omitempty"`           // path of the program in it
	UnpackedBytes int64  `json:"unpacked_bytes,omitempty"` // of all its files together
}

// Verdict is why a candidate was turned away; it decides what discarding does with it.
type Verdict string

const (
	None       Verdict = ""
	Bad        Verdict = "bad"        // evidence against this digest: quarantined
	World      Verdict = "world"      // the machine or the network was at fault: tried again later
	Refused    Verdict = "refused"    // what arrived is not what the vendor signed: evidence against the source alone, tried again later
	Superseded Verdict = "superseded" // a newer release came while this one was not yet serving
	Yanked     Verdict = "yanked"     // the vendor took it back
	Operator   Verdict = "operator"   // an operator went back: held
)

// Mark names a version that is not chosen again until cleared or superseded.
type Mark struct {
	Number string    `json:"number"`
	Digest string    `json:"digest"`
	Config string    `json:"config"`          // hash of the configuration it failed under: quarantine only
	Epoch  uint64    `json:"epoch,omitempty"` // of the release that failed: quarantine only, and 0 in old records
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// Pin keeps the host on one version; Pause keeps it from starting updates. A zero Until has no end.
type Pin struct {
	Number string    `json:"number"`
	Reason string    `json:"reason"`
	Until  time.Time `json:"until,omitzero"`
}

type Pause struct {
	Reason string    `json:"reason"`
	Until  time.Time `json:"until,omitzero"`
}

// Want is an operator's order to update, kept until the engine has acted on it.
type Want struct {
	Number string `json:"number,omitempty"` // "" is whatever the channel offers
	Newest bool   `json:"newest,omitempty"` // no number was named: a newer release may take the place of Number on its way
	Now    bool   `json:"now,omitempty"`    // skips the gates that only wait (share, pause), never trust or quarantine
}

// State is everything that an update must remember across a crash. It is saved whole, once per
// transition, and is the only place that says which version is active.
type State struct {
	Phase      Phase         `json:"phase"`
	Good       []Version     `json:"good"` // newest first: active, previous, then the last-known-good chain
	Candidate  *Version      `json:"candidate,omitempty"`
	Quarantine []Mark        `json:"quarantine,omitempty"` // at most 64, oldest dropped
	Held       []Mark        `json:"held,omitempty"`       // at most 64
	HighWater  uint64        `json:"high_water"`           // largest epoch ever committed
	Remaining  time.Duration `json:"remaining,omitempty"`  // of probation, counted and not dated
	Boots      int           `json:"boots,omitempty"`      // launcher starts in this probation without a clean mark
	Starts     int           `json:"starts,omitempty"`     // of the step in this phase
	Clean      bool          `json:"clean,omitempty"`      // the launcher was stopped in order
	Verdict    Verdict       `json:"verdict,omitempty"`
	Reason     string        `json:"reason,omitempty"` // why the last step failed
	Pin        *Pin          `json:"pin,omitempty"`
	Pause      *Pause        `json:"pause,omitempty"`
	Want       *Want         `json:"want,omitempty"`
}
