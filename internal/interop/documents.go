//go:build documents

package interop

// The modules that carry real documents and envelopes in their test data.
// Nothing of them is compiled: the imports, behind a tag that is never set,
// keep them in go.mod, so that every machine fetches them by version and
// checksum.
import (
	_ "github.com/anjuna-security/go-nitro-attestation/attestdoc"
	_ "github.com/blocky/nitrite"
	_ "github.com/brave/nitriding"
	_ "github.com/c2sp/wycheproof"
	_ "github.com/edgebitio/nitro-enclaves-sdk-go/crypto/cms"
	_ "github.com/veracruz-project/go-nitro-enclave-attestation-document"
)
