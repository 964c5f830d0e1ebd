// Package relay owns the public listening sockets and moves their connections between versions without
// losing one.
//
// A Socket is created once and lives as long as the launcher. Its accept queue is in the kernel and
// outlives every payload, so a client that connects while nobody accepts waits and is not refused. In
// handoff mode payloads inherit the Socket and accept by themselves. In proxy mode a Proxy accepts and
// forwards each connection to the private listener of one version, its Target.
//
// The invariant of the Proxy: picking the target of a connection and counting it there are one atomic
// step. So once Switch has returned, no connection that is still to come reaches the displaced target, and
// once Wait on it has returned nil as well, its process can be stopped and no client will notice. A
// version must never be told to stop before that: from the outside, an idle connection cannot be told from
// one whose request is on its way, and stopping at once was measured to lose two connections per switch.
//
// What relay does not do: it reads no byte of what it forwards, so it cannot end a keep-alive connection
// between two requests; such a connection stays with its version until it ends or is cut. It does not tell
// the payload the client's address. It has no idle timeout of its own; TCP keep-alive finds dead peers.
// UDP is out of scope.
package relay
