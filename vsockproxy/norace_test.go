//go:build !race

package vsockproxy

const raceEnabled = false
