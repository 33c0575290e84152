//go:build !linux

package main

// passedListeners is nothing where there is no systemd.
func passedListeners(func(string) string, func(string) error) ([]passedListener, error) {
	return nil, nil
}

func monotonicMicros() int64 { return 0 }
