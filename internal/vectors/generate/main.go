// Command generate writes the test vectors anew, with new random keys, so that
// every byte of them changes. Run it in the root of the repository:
//
//	go run ./internal/vectors/generate
package main

import (
	"fmt"
	"os"

	"github.com/keyvouch/keyvouch/internal/vectors"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run() error {
	files, err := vectors.Generate()
	if err != nil {
		return err
	}
	return vectors.Write(vectors.Dir, files)
}
