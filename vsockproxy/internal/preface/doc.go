// Package preface reads and writes what goes before the stream of a connection: an HTTP
// CONNECT request and its answer, a TLS ClientHello, a PROXY header, the line of the
// hybrid vsock handshake. Bytes go in, and a value or an [*Error] comes out. It knows no
// connections and no deadlines.
package preface
