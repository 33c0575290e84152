package nsmtest

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/keyvouch/keyvouch/nsm"
)

// Failure is what a program tells a recorded error by, beside its text. It lets
// a replayed session behave as the recorded one did: retry what was
// interrupted, for instance.
type Failure struct {
	// Op, Reason, Field, Code and Detail are those of the *nsm.Error in the error's
	// chain. All are empty if there was none; if there was one, Reason is set.
	Op     string     `json:"op,omitempty"`
	Reason nsm.Reason `json:"reason,omitempty"`
	Field  string     `json:"field,omitempty"`
	Code   nsm.Code   `json:"code,omitempty"`
	Detail string     `json:"detail,omitempty"`

	// Cause is the text of what the *nsm.Error wraps, or of the whole error if
	// it was itself wrapped. It is empty without an *nsm.Error.
	Cause string `json:"cause,omitempty"`

	// Is names the errors that errors.Is finds in the error: "nsm.ReasonClosed",
	// "nsm.ReasonNoDevice", "EINTR", "ETIMEDOUT", "EMSGSIZE", "EACCES", "EAGAIN",
	// "EBADF", "EBUSY", "EFAULT", "EINVAL", "EIO", "ENODEV", "ENOMEM",
	// "ENOSPC", "ENOTTY", "ENXIO" and "EPERM". Names, because the numbers
	// differ between operating systems.
	Is []string `json:"is,omitempty"`
}

// reasonNames are the names of the reasons among recordable.
var reasonNames = map[nsm.Reason]string{
	nsm.ReasonClosed:   "nsm.ReasonClosed",
	nsm.ReasonNoDevice: "nsm.ReasonNoDevice",
}

// recordable are the errors that a [Failure] can name.
var recordable = []struct {
	name string
	err  error
}{
	{"nsm.ReasonClosed", nsm.ReasonClosed},
	{"nsm.ReasonNoDevice", nsm.ReasonNoDevice},
	{"EINTR", syscall.EINTR},
	{"ETIMEDOUT", syscall.ETIMEDOUT},
	{"EMSGSIZE", syscall.EMSGSIZE},
	{"EACCES", syscall.EACCES},
	{"EAGAIN", syscall.EAGAIN},
	{"EBADF", syscall.EBADF},
	{"EBUSY", syscall.EBUSY},
	{"EFAULT", syscall.EFAULT},
	{"EINVAL", syscall.EINVAL},
	{"EIO", syscall.EIO},
	{"ENODEV", syscall.ENODEV},
	{"ENOMEM", syscall.ENOMEM},
	{"ENOSPC", syscall.ENOSPC},
	{"ENOTTY", syscall.ENOTTY},
	{"ENXIO", syscall.ENXIO},
	{"EPERM", syscall.EPERM},
}

// failureOf returns what to record of an error, or nil if that is only its text.
func failureOf(err error) *Failure {
	f := &Failure{}
	for _, r := range recordable {
		if errors.Is(err, r.err) {
			f.Is = append(f.Is, r.name)
		}
	}
	var e *nsm.Error
	if errors.As(err, &e) {
		f.Op, f.Reason, f.Field, f.Code, f.Detail = e.Op, e.Reason, e.Field, e.Code, e.Detail
		if f.Reason == "" {
			f.Reason = nsm.ReasonDevice
		}
		// Its Reason says this already; only a cause needs a name.
		f.Is = slices.DeleteFunc(f.Is, func(name string) bool { return name == reasonNames[f.Reason] })
		if outermost, ok := err.(*nsm.Error); !ok || outermost != e {
			f.Cause = err.Error()
		} else if e.Err != nil {
			f.Cause = e.Err.Error()
		}
	}
	if f.Reason == "" && len(f.Is) == 0 {
		return nil
	}
	return f
}

// replayed makes the error of an exchange again.
func (e *Exchange) replayed() error {
	f := e.Failure
	if f == nil {
		return &Error{Reason: ReasonRecorded, Detail: e.Error}
	}
	var found []error
	for _, r := range recordable {
		if slices.Contains(f.Is, r.name) {
			found = append(found, r.err)
		}
	}
	if f.Reason == "" {
		return &Error{Reason: ReasonRecorded, Detail: e.Error, Err: errors.Join(found...)}
	}
	again := &nsm.Error{Op: f.Op, Reason: f.Reason, Field: f.Field, Code: f.Code, Detail: f.Detail}
	if f.Cause != "" || len(found) > 0 {
		again.Err = &Error{Reason: ReasonRecorded, Detail: f.Cause, Err: errors.Join(found...)}
	}
	return again
}

// check refuses what would be replayed as something else than it says.
func (f *Failure) check() error {
	for _, name := range f.Is {
		known := false
		for _, r := range recordable {
			known = known || r.name == name
		}
		if !known {
			return fmt.Errorf("the failure names the error %.40q, which this version does not know", name)
		}
	}
	if f.Reason == "" && (f.Op != "" || f.Field != "" || f.Code != "" || f.Detail != "" || f.Cause != "") {
		return fmt.Errorf("the failure has fields of an nsm.Error but no reason")
	}
	return nil
}
