package nsmtest

import "github.com/keyvouch/keyvouch/nsm"

// The answers, byte for byte as serde writes AWS's API structs: a map of one
// entry with the fields in the order of declaration, or bare text.

// answer begins the response of a kind whose body is a map of n fields.
func answer(kind string, n uint64) []byte {
	b := appendHead(nil, majorMap, 1)
	b = appendText(b, kind)
	return appendHead(b, majorMap, n)
}

func answerError(code nsm.Code) []byte {
	b := appendHead(nil, majorMap, 1)
	b = appendText(b, "Error")
	return appendText(b, string(code))
}

func answerDescribePCR(lock bool, value []byte) []byte {
	b := answer(kindDescribePCR, 2)
	b = appendBool(appendText(b, "lock"), lock)
	return appendBytes(appendText(b, "data"), value)
}

func answerBytes(kind, field string, value []byte) []byte {
	return appendBytes(appendText(answer(kind, 1), field), value)
}

func answerDescribeNSM(moduleID string, locked []int) []byte {
	b := answer(kindDescribeNSM, 7)
	b = appendInt(appendText(b, "version_major"), 1)
	b = appendInt(appendText(b, "version_minor"), 0)
	b = appendInt(appendText(b, "version_patch"), 0)
	b = appendText(appendText(b, "module_id"), moduleID)
	b = appendInt(appendText(b, "max_pcrs"), NumPCRs)
	b = appendHead(appendText(b, "locked_pcrs"), majorArray, uint64(len(locked)))
	for _, index := range locked {
		b = appendInt(b, index)
	}
	return appendText(appendText(b, "digest"), digestName)
}
