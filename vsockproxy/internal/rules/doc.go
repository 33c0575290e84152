// Package rules decides what a proxy may connect to: the entries of an allowlist, the
// targets that they cover, and the special addresses that a name may not lead to. It
// also puts entries into words for people. It dials nothing and resolves nothing.
package rules
