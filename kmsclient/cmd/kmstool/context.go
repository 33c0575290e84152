package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// addContext adds what one --encryption-context says. KMS compares a context to
// the byte, so nothing is trimmed, and nothing given twice is settled silently.
func (f *flags) addContext(s string) error {
	if strings.HasPrefix(s, "{") {
		return f.addContextObject(s)
	}
	key, value, ok := strings.Cut(s, "=")
	if !ok {
		return errors.New("must be KEY=VALUE or a JSON object of strings")
	}
	return f.addPair(key, value)
}

// addContextObject reads by tokens, since a json.Unmarshal into a map takes the
// last of equal keys.
func (f *flags) addContextObject(s string) error {
	malformed := errors.New("begins with a brace but is not a JSON object of strings")
	if !json.Valid([]byte(s)) {
		return malformed
	}
	d := json.NewDecoder(strings.NewReader(s))
	_, _ = d.Token() // the brace
	for d.More() {
		key, _ := d.Token()
		value, err := d.Token()
		text, ok := value.(string)
		if err != nil || !ok {
			return malformed
		}
		if err := f.addPair(key.(string), text); err != nil {
			return err
		}
	}
	return nil
}

func (f *flags) addPair(key, value string) error {
	if key == "" {
		return errors.New("a key is empty")
	}
	if !text(key) || !text(value) {
		return errors.New("a key or a value has what is not UTF-8, or U+FFFD, which stands for it: different contexts would be the same to KMS")
	}
	if _, twice := f.context[key]; twice {
		return fmt.Errorf("the key %+q is given twice", key)
	}
	if f.context == nil {
		f.context = map[string]string{}
	}
	f.context[key] = value
	return nil
}

// text says that a string holds what was meant. U+FFFD is what JSON's decoder
// makes of bytes that are not UTF-8 and of halves of surrogate pairs, whichever
// they are.
func text(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsRune(s, utf8.RuneError)
}
