package nsm

// Device carries one CBOR request to a Nitro Secure Module and brings back its
// CBOR response: bytes in, bytes out, as the ioctl of /dev/nsm does.
//
// Send must not keep or change request after it returns, and the caller owns
// the response. An error means that there is no response: the device is gone,
// closed, or refused to carry the request. An error that the NSM itself
// reports is a response. A Session takes Reason, Code and Detail from an
// *[Error] in the chain of a Device's error, and keeps the chain.
//
// A [Session] never calls a Device's methods concurrently, and calls Close
// once, so a Device for use under a Session needs no locking of its own.
type Device interface {
	Send(request []byte) (response []byte, err error)
	Close() error
}
