// Package readme compiles the programs that README.md shows and holds the two
// together.
package readme
