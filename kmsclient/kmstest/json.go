package kmstest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// object is a JSON object with exact, unique member names. encoding/json
// matches struct fields without regard to case and lets the last duplicate
// win; KMS and IAM do neither, so requests and policies are read as trees.
type object map[string]any // string, json.Number, bool, nil, []any, object

func parseObject(data []byte) (object, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	value, err := parseValue(decoder, maxJSONDepth)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	parsed, ok := value.(object)
	if !ok {
		return nil, errors.New("the top level is not a JSON object")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is data after the JSON object")
	}
	return parsed, nil
}

func parseValue(decoder *json.Decoder, depth int) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	delimiter, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	if depth == 0 {
		return nil, fmt.Errorf("more than %d levels of nesting", maxJSONDepth)
	}
	if delimiter == '[' {
		list := []any{}
		for decoder.More() {
			element, err := parseValue(decoder, depth-1)
			if err != nil {
				return nil, err
			}
			list = append(list, element)
		}
		_, err = decoder.Token()
		return list, err
	}
	members := object{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if !ok {
			return nil, errors.New("a member name is not a string")
		}
		if _, duplicate := members[name]; duplicate {
			return nil, fmt.Errorf("member %.64q appears twice", name)
		}
		if members[name], err = parseValue(decoder, depth-1); err != nil {
			return nil, err
		}
	}
	_, err = decoder.Token()
	return members, err
}

// The readers below take null for absent, as KMS does, and answer a value of
// the wrong type with KMS's SerializationException.

func wrongType(name, want string) *apiError {
	return newAPIError(codeSerialization, "The value of member %s is not %s.", name, want)
}

func (o object) text(name string) (value string, present bool, failure *apiError) {
	switch v := o[name].(type) {
	case nil:
		return "", false, nil
	case string:
		return v, true, nil
	}
	return "", false, wrongType(name, "a string")
}

func (o object) blob(name string) (value []byte, present bool, failure *apiError) {
	text, present, failure := o.text(name)
	if failure != nil || !present {
		return nil, false, failure
	}
	value, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, false, wrongType(name, "base64")
	}
	return value, true, nil
}

func (o object) flag(name string) (bool, *apiError) {
	switch v := o[name].(type) {
	case nil:
		return false, nil
	case bool:
		return v, nil
	}
	return false, wrongType(name, "a boolean")
}

func (o object) integer(name string) (value int64, present bool, failure *apiError) {
	switch v := o[name].(type) {
	case nil:
		return 0, false, nil
	case json.Number:
		if value, err := v.Int64(); err == nil {
			return value, true, nil
		}
	}
	return 0, false, wrongType(name, "an integer")
}

func (o object) child(name string) (value object, present bool, failure *apiError) {
	switch v := o[name].(type) {
	case nil:
		return nil, false, nil
	case object:
		return v, true, nil
	}
	return nil, false, wrongType(name, "an object")
}

func (o object) textMap(name string) (map[string]string, *apiError) {
	members, present, failure := o.child(name)
	if failure != nil || !present {
		return nil, failure
	}
	texts := make(map[string]string, len(members))
	for key := range members {
		text, present, failure := members.text(key)
		if failure != nil || !present {
			return nil, wrongType(name, "a map of strings")
		}
		texts[key] = text
	}
	return texts, nil
}

// memberName is a member as KMS writes it in its messages: KeyId is 'keyId'.
func memberName(name string) string { return strings.ToLower(name[:1]) + name[1:] }
