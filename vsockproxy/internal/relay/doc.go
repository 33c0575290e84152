// Package relay moves the bytes of one connection: from a socket to another and back,
// until both streams have ended, one side fails, nothing has moved for too long, or it
// is cut. It knows nothing of where the connections come from.
//
// relay.go is the life of a relay, flow.go one of its two directions, and buffer.go and
// the splice files are what a direction borrows while bytes move.
package relay
