//go:build linux

package main

func (g *guest) application() {}
