package host

// CheckFile returns nil if nobody but root can change the file, when we are root: who can write what a launcher
// goes by owns the launcher. The error says what to do and wraps ErrUnsafe. A file that is not there is for others
// to tell. On Windows every folder on the way to it counts as well.
func CheckFile(name string) error { return checkFile(name) }

// Privileged says whether this process has all rights of the machine: root, or an elevated administrator or
// LocalSystem on Windows.
func Privileged() bool { return privileged() }

// CheckSecret returns nil if nobody but its owner, the system and its administrators can use the file. The error
// says what to do and wraps ErrUnsafe.
func CheckSecret(name string) error { return checkSecret(name) }

// LetIn lets the members of a group walk through our folder to what is open to them inside, and not list it. A
// folder that everybody may walk through stays so. On Windows nobody walks: a pipe is in no folder.
func LetIn(dir, group string) error { return letIn(dir, group) }
