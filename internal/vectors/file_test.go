package vectors

import (
	"reflect"
	"strings"
	"testing"
)

const oneVector = `{"subject":"s","comment":"c","roots":["AA=="],"vectors":[
	{"name":"n","comment":"c","result":"reject","reason":"nonce","time":"2026-03-14T12:00:00Z","policy":{},"expect":{},"document":""}]}`

func TestDecode(t *testing.T) {
	f, err := decode([]byte(oneVector))
	if err != nil {
		t.Fatal(err)
	}
	text, err := encode(f)
	if err != nil {
		t.Fatal(err)
	}
	again, err := decode(text)
	if err != nil || !reflect.DeepEqual(again, f) {
		t.Errorf("%+v became %+v, %v", f, again, err)
	}
}

// An empty value and an absent one are different demands.
func TestEmptyIsNotAbsent(t *testing.T) {
	f, err := decode([]byte(strings.Replace(oneVector, `"policy":{},"expect":{}`, `"policy":{"roots":[]},"expect":{"user_data":""}`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	text, err := encode(f)
	if err != nil {
		t.Fatal(err)
	}
	if f, err = decode(text); err != nil {
		t.Fatal(err)
	}
	v := f.Vectors[0]
	if v.Policy.Roots == nil || v.Expect.UserData == nil || v.Expect.Nonce != nil || v.Expect.PublicKey != nil {
		t.Errorf("%+v", v)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, c := range map[string]struct{ old, new, says string }{
		"unknown member":  {`"policy":{}`, `"policy":{"max_age":1}`, "max_age"},
		"trailing object": {`]}`, `]}{}`, "follows"},
		"no roots":        {`["AA=="]`, `[]`, "no roots"},
		"no name":         {`"name":"n"`, `"name":""`, "no name"},
		"no time":         {`"time":"2026-03-14T12:00:00Z",`, ``, "no time"},
		"no result":       {`"result":"reject"`, `"result":"maybe"`, "maybe"},
		"no reason":       {`"reason":"nonce",`, ``, "reason"},
		"accepted, with":  {`"reject"`, `"accept"`, "reason"},
		"twice":           {`"vectors":[`, `"vectors":[` + oneVector[strings.Index(oneVector, "\n\t")+2:len(oneVector)-2] + `,`, "two vectors"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(oneVector, c.old, c.new, 1)
			if text == oneVector {
				t.Fatal("nothing was changed")
			}
			if _, err := decode([]byte(text)); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want one that says %q", err, c.says)
			}
		})
	}
}
