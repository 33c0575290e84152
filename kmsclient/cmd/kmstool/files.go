package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// misuse is a wrong call that is found only when a file is read.
type misuse struct{ error }

// readFiles reads what flags name files for.
func (p *program) readFiles(ctx context.Context, f *flags) error {
	if f.rootsFile != "" {
		data, err := read(ctx, "--root-cas", maxRootsFile, opening(f.rootsFile))
		if err != nil {
			return err
		}
		f.roots = x509.NewCertPool()
		if !f.roots.AppendCertsFromPEM(data) {
			return misuse{errors.New("--root-cas: holds no certificates in PEM")}
		}
	}
	if f.ciphertextFile != "" {
		open := opening(f.ciphertextFile)
		if f.ciphertextFile == "-" {
			open = func() (io.ReadCloser, error) { return io.NopCloser(p.stdin), nil }
		}
		data, err := read(ctx, "--ciphertext-file", maxCiphertextFile, open)
		if err != nil {
			return err
		}
		if f.ciphertext, err = decodeCiphertext(string(data)); err != nil {
			return misuse{fmt.Errorf("--ciphertext-file: %w", err)}
		}
	}
	return nil
}

func opening(name string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return os.Open(name) }
}

// read reads all of a flag's file. It may be a pipe that nobody writes to: then
// neither opening nor reading it comes to an end.
func read(ctx context.Context, flag string, limit int, open func() (io.ReadCloser, error)) ([]byte, error) {
	data, err := await(ctx, func() ([]byte, error) {
		file, err := open()
		if err != nil {
			return nil, err
		}
		defer file.Close()
		return io.ReadAll(io.LimitReader(file, int64(limit)+1))
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("%s: not at its end yet: %w", flag, err)
	case err != nil:
		// Without the file's name, which may be a secret in a wrong place.
		if at, ok := errors.AsType[*fs.PathError](err); ok {
			err = at.Err
		}
		return nil, misuse{fmt.Errorf("%s: %w", flag, err)}
	case len(data) > limit:
		return nil, misuse{fmt.Errorf("%s: has more than %d bytes", flag, limit)}
	}
	return data, nil
}

// await does what takes no context and may hang. If the context ends first, it
// is left behind, and ends with the process.
func await[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := do()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
