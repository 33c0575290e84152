package vsockproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"

	"github.com/mdlayher/vsock"
)

// errNoVsock is what every AF_VSOCK operation fails with on systems other than
// Linux, the only one whose AF_VSOCK the vsock module speaks.
var errNoVsock = fmt.Errorf("AF_VSOCK on %s: %w", runtime.GOOS, errors.ErrUnsupported)

func dialVsock(ctx context.Context, cid, port uint32) (net.Conn, error) {
	if runtime.GOOS != "linux" {
		return nil, errNoVsock
	}
	conn, err := vsock.DialContext(ctx, cid, port, nil)
	if err != nil {
		return nil, withUnsupported(err)
	}
	return conn, nil
}

func listenVsock(cid, port uint32) (net.Listener, error) {
	if runtime.GOOS != "linux" {
		return nil, errNoVsock
	}
	// ListenContextID and not Listen: the latter opens /dev/vsock to learn the
	// local CID, which bind(2) does not need.
	l, err := vsock.ListenContextID(cid, port, nil)
	if err != nil {
		return nil, withUnsupported(err)
	}
	return l, nil
}

// withUnsupported lets errors.Is(err, errors.ErrUnsupported) hold on a Linux
// whose kernel lacks AF_VSOCK, as it does on other systems.
func withUnsupported(err error) error {
	if reasonOf(err) == ReasonUnsupported && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return err
}
