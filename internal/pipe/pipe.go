// Package pipe says by which name a launcher's named pipe is made and found on Windows.
//
// Pipes have one name space for the machine, and who makes a name first has it: any local user could take the place of
// a launcher that has not started yet, or that starts again. Names under ProtectedPrefix\Administrators can be made by
// administrators and LocalSystem only, and opened by whom the pipe's own access list lets in.
package pipe
