package relay

import "golang.org/x/sys/windows"

// connReset is what a read answers after the peer has reset the connection.
const connReset = windows.WSAECONNRESET
