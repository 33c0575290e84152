// Package imports holds a test of the import graph: who may depend on whom,
// and that no test key or test root can be reached from an application.
package imports
