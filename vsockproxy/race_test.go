//go:build race

package vsockproxy

// raceEnabled is for tests that take less of what the race detector makes dear: it
// allows some 8,000 goroutines.
const raceEnabled = true
