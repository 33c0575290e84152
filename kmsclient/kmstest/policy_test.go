package kmstest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// enclavePolicy is a policy as people have them; IMAGE stands for the PCR0.
const enclavePolicy = `{
  "Version": "2012-10-17",
  "Id": "key-default-1",
  "Statement": [
    {
      "Sid": "Enable IAM User Permissions",
      "Effect": "Allow",
      "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
      "Action": "kms:*",
      "Resource": "*"
    },
    {
      "Sid": "Enable decrypt from enclave",
      "Effect": "Allow",
      "Principal": {"AWS": ["arn:aws:iam::111122223333:role/enclave"]},
      "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
      "Resource": "*",
      "Condition": {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": "IMAGE"}}
    }
  ]
}`

func parsePolicy(t testing.TB, document string) *kmstest.Policy {
	t.Helper()
	policy, err := kmstest.ParsePolicy([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return policy
}

func TestPastedPolicy(t *testing.T) {
	device := newNSM(t, nsmtest.Options{Image: []byte("right")})
	image := kmstest.PCREquals(0, device.PCR(0)).Values[0]
	spki := spkiOf(t, &testKey(t).PublicKey)
	policy := parsePolicy(t, strings.Replace(enclavePolicy, "IMAGE", image, 1))
	for name, test := range map[string]struct {
		withoutIAM, attested bool
		because              string
	}{
		// The trap: beside the account's statement the condition is no fence.
		"IAM allows, not attested": {},
		"IAM allows, attested":     {attested: true},
		"no IAM, attested":         {withoutIAM: true, attested: true},
		"no IAM, not attested":     {withoutIAM: true, because: "because no identity-based policy allows the kms:GenerateDataKey action"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newServer(t, kmstest.Options{AttestationRoot: device.Root(), WithoutIAMPermissions: test.withoutIAM})
			arn := createKey(t, server, kmstest.KeyOptions{Policy: policy})
			input := &kms.GenerateDataKeyInput{KeyId: &arn, KeySpec: "AES_256"}
			if test.attested {
				input.Recipient = attest(t, device, spki)
			}
			out, err := newClient(server).GenerateDataKey(t.Context(), input)
			if test.because == "" {
				if err != nil || (out.Plaintext == nil) != test.attested {
					t.Errorf("err is %v", err)
				}
				return
			}
			if out != nil {
				t.Fatal("released")
			}
			wantCode(t, err, "AccessDeniedException", test.because)
		})
	}
}

func TestGenerateRandomNeedsIAM(t *testing.T) {
	server := newServer(t, kmstest.Options{WithoutIAMPermissions: true})
	_, err := newClient(server).GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: new(int32(1))})
	wantCode(t, err, "AccessDeniedException", "is not authorized to perform: kms:GenerateRandom because no identity-based policy allows the kms:GenerateRandom action")
}

func TestPrincipals(t *testing.T) {
	for name, test := range map[string]struct {
		principal string
		allowed   bool
	}{
		"everyone":      {`"*"`, true},
		"AWS everyone":  {`{"AWS": "*"}`, true},
		"role":          {`{"AWS": "arn:aws:iam::444455556666:role/path/app"}`, true},
		"session":       {`{"AWS": "arn:aws:sts::444455556666:assumed-role/app/i-0123456789abcdef0"}`, true},
		"account":       {`{"AWS": "444455556666"}`, true},
		"root":          {`{"AWS": "arn:aws:iam::444455556666:root"}`, true},
		"other role":    {`{"AWS": "arn:aws:iam::444455556666:role/app"}`, false},
		"other account": {`{"AWS": "arn:aws:iam::111122223333:root"}`, false},
		"user":          {`{"AWS": "arn:aws:iam::444455556666:user/app"}`, false},
		"one of them":   {`{"AWS": ["111122223333", "arn:aws:iam::444455556666:role/path/app"]}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			server := newServer(t, kmstest.Options{RoleARN: "arn:aws:iam::444455556666:role/path/app"})
			arn := createKey(t, server, kmstest.KeyOptions{Policy: parsePolicy(t,
				`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":`+test.principal+`,"Action":"KMS:describe???","Resource":"*"}}`)})
			client := newClient(server)
			_, err := client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &arn})
			if test.allowed {
				if err != nil {
					t.Error(err)
				}
			} else {
				wantCode(t, err, "AccessDeniedException", "User: arn:aws:sts::444455556666:assumed-role/app/i-0123456789abcdef0 is not authorized to perform: kms:DescribeKey on resource: "+arn+" because no resource-based policy allows the kms:DescribeKey action")
			}
			_, err = client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: []byte("a")})
			wantCode(t, err, "AccessDeniedException", "kms:Encrypt")
		})
	}
}

