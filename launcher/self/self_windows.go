package self

// ext is what the name of a program must end with to be found and run.
const ext = ".exe"
