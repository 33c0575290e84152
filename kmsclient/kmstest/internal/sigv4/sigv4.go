// Package sigv4 checks the signature of a request as AWS does: Signature Version 4,
// in the Authorization header, of a POST to / without a query.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	signatureAlgorithm = "AWS4-HMAC-SHA256"
	signatureService   = "kms"
	scopeTerminator    = "aws4_request"
	amzDateLayout      = "20060102T150405Z"
	// maxClockSkew is how far X-Amz-Date may be from the server's clock, either
	// way: five minutes.
	maxClockSkew = 5 * time.Minute
	// maxAuthorizationLength bounds the Authorization header in bytes; the
	// SDK's is about 300.
	maxAuthorizationLength = 4096
)

// authorization is a parsed Authorization header (AWS IAM User Guide, "AWS
// Signature Version 4 for API requests").
type authorization struct {
	accessKeyID   string
	date          string // YYYYMMDD
	region        string
	service       string
	signedHeaders []string // lower-case, sorted, unique
	signature     []byte   // 32 bytes
}

func (a *authorization) scope() string {
	return a.date + "/" + a.region + "/" + a.service + "/" + scopeTerminator
}

// The codes of AWS's errors.
const (
	codeExpiredToken        = "ExpiredTokenException"
	codeIncompleteSignature = "IncompleteSignatureException"
	codeInvalidSignature    = "InvalidSignatureException"
	codeMissingToken        = "MissingAuthenticationTokenException"
	codeUnrecognizedClient  = "UnrecognizedClientException"
)

// Error is a refusal as AWS words it.
type Error struct {
	Code    string // such as InvalidSignatureException
	Message string
}

func (e *Error) Error() string { return "sigv4: " + e.Code + ": " + e.Message }

