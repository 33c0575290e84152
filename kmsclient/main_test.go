package kmsclient

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/keyvouch/keyvouch/internal/testkeys"
	"github.com/keyvouch/keyvouch/kmsclient/internal/rsakey"
)

func TestMain(m *testing.M) {
	rsakey.Generate = testkeys.Next // making keys was most of the tests' time
	goleak.VerifyTestMain(m)
}
