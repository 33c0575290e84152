//go:build linux && amd64

package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/keyvouch/keyvouch/nsm"
)

// rawDevice is /dev/nsm without the library: what it gives are the very bytes
// that the driver wrote, which nsm.OpenDevice decodes and encodes again.
type rawDevice struct{ file *os.File }

func openRaw() (*rawDevice, error) {
	f, err := os.OpenFile("/dev/nsm", os.O_RDWR, 0)
	return &rawDevice{f}, err
}

// nsmIoctl is NSM_IOCTL_RAW of include/uapi/linux/nsm.h.
const nsmIoctl = 0xC0200A00

// nsmRaw is struct nsm_raw of the same file.
type nsmRaw struct{ request, response unix.Iovec }

// exchange has the driver carry a request, with room for a response. It never
// sends an empty one, which blocks the driver for minutes.
func (d *rawDevice) exchange(request, room []byte) (int, error) {
	if len(request) == 0 || len(room) == 0 {
		return 0, fmt.Errorf("an empty request or no room for a response")
	}
	message := nsmRaw{
		request:  unix.Iovec{Base: &request[0], Len: uint64(len(request))},
		response: unix.Iovec{Base: &room[0], Len: uint64(len(room))},
	}
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, d.file.Fd(), nsmIoctl, uintptr(unsafe.Pointer(&message)))
	runtime.KeepAlive(&message)
	if errno != 0 {
		return 0, errno
	}
	if message.response.Len > uint64(len(room)) {
		return 0, fmt.Errorf("the driver says it wrote %d bytes into %d", message.response.Len, len(room))
	}
	return int(message.response.Len), nil
}

// Send makes it an nsm.Device.
func (d *rawDevice) Send(request []byte) ([]byte, error) {
	room := make([]byte, nsm.MaxResponseSize)
	n, err := d.exchange(request, room)
	if err == syscall.EMSGSIZE {
		return nil, &nsm.Error{Op: "Send", Reason: nsm.ReasonRequestSize, Code: nsm.CodeInputTooLarge, Detail: "the driver finds the request too long", Err: err}
	}
	if err != nil {
		return nil, &nsm.Error{Op: "Send", Reason: nsm.ReasonDevice, Err: err}
	}
	return room[:n], nil
}

func (d *rawDevice) Close() error { return d.file.Close() }
