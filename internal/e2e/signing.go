package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	"github.com/fxamacker/cbor/v2"

	"github.com/keyvouch/keyvouch/nsm"
)

// signingDevice is the real device, but that the host signs its documents in AWS's
// place: with the fields that the device wrote, under the test's own root.
type signingDevice struct {
	nsm.Device
	host *http.Client
}

// OpenSigningDevice opens a guest's NSM so that its documents can be believed by who
// trusts World.AttestationRoot. There is nothing of the kind outside this test.
func OpenSigningDevice() (nsm.Device, error) {
	device, err := nsm.OpenDevice()
	if err != nil {
		return nil, err
	}
	return signingDevice{device, Client()}, nil
}

// attested is the NSM's answer that has a document.
type attested struct {
	Attestation *struct {
		Document []byte `cbor:"document"`
	}
}

func (d signingDevice) Send(request []byte) ([]byte, error) {
	response, err := d.Device.Send(request)
	if err != nil {
		return nil, err
	}
	var answer attested
	if err := cbor.Unmarshal(response, &answer); err != nil || answer.Attestation == nil {
		return response, nil // an answer of another kind, which goes on as it is
	}
	res, err := d.host.Post(HostURL+"/sign", "application/octet-stream", bytes.NewReader(answer.Attestation.Document))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	signed, err := io.ReadAll(io.LimitReader(res.Body, nsm.MaxResponseSize))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the host signs nothing: %s: %s", res.Status, signed)
	}
	answer.Attestation.Document = signed
	return cbor.Marshal(answer)
}
