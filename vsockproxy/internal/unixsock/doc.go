// Package unixsock listens on Unix sockets whose file is a matter of security: only
// the user that runs the program may connect, a file that a dead process left is
// replaced, and nothing that belongs to anybody else is removed.
package unixsock
