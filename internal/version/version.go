// Package version says which conmon this is.
package version

// Number is the version: a strict semantic one, because CRI-O parses it, and at
// least 2.2.1, because engines choose their flags by it.
const Number = "2.3.0"

// Commit is the commit that the program was built from; the linker fills it in.
var Commit = "unknown"
