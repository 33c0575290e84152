package kmsclient

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// kmsOperation is a method of *kms.Client, found by reflection.
type kmsOperation struct {
	name  string
	input reflect.Type // the struct
	call  reflect.Method
}

func kmsOperations(t *testing.T) []kmsOperation {
	t.Helper()
	var found []kmsOperation
	client := reflect.TypeFor[*kms.Client]()
	for i := range client.NumMethod() {
		m := client.Method(i)
		if m.Type.NumIn() < 3 || m.Type.In(2).Kind() != reflect.Pointer || m.Type.In(2).Elem().Kind() != reflect.Struct {
			continue
		}
		found = append(found, kmsOperation{m.Name, m.Type.In(2).Elem(), m})
	}
	if len(found) < 50 {
		t.Fatalf("only %d operations found", len(found))
	}
	return found
}

// run calls the operation with an input all of whose required fields have some
// value, and the given key names.
func (o kmsOperation) run(ctx context.Context, client *kms.Client, names map[string]string) error {
	input := reflect.New(o.input)
	for i := range o.input.NumField() {
		field, value := o.input.Field(i), input.Elem().Field(i)
		if !field.IsExported() || field.Name == "Recipient" {
			continue
		}
		if name, ok := names[field.Name]; ok {
			value.Set(reflect.ValueOf(aws.String(name)))
			continue
		}
		switch value.Kind() {
		case reflect.Pointer:
			if value.Type() == reflect.TypeFor[*string]() && !slices.Contains(keyFields, field.Name) {
				value.Set(reflect.ValueOf(aws.String("x")))
			}
		case reflect.String:
			value.SetString("x")
		case reflect.Slice:
			if value.Type() == reflect.TypeFor[[]byte]() {
				value.SetBytes([]byte("x"))
			} else {
				value.Set(reflect.MakeSlice(value.Type(), 0, 0))
			}
		}
	}
	results := o.call.Func.Call([]reflect.Value{reflect.ValueOf(client), reflect.ValueOf(ctx), input})
	err, _ := results[1].Interface().(error)
	return err
}

// keyNames are the fields of the operation that name keys.
func (o kmsOperation) keyNames() (names []string) {
	for _, name := range keyFields {
		if _, ok := o.input.FieldByName(name); ok {
			names = append(names, name)
		}
	}
	return names
}

// Every operation of the SDK's that names a key refuses one that isn't pinned
// before it sends anything, but for those that only read.
func TestEveryOperationIsPinned(t *testing.T) {
	s := newStub(t, func(stubRequest) (int, any) { return fails("ValidationException") })
	const bareA, bareB = "1234abcd-12ab-34cd-56ef-1234567890ab", "mrk-0987dcba09fe87dc65ba43fe21dc0987"
	client, _ := s.client(t)
	free, _ := s.client(t, func(o *Options) { o.KeyIDs, o.UnsafeAnyKey = nil, true })
	checked, reading := 0, 0
	for _, op := range kmsOperations(t) {
		fields := op.keyNames()
		if len(fields) == 0 {
			continue
		}
		sends := func(client *kms.Client, names map[string]string) (bool, error) {
			before := len(s.seen())
			err := op.run(t.Context(), client, names)
			return len(s.seen()) > before, err
		}
		pinned := map[string]string{}
		for _, field := range fields {
			pinned[field] = keyA
		}
		if sent, err := sends(client, pinned); !sent {
			t.Errorf("%s with a pinned key wasn't sent: %v", op.name, err)
		}
		attested := newCall(reflect.New(op.input).Interface()) != nil
		for _, field := range fields {
			for name, id := range map[string]string{
				"another ARN":     keyB,
				"alias":           "alias/orders",
				"alias ARN":       "arn:aws:kms:eu-west-1:111122223333:alias/orders",
				"bare ID":         bareA,
				"another bare ID": bareB,
				"another account": strings.Replace(keyA, "111122223333", "444455556666", 1),
				"another region":  strings.Replace(keyA, "eu-west-1", "us-east-1", 1),
				"longer":          keyA + "0",
				"resource":        "key/" + bareA,
				"empty":           "",
			} {
				names := map[string]string{}
				for field := range pinned {
					names[field] = keyA
				}
				names[field] = id
				want := name == "bare ID" || slices.Contains(readingOperations, op.name) || attested && strings.HasPrefix(name, "alias")
				if name == "empty" && want {
					continue // for the SDK or KMS to refuse
				}
				sent, err := sends(client, names)
				if sent != want {
					t.Errorf("%s with %s as %s: sent %v, error %v", op.name, name, field, sent, err)
				}
				if !want {
					if e := wantError(t, err, op.name, ReasonKeyNotPinned); e.KeyID != id {
						t.Errorf("%s: error %v", op.name, err)
					}
				}
				if sent, err := sends(free, names); !sent && name != "empty" {
					t.Errorf("%s with UnsafeAnyKey and %s as %s wasn't sent: %v", op.name, name, field, err)
				}
			}
		}
		if slices.Contains(readingOperations, op.name) {
			reading++
		} else {
			checked++
		}
	}
	if reading != len(readingOperations) || checked < 35 {
		t.Errorf("%d operations are checked and %d only read", checked, reading)
	}
}