func TestPolicyIsCopied(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	policy := kmstest.AllowAttested(kmstest.PCREquals(0, [48]byte{1}))
	arn := createKey(t, server, kmstest.KeyOptions{Policy: policy})
	policy.Statements[0].Conditions = nil
	policy.Statements[0].Effect = kmstest.Deny
	_, err := newClient(server).GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &arn, KeySpec: "AES_256"})
	wantCode(t, err, "AccessDeniedException", "because no resource-based policy")
}

func TestParsePolicyRefusals(t *testing.T) {
	image := strings.Repeat("ab", 48)
	statement := func(members string) string {
		return `{"Version":"2012-10-17","Statement":[{"Sid":"S",` + members + `}]}`
	}
	const head = `"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"`
	condition := func(c string) string { return statement(head + `,"Condition":` + c) }
	for name, test := range map[string]struct{ document, detail string }{
		"empty":              {``, "not valid JSON"},
		"not an object":      {`[]`, "not a JSON object"},
		"trailing":           {statement(head) + `{}`, "data after"},
		"duplicate member":   {statement(head + `,"Effect":"Deny"`), `"Effect" appears twice`},
		"deep":               {strings.Repeat(`{"a":`, 1000), "levels of nesting"},
		"too long":           {statement(head) + strings.Repeat(" ", kmstest.MaxPolicySize), "the limit is 32768"},
		"no version":         {`{"Statement":[{` + head + `}]}`, `Version: must be "2012-10-17"`},
		"old version":        {strings.Replace(statement(head), "2012", "2008", 1), `Version: must be "2012-10-17"`},
		"no statement":       {`{"Version":"2012-10-17"}`, "statement 0: it is not a JSON object"},
		"empty statements":   {`{"Version":"2012-10-17","Statement":[]}`, "has no statement"},
		"other member":       {`{"Version":"2012-10-17","Statements":[]}`, `"Statements" is not supported`},
		"case of a member":   {strings.Replace(statement(head), `"Effect"`, `"effect"`, 1), `"effect" is not supported`},
		"Id":                 {`{"Version":"2012-10-17","Id":1,"Statement":[{` + head + `}]}`, "Id: not a string"},
		"Sid":                {`{"Version":"2012-10-17","Statement":[{"Sid":1,` + head + `}]}`, "Sid is not a string"},
		"no effect":          {statement(`"Principal":"*","Action":"kms:*","Resource":"*"`), `statement "S": the Effect is not a string`},
		"other effect":       {strings.Replace(statement(head), "Allow", "allow", 1), `the Effect is "allow"`},
		"no principal":       {statement(`"Effect":"Allow","Action":"kms:*","Resource":"*"`), "the Principal is neither"},
		"NotPrincipal":       {statement(strings.Replace(head, "Principal", "NotPrincipal", 1)), `"NotPrincipal" is not supported`},
		"service principal":  {strings.Replace(statement(head), `"Principal":"*"`, `"Principal":{"Service":"logs.amazonaws.com"}`, 1), `"Service" is not supported`},
		"principal form":     {strings.Replace(statement(head), `"Principal":"*"`, `"Principal":{"AWS":"arn:aws:iam::1:root"}`, 1), `the Principal "arn:aws:iam::1:root" is not`},
		"principal wildcard": {strings.Replace(statement(head), `"Principal":"*"`, `"Principal":{"AWS":"arn:aws:iam::111122223333:role/*"}`, 1), `role/*" is not`},
		"empty principals":   {strings.Replace(statement(head), `"Principal":"*"`, `"Principal":{"AWS":[]}`, 1), "no Principal"},
		"no action":          {statement(`"Effect":"Allow","Principal":"*","Resource":"*"`), "Action is missing"},
		"empty actions":      {strings.Replace(statement(head), `"kms:*"`, `[]`, 1), "no Action"},
		"other action":       {strings.Replace(statement(head), `"kms:*"`, `"s3:GetObject"`, 1), `the Action "s3:GetObject" does not begin with "kms:"`},
		"action type":        {strings.Replace(statement(head), `"kms:*"`, `[1]`, 1), "Action has an element that is not a string"},
		"NotAction":          {strings.Replace(statement(head), "Action", "NotAction", 1), `"NotAction" is not supported`},
		"no resource":        {statement(`"Effect":"Allow","Principal":"*","Action":"kms:*"`), "Resource is missing"},
		"other resource":     {strings.Replace(statement(head), `"Resource":"*"`, `"Resource":"arn:aws:kms:us-east-1:111122223333:key/1"`, 1), `the Resource is`},
		"null condition":     {condition(`null`), "the Condition is not an object"},
		"empty condition":    {condition(`{}`), "the Condition is empty"},
		"empty operator":     {condition(`{"StringEquals":{}}`), `condition "StringEquals" names no condition key`},
		"one empty operator": {condition(`{"Null":{"kms:RecipientAttestation:PCR0":"false"},"StringEquals":{}}`), `condition "StringEquals" names no condition key`},
		"null operator":      {condition(`{"StringEquals":null}`), `condition "StringEquals" is not an object`},
		"null value":         {condition(`{"StringEquals":{"kms:RecipientAttestation:PCR0":null}}`), "kms:RecipientAttestation:PCR0 is missing"},
		"condition type":     {condition(`[]`), "the Condition is not an object"},
		"operator type":      {condition(`{"StringEquals":"a"}`), `condition "StringEquals" is not an object`},
		"other operator":     {condition(`{"NumericEquals":{"kms:RecipientAttestation:PCR0":"1"}}`), `condition operator "NumericEquals" is not supported`},
		"case of operator":   {condition(`{"stringEquals":{"kms:RecipientAttestation:PCR0":"` + image + `"}}`), `condition operator "stringEquals" is not supported`},
		"NullIfExists":       {condition(`{"NullIfExists":{"kms:RecipientAttestation:PCR0":"true"}}`), `condition operator "NullIfExists" is not supported`},
		"set of one":         {condition(`{"ForAllValues:StringEquals":{"kms:RecipientAttestation:PCR0":"` + image + `"}}`), `has one value: KMS takes no ForAllValues: with it`},
		"set of a pair":      {condition(`{"ForAnyValue:StringEquals":{"kms:EncryptionContext:a":"b"}}`), `has one value: KMS takes no ForAnyValue: with it`},
		"no set":             {condition(`{"StringEquals":{"kms:EncryptionContextKeys":"a"}}`), `has several values: its operator needs ForAllValues: or ForAnyValue: in front`},
		"no context name":    {condition(`{"StringEquals":{"kms:EncryptionContext:":"a"}}`), `condition key "kms:EncryptionContext:" is not supported`},
		"policy variable":    {condition(`{"StringEquals":{"kms:EncryptionContext:user":"${aws:userid}"}}`), `value "${aws:userid}" has a policy variable`},
		"short pattern":      {condition(`{"StringLike":{"kms:RecipientAttestation:PCR0":"ab?"}}`), `value "ab?" is not a PCR`},
		"long pattern":       {condition(`{"StringLike":{"kms:RecipientAttestation:PCR0":"` + image + `?*"}}`), "it can never match"},
		"pattern, not hex":   {condition(`{"StringNotLike":{"kms:RecipientAttestation:PCR0":"x*"}}`), `value "x*" is not a PCR`},
		"other key":          {condition(`{"StringEquals":{"kms:ViaService":"s3.us-east-1.amazonaws.com"}}`), `condition key "kms:ViaService" is not supported`},
		"NitroTPMPCR24":      {condition(`{"StringEquals":{"kms:RecipientAttestation:NitroTPMPCR24":"` + image + `"}}`), `NitroTPMPCR24" is not supported`},
		"PCR32":              {condition(`{"StringEquals":{"kms:RecipientAttestation:PCR32":"` + image + `"}}`), `PCR32" is not supported`},
		"PCR01":              {condition(`{"StringEquals":{"kms:RecipientAttestation:PCR01":"` + image + `"}}`), `PCR01" is not supported`},
		"no values":          {condition(`{"StringEquals":{"kms:RecipientAttestation:PCR0":[]}}`), "has no value to compare with"},
		"placeholder":        {condition(`{"StringEquals":{"kms:RecipientAttestation:PCR0":"EXAMPLE"}}`), `value "EXAMPLE" is not a PCR in hexadecimal`},
		"SHA-256":            {condition(`{"StringEquals":{"kms:RecipientAttestation:PCR0":"` + image[:64] + `"}}`), "96 digits"},
		"null values":        {condition(`{"Null":{"kms:RecipientAttestation:PCR0":"yes"}}`), `Null takes one value`},
	} {
		t.Run(name, func(t *testing.T) {
			policy, err := kmstest.ParsePolicy([]byte(test.document))
			var e *kmstest.Error
			if policy != nil || !errors.As(err, &e) || e.Reason != kmstest.ReasonInvalidPolicy || !errors.Is(err, kmstest.ReasonInvalidPolicy) || e.Op != "ParsePolicy" {
				t.Fatalf("got %+v, %v", policy, err)
			}
			if !strings.Contains(strings.TrimPrefix(e.Field+": "+e.Detail, ": "), test.detail) {
				t.Errorf("detail is %q, want %q", e.Detail, test.detail)
			}
		})
	}
}
