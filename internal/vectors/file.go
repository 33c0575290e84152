package vectors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Dir is where the vectors are, from the root of the repository.
const Dir = "attestation/testdata/vectors"

// Load reads all files of vectors in dir, in the order of their names.
func Load(dir string) ([]File, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no vectors in %s: run go run ./internal/vectors/generate", dir)
	}
	var files []File
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		f, err := decode(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if f.Subject+".json" != filepath.Base(path) {
			return nil, fmt.Errorf("%s: its subject is %q", path, f.Subject)
		}
		files = append(files, f)
	}
	return files, nil
}

// decode reads a file and refuses what could only be a slip in it.
func decode(text []byte) (File, error) {
	var f File
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return File{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return File{}, errors.New("something follows the object")
	}
	if err := f.check(); err != nil {
		return File{}, err
	}
	return f, nil
}

// check reports what no verifier could run.
func (f *File) check() error {
	if len(f.Roots) == 0 {
		return errors.New("no roots")
	}
	seen := map[string]bool{}
	for i, v := range f.Vectors {
		switch {
		case v.Name == "" || v.Comment == "":
			return fmt.Errorf("vector %d has no name or no comment", i)
		case seen[v.Name]:
			return fmt.Errorf("two vectors are named %q", v.Name)
		case v.Time.IsZero():
			return fmt.Errorf("%q has no time", v.Name)
		case v.Result != Accept && v.Result != Reject:
			return fmt.Errorf("%q has the result %q", v.Name, v.Result)
		case (v.Result == Reject) != (v.Reason != ""):
			return fmt.Errorf("%q has the result %q and the reason %q", v.Name, v.Result, v.Reason)
		}
		seen[v.Name] = true
	}
	return nil
}

// Write writes the files into dir and removes no others.
func Write(dir string, files []File) error {
	for _, f := range files {
		text, err := encode(f)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Subject, err)
		}
		if err := os.WriteFile(filepath.Join(dir, f.Subject+".json"), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// encode writes one member to a line, so that a vector can be found with a
// text editor and told from its neighbours in a diff.
func encode(f File) ([]byte, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(f); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
