package unixsock

import "golang.org/x/sys/windows"

// refused is what connect answers if nobody listens on the socket.
const refused = windows.WSAECONNREFUSED
