// Package nsmtest is a Nitro Secure Module in software, for tests of code that
// uses the package nsm or verifies attestation documents, as net/http/httptest
// is for HTTP.
package nsmtest