func refuse(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func incompleteSignature(format string, args ...any) *Error {
	return refuse(codeIncompleteSignature, format, args...)
}

func invalidSignature(format string, args ...any) *Error {
	return refuse(codeInvalidSignature, format, args...)
}

func parseAuthorization(header string) (*authorization, *Error) {
	if len(header) > maxAuthorizationLength {
		return nil, incompleteSignature("Authorization header is longer than %d bytes.", maxAuthorizationLength)
	}
	algorithm, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
	if algorithm != signatureAlgorithm {
		return nil, incompleteSignature("Unsupported AWS 'algorithm': '%s'.", algorithm)
	}
	parameters := map[string]string{}
	for field := range strings.FieldsFuncSeq(rest, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, value, found := strings.Cut(field, "=")
		if !found {
			return nil, incompleteSignature("'%s' not a valid key=value pair (missing equal-sign) in Authorization header: '%s'.", field, header)
		}
		if _, duplicate := parameters[name]; duplicate {
			return nil, incompleteSignature("Authorization header has the '%s' parameter twice.", name)
		}
		parameters[name] = value
	}
	var missing []string
	for _, name := range []string{"Credential", "Signature", "SignedHeaders"} {
		if parameters[name] == "" {
			missing = append(missing, "Authorization header requires '"+name+"' parameter.")
		}
	}
	if missing != nil {
		return nil, incompleteSignature("%s Authorization=%s", strings.Join(missing, " "), algorithm)
	}
	if len(parameters) > 3 {
		return nil, incompleteSignature("Authorization header has a parameter other than 'Credential', 'Signature' and 'SignedHeaders'.")
	}

	credential := strings.Split(parameters["Credential"], "/")
	if len(credential) != 5 || slices.Contains(credential, "") {
		return nil, incompleteSignature("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", parameters["Credential"])
	}
	if credential[4] != scopeTerminator {
		return nil, invalidSignature("Credential should be scoped with a valid terminator: '%s', not '%s'.", scopeTerminator, credential[4])
	}
	signature, err := hex.DecodeString(parameters["Signature"])
	if err != nil || len(signature) != sha256.Size {
		return nil, incompleteSignature("Authorization header's 'Signature' parameter is not %d hexadecimal digits.", 2*sha256.Size)
	}
	signed := strings.Split(parameters["SignedHeaders"], ";")
	for i, name := range signed {
		if name == "" || name != strings.ToLower(name) || i > 0 && name <= signed[i-1] {
			return nil, incompleteSignature("Authorization header's 'SignedHeaders' parameter is not a sorted list of lower-case header names.")
		}
	}
	return &authorization{
		accessKeyID:   credential[0],
		date:          credential[1],
		region:        credential[2],
		service:       credential[3],
		signedHeaders: signed,
		signature:     signature,
	}, nil
}

// Verifier holds what requests must be signed with.
type Verifier struct {
	Region      string
	Credentials aws.Credentials // Expires counts if CanExpire is set
}

// Verify checks the signature of a request whose body was read. It returns nil if
// the request is signed. The order is AWS's: form, date and scope, then who, then
// the signature, so that a wrong clock is not taken for a bad signature.
func (v Verifier) Verify(r *http.Request, body []byte, now time.Time) *Error {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return refuse(codeMissingToken, "Missing Authentication Token")
	}
	if len(values) > 1 {
		return incompleteSignature("The request has %d Authorization headers.", len(values))
	}
	auth, failure := parseAuthorization(values[0])
	if failure != nil {
		return failure
	}
	date := r.Header.Get("X-Amz-Date")
	if date == "" {
		return incompleteSignature("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. Authorization=%s", signatureAlgorithm)
	}
	signedAt, err := time.Parse(amzDateLayout, date)
	if err != nil {
		return incompleteSignature("Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", date)
	}
	if auth.date != date[:8] {
		return invalidSignature("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.", auth.date, date[:8], date)
	}
	if auth.region != v.Region {
		return invalidSignature("Credential should be scoped to a valid region, not '%s'.", auth.region)
	}
	if auth.service != signatureService {
		return invalidSignature("Credential should be scoped to correct service: '%s'.", signatureService)
	}
	if failure := checkSkew(signedAt, now); failure != nil {
		return failure
	}
	if failure := checkSignedHeaders(r, auth.signedHeaders); failure != nil {
		return failure
	}
	if failure := v.checkCaller(auth.accessKeyID, r.Header.Values("X-Amz-Security-Token"), now); failure != nil {
		return failure
	}

	key := signingKey(v.Credentials.SecretAccessKey, auth)
	toSign := signatureAlgorithm + "\n" + date + "\n" + auth.scope() + "\n" + hexHash([]byte(canonicalRequest(r, auth.signedHeaders, body)))
	if !hmac.Equal(hmacSHA256(key, toSign), auth.signature) {
		// KMS repeats the canonical request here. It holds the session token, so
		// this package does not.
		return invalidSignature("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return nil
}

func checkSkew(signedAt, now time.Time) *Error {
	format := func(t time.Time) string { return t.UTC().Format(amzDateLayout) }
	if signedAt.Before(now.Add(-maxClockSkew)) {
		return invalidSignature("Signature expired: %s is now earlier than %s (%s - 5 min.)", format(signedAt), format(now.Add(-maxClockSkew)), format(now))
	}
	if signedAt.After(now.Add(maxClockSkew)) {
		return invalidSignature("Signature not yet current: %s is still later than %s (%s + 5 min.)", format(signedAt), format(now.Add(maxClockSkew)), format(now))
	}
	return nil
}

// checkSignedHeaders makes sure that everything the request's meaning hangs on
// is under the signature: the host and every X-Amz header.
func checkSignedHeaders(r *http.Request, signed []string) *Error {
	if !slices.Contains(signed, "host") {
		return invalidSignature("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for name := range r.Header {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "x-amz-") && !slices.Contains(signed, lower) {
			return invalidSignature("'%s' must be a 'SignedHeader' in the AWS Authorization.", name)
		}
	}
	return nil
}

func (v Verifier) checkCaller(accessKeyID string, tokens []string, now time.Time) *Error {
	token := ""
	if len(tokens) == 1 {
		token = tokens[0]
	}
	if accessKeyID != v.Credentials.AccessKeyID || len(tokens) > 1 || !hmac.Equal([]byte(token), []byte(v.Credentials.SessionToken)) {
		return refuse(codeUnrecognizedClient, "The security token included in the request is invalid.")
	}
	if v.Credentials.CanExpire && !now.Before(v.Credentials.Expires) {
		return refuse(codeExpiredToken, "The security token included in the request is expired")
	}
	return nil
}

// canonicalRequest rebuilds what the client signed from what arrived. The
// server takes only POST / without a query, so those three are constants.
func canonicalRequest(r *http.Request, signedHeaders []string, body []byte) string {
	var b strings.Builder
	b.WriteString("POST\n/\n\n")
	for _, name := range signedHeaders {
		values := r.Header.Values(name)
		switch name {
		case "host": // net/http moves these two out of the header map
			values = []string{r.Host}
		case "content-length":
			values = []string{strconv.FormatInt(r.ContentLength, 10)}
		}
		b.WriteString(name)
		b.WriteByte(':')
		for i, value := range values {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(strings.Join(strings.Fields(value), " "))
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	b.WriteString(strings.Join(signedHeaders, ";"))
	b.WriteByte('\n')
	b.WriteString(hexHash(body))
	return b.String()
}

func signingKey(secret string, auth *authorization) []byte {
	key := []byte("AWS4" + secret)
	for _, part := range []string{auth.date, auth.region, auth.service, scopeTerminator} {
		key = hmacSHA256(key, part)
	}
	return key
}

func hmacSHA256(key []byte, message string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(message))
	return mac.Sum(nil)
}

func hexHash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
