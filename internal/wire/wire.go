// Package wire is the words that a launcher and its payloads say to each other, and nothing else: no
// sockets, no logic.
//
// One connection per payload process, made by the payload to the address in $TURNSTONE_WIRE (a unix
// socket, or a named pipe on Windows) and made again whenever it breaks. Each side writes one JSON object
// per line, at most MaxLine bytes. The payload speaks first (Hello with its token); the launcher closes
// the connection of a process that it does not know. Every order of the launcher carries an ID that the
// payload answers by one Ack with the same ID, once the thing asked for is true and not before.
package wire

import "time"

// Protocol is the version of these words. A release states the range that it speaks; one that does not
// fit is held back by policy, never started.
const Protocol = 1

// Bounds on what either side accepts.
const (
	MaxLine     = 64 << 10         // bytes of one message with its newline
	AckTimeout  = 1 * time.Second  // an accept or park that takes longer counts as hung
	YieldLimit  = 2 * time.Second  // a lease that is not given back by then ends its holder
	StatsPeriod = 1 * time.Second  // how often a payload reports its counters
	Orphan      = 15 * time.Minute // a payload that no launcher knows for this long ends itself
)

// Names of the environment variables that the launcher sets for a payload.
const (
	EnvWire    = "TURNSTONE_WIRE"     // address to dial
	EnvToken   = "TURNSTONE_TOKEN_FD" // inherited pipe (fd, or handle value on Windows) holding the token, read to EOF once
	EnvListen  = "TURNSTONE_LISTEN"   // inherited listeners: "http=4,admin=5" (fd or handle value)
	EnvAddr    = "TURNSTONE_ADDR"     // proxy mode, no inherited listeners: "http=127.0.0.1:40123"
	EnvVersion = "TURNSTONE_VERSION"  // the version number of this payload
	EnvData    = "TURNSTONE_DATA"     // the only folder that the payload may write
)

// Kind says which fields of a Message count.
type Kind string

const (
	// Payload to launcher.
	Hello Kind = "hello" // Token, PID, Protocol, Fence: first message on every connection
	Ready Kind = "ready" // Health: the program can serve; sent again after a reconnection
	Ack   Kind = "ack"   // ID, Error: the order with that ID is done, or failed with Error
	Count Kind = "count" // Stats: totals since the process began
	Hold  Kind = "hold"  // Busy: please do not switch now (nil Busy clears it)
	Want  Kind = "want"  // Fence: the program waits for the lease, the last of which had that number, if any
	// Launcher to payload.
	Welcome Kind = "welcome" // the token was accepted
	Accept  Kind = "accept"  // ID: take new connections (un-park); acknowledged when the accept loop runs
	Park    Kind = "park"    // ID: stop taking connections, send clients elsewhere, stay alive
	Drain   Kind = "drain"   // ID, Grace: finish, close and exit 0; acknowledged when begun
	Grant   Kind = "grant"   // ID, Fence: the lease is yours
	Yield   Kind = "yield"   // ID: give the lease back; acknowledged when its context has ended
	Sockets Kind = "sockets" // ID: send the listening sockets back (SCM_RIGHTS beside the ack; handle values on Windows)
)

// Message is every message in both directions; Kind says which fields count.
type Message struct {
	Kind     Kind     `json:"kind"`
	ID       uint64   `json:"id,omitempty"`
	Error    string   `json:"error,omitempty"`
	Token    string   `json:"token,omitempty"`
	PID      int      `json:"pid,omitempty"`
	Protocol int      `json:"protocol,omitempty"`
	Health   string   `json:"health,omitempty"` // host:port of the private health listener, "" if none
	Fence    uint64   `json:"fence,omitempty"`
	Grace    *Grace   `json:"grace,omitempty"`
	Stats    *Stats   `json:"stats,omitempty"`
	Busy     *Busy    `json:"busy,omitempty"`
	Names    []string `json:"names,omitempty"`   // listeners, in the order of the sockets sent
	Handles  []uint64 `json:"handles,omitempty"` // Windows: their handle values in the payload, in the same order
}

// Grace bounds a drain.
type Grace struct {
	Deadline time.Duration `json:"deadline"` // from receipt: what is still open is then cut and counted
	Idle     time.Duration `json:"idle"`     // an idle connection is left alone this long first
	Stream   time.Duration `json:"stream"`   // upgraded connections and streams: their own deadline
}

// Stats are totals since the process began, except Open, Active, Idle and Streams, which are levels.
type Stats struct {
	Requests  uint64 `json:"requests"`  // answers finished, of every class
	Errors5xx uint64 `json:"errors5xx"` // answers with status 500..599, and handlers that panicked
	Errors4xx uint64 `json:"errors4xx"`
	Open      int    `json:"open"`    // connections open now, streams included
	Active    int    `json:"active"`  // of these, with a request inside or not yet heard of
	Idle      int    `json:"idle"`    // of these, between two requests
	Streams   int    `json:"streams"` // of these, upgraded (hijacked)
	Cut       uint64 `json:"cut"`     // connections closed by a deadline with work inside
}

// Busy asks the launcher not to switch yet.
type Busy struct {
	Reason string        `json:"reason"`
	For    time.Duration `json:"for"` // at most; the request ends by itself
}