// A field that names a key and isn't known here would go unchecked: this fails
// when a new version of the SDK has one.
func TestKeyFieldsAreKnown(t *testing.T) {
	for _, op := range kmsOperations(t) {
		for i := range op.input.NumField() {
			name := op.input.Field(i).Name
			if !strings.Contains(name, "KeyId") && !strings.Contains(name, "KeyArn") {
				continue
			}
			// XksKeyId is the name of a key in an external key store.
			if !slices.Contains(keyFields, name) && name != "XksKeyId" {
				t.Errorf("%s has %s", op.name, name)
			}
			if !slices.Contains(keyFields, name) {
				continue
			}
			if got := op.input.Field(i).Type; got != reflect.TypeFor[*string]() {
				t.Errorf("%s's %s is a %s", op.name, name, got)
			}
		}
	}
}

// Without a source key ReEncrypt would make a ciphertext of a pinned key out of
// anybody's.
func TestReEncryptNamesItsSource(t *testing.T) {
	s := newStub(t, func(stubRequest) (int, any) {
		return http.StatusOK, object{"KeyId": keyA, "SourceKeyId": keyB, "CiphertextBlob": []byte("sealed")}
	})
	client, _ := s.client(t)
	out, err := client.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: []byte("blob"), DestinationKeyId: aws.String(keyA)})
	if e := wantError(t, err, "ReEncrypt", ReasonKeyNotPinned); !strings.Contains(e.Detail, "SourceKeyId") {
		t.Error(err)
	}
	if out != nil || len(s.seen()) != 0 {
		t.Errorf("output %v, %d requests", out, len(s.seen()))
	}
	anyKey, _ := s.client(t, func(o *Options) { o.KeyIDs, o.UnsafeAnyKey = nil, true })
	if _, err := anyKey.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: []byte("blob"), DestinationKeyId: aws.String(keyA)}); err != nil {
		t.Error(err)
	}
}

// A bare ID is in the client's region: a pinned replica elsewhere isn't meant.
func TestBareIDIsInRegion(t *testing.T) {
	const bare = "mrk-0987dcba09fe87dc65ba43fe21dc0987"
	s := newStub(t, func(stubRequest) (int, any) { return http.StatusOK, object{} })
	client, _ := s.client(t, func(o *Options) { o.KeyIDs = []string{keyA, strings.Replace(keyB, region, "us-east-1", 1)} })
	_, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(bare), Plaintext: []byte("p")})
	wantError(t, err, "Encrypt", ReasonKeyNotPinned)
	_, err = client.Decrypt(t.Context(), &kms.DecryptInput{KeyId: aws.String(bare), CiphertextBlob: []byte("c")})
	wantError(t, err, "Decrypt", ReasonKeyNotPinned)
	if len(s.seen()) != 0 {
		t.Error("sent")
	}
}
