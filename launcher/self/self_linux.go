package self

// ext is nothing here: any name can be that of a program.
const ext = ""
