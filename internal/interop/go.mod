module github.com/keyvouch/keyvouch/internal/interop

go 1.26.4

require (
	github.com/anjuna-security/go-nitro-attestation v0.0.0-20250527214750-dc507eadb414
	github.com/blocky/nitrite v0.0.2-0.20241022160405-a6f5b6da1e50
	github.com/brave/nitriding v1.1.5
	github.com/c2sp/wycheproof v0.0.0-20260902155932-3fa63dd0344a
	github.com/edgebitio/nitro-enclaves-sdk-go v1.0.0
	github.com/hf/nitrite v0.0.0-20241225144000-c2d5d3c4f303
	github.com/keyvouch/keyvouch v0.0.0
	github.com/veracruz-project/go-nitro-enclave-attestation-document v0.0.0-20230315135749-6fc97d770084
)

require (
	github.com/brave/viproxy v0.1.2 // indirect
	github.com/docker/libcontainer v2.2.1+incompatible // indirect
	github.com/fxamacker/cbor/v2 v2.10.0 // indirect
	github.com/go-chi/chi/v5 v5.0.7 // indirect
	github.com/hf/nsm v0.0.0-20220930140112-cd181bd646b9 // indirect
	github.com/mdlayher/socket v0.8.0 // indirect
	github.com/mdlayher/vsock v1.4.0 // indirect
	github.com/milosgajdos/tenus v0.0.3 // indirect
	github.com/veraison/go-cose v1.3.0 // indirect
	github.com/x448/float16 v0.8.4 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace github.com/keyvouch/keyvouch => ../..
