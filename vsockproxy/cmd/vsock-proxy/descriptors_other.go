//go:build !linux

package main

func descriptorLimit() (uint64, bool) { return 0, false }

func openDescriptors() (int, bool) { return 0, false }
