package guard

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/keyfence/keyfence/clients/go/keyfence"
	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

const (
	causeUnauthenticated = "unauthenticated"
	causeScopeMissing    = "scope_missing"
	causeRateLimited     = "rate_limited"
	plainText            = "text/plain"
	maxDepth             = 8
)

// The words are those of RFC 6750, section 3.1. The challenge of a 401 names no error: it would
// tell a missing credential from a wrong one.
var defaultAnswers = map[string]*keyfencev1.HttpAnswer{
	causeUnauthenticated: {
		Status: http.StatusUnauthorized, Code: "invalid_token",
		Message: "The credential is missing or not valid", WwwAuthenticate: `{scheme} realm="{keyspace}"`,
	},
	causeScopeMissing: {
		Status: http.StatusForbidden, Code: "insufficient_scope", Message: "The credential does not allow this",
		WwwAuthenticate: `{scheme} realm="{keyspace}", error="insufficient_scope"`,
	},
	causeRateLimited: {Status: http.StatusTooManyRequests, Code: "rate_limited", Message: "Too many requests"},
}

// answers are how a keyspace speaks HTTP, compiled: docs/http.md has the language.
type answers struct {
	keyspace    string
	contentType string
	scheme      string
	credentials *keyfencev1.HttpCredentials
	limits      *keyfencev1.HttpRateLimitHeaders
	byReason    map[keyfence.Reason]*answer
}

type answer struct {
	status    int
	code      string
	message   template
	challenge template
	body      func(values) (string, error)
}

func compileAnswers(declared *keyfencev1.HttpAnswers, keyspace string) (*answers, error) {
	compiled := &answers{
		keyspace:    keyspace,
		contentType: cmp.Or(declared.GetContentType(), "application/json"),
		scheme:      "ApiKey",
		credentials: declared.GetCredentials(),
		limits:      declared.GetRateLimitHeaders(),
		byReason:    map[keyfence.Reason]*answer{},
	}
	if compiled.credentials == nil {
		compiled.credentials = &keyfencev1.HttpCredentials{Bearer: true, Headers: []string{"X-API-Key"}}
	}
	if compiled.credentials.Bearer {
		compiled.scheme = "Bearer"
	}
	if compiled.limits == nil {
		compiled.limits = &keyfencev1.HttpRateLimitHeaders{
			Limit: "X-RateLimit-Limit", Remaining: "X-RateLimit-Remaining", Reset_: "X-RateLimit-Reset",
		}
	}
	body := cmp.Or(declared.GetBody(), `{"error": "{code}", "error_description": "{message}"}`)
	for number := range keyfencev1.Reason_name {
		reason := keyfence.Reason(number)
		parts := resolve(declared.GetAnswers(), reason)
		made := &answer{status: int(parts.Status), code: parts.Code}
		var err [3]error
		made.message, err[0] = parseTemplate(parts.Message)
		made.challenge, err[1] = parseTemplate(parts.WwwAuthenticate)
		made.body, err[2] = compileBody(cmp.Or(parts.Body, body), compiled.contentType)
		if failed := errors.Join(err[:]...); failed != nil {
			return nil, failed
		}
		compiled.byReason[reason] = made
	}
	return compiled, nil
}

// resolve is the answer for a reason: its own words, then those of the cause behind it, then ours.
func resolve(declared []*keyfencev1.HttpAnswer, reason keyfence.Reason) *keyfencev1.HttpAnswer {
	own := strings.ToLower(strings.TrimPrefix(reason.String(), "REASON_"))
	general := causeUnauthenticated
	if own == causeScopeMissing || own == causeRateLimited {
		general = own
	}
	from := defaultAnswers[general]
	resolved := &keyfencev1.HttpAnswer{
		Status: from.Status, Code: from.Code, Message: from.Message, WwwAuthenticate: from.WwwAuthenticate,
	}
	for _, cause := range []string{general, own} {
		for _, one := range declared {
			if one.Cause != cause {
				continue
			}
			resolved.Status = cmp.Or(one.Status, resolved.Status)
			resolved.Code = cmp.Or(one.Code, resolved.Code)
			resolved.Message = cmp.Or(one.Message, resolved.Message)
			resolved.Body = cmp.Or(one.Body, resolved.Body)
			resolved.WwwAuthenticate = cmp.Or(one.WwwAuthenticate, resolved.WwwAuthenticate)
		}
	}
	return resolved
}

func (a *answers) write(out http.ResponseWriter, request *http.Request, verdict keyfence.Verdict, scopes []string) {
	parts, ok := a.byReason[verdict.Reason]
	if !ok {
		// A reason of a later version: the key did not pass.
		parts = a.byReason[keyfence.ReasonKeyUnknown]
	}
	placed := values{
		"keyspace": a.keyspace, "scheme": a.scheme, "code": parts.code, "status": parts.status,
		"missing_scopes": orEmpty(verdict.MissingScopes), "required_scopes": orEmpty(scopes),
		"request_id": request.Header.Get("X-Request-Id"), "time": time.Now().UTC().Format(time.RFC3339),
		"limit": nil, "remaining": nil, "reset": nil, "retry_after": nil,
	}
	if verdict.Reason == keyfence.ReasonScopeMissing || verdict.Reason == keyfence.ReasonRateLimited {
		// Of a 401 the limit would tell that there is such a key.
		a.placeLimit(placed, out.Header(), verdict.RateLimit)
	}
	placed["message"] = parts.message.render(placed, ", ")
	body, err := parts.body(placed)
	if err != nil {
		http.Error(out, "authorization is not set up correctly", http.StatusInternalServerError)
		return
	}
	header := out.Header()
	header.Set("Content-Type", a.contentType)
	// The answer is for this credential and this moment.
	header.Set("Cache-Control", "no-store")
	if challenge := parts.challenge.render(placed, " "); challenge != "" {
		header.Set("WWW-Authenticate", challenge)
	}
	out.WriteHeader(parts.status)
	_, _ = io.WriteString(out, body)
}

func (a *answers) placeLimit(placed values, header http.Header, limit *keyfence.RateLimitStatus) {
	if limit == nil {
		return
	}
	a.writeLimit(header, limit)
	placed["limit"], placed["remaining"], placed["reset"] = limit.Limit, limit.Remaining, limit.ResetTime.GetSeconds()
	if limit.RetryAfter != nil {
		placed["retry_after"] = limit.RetryAfter.GetSeconds()
		header.Set("Retry-After", strconv.FormatInt(limit.RetryAfter.GetSeconds(), 10))
	}
}

// writeLimit sets the headers that say where a rate limit stands.
func (a *answers) writeLimit(header http.Header, limit *keyfence.RateLimitStatus) {
	if limit == nil {
		return
	}
	for name, value := range map[string]int64{
		a.limits.Limit: limit.Limit, a.limits.Remaining: limit.Remaining, a.limits.Reset_: limit.ResetTime.GetSeconds(),
	} {
		if name != "" {
			header.Set(name, strconv.FormatInt(value, 10))
		}
	}
}

func orEmpty(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}

// values are what placeholders stand for: texts, numbers, lists of texts, or nil for nothing.
type values map[string]any

// template has literal texts at even places and names of values at odd ones.
type template []string

var templatePart = regexp.MustCompile(`\{\{|\}\}|\{([a-z_]+)\}|[{}]`)

func parseTemplate(text string) (template, error) {
	parts := template{""}
	position := 0
	for _, at := range templatePart.FindAllStringSubmatchIndex(text, -1) {
		parts[len(parts)-1] += text[position:at[0]]
		position = at[1]
		switch found := text[at[0]:at[1]]; {
		case at[2] >= 0:
			parts = append(parts, text[at[2]:at[3]], "")
		case len(found) == 2:
			parts[len(parts)-1] += found[:1]
		default:
			return nil, fmt.Errorf("the %q at byte %d belongs to no placeholder", found, at[0]+1)
		}
	}
	parts[len(parts)-1] += text[position:]
	return parts, nil
}

func (t template) render(placed values, separator string) string {
	var out strings.Builder
	for index, part := range t {
		if index%2 == 0 {
			out.WriteString(part)
			continue
		}
		switch value := placed[part].(type) {
		case nil:
		case []string:
			out.WriteString(strings.Join(value, separator))
		default:
			fmt.Fprint(&out, value)
		}
	}
	return out.String()
}

// value is the template as a value of JSON: of one that is a placeholder and nothing else, the
// placeholder's own.
func (t template) value(placed values) any {
	if len(t) == 3 && t[0] == "" && t[2] == "" {
		return placed[t[1]]
	}
	return t.render(placed, ", ")
}

func compileBody(text, contentType string) (func(values) (string, error), error) {
	if contentType == plainText {
		parsed, err := parseTemplate(text)
		return func(placed values) (string, error) { return parsed.render(placed, ", "), nil }, err
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	root, err := parseJSON(decoder, maxDepth)
	if err != nil {
		return nil, fmt.Errorf("the body is not JSON that can be used: %w", err)
	}
	return func(placed values) (string, error) {
		var out bytes.Buffer
		err := root(&out, placed)
		return out.String(), err
	}, nil
}

// node writes a value of JSON. Placeholders stand in strings, and what is put into them is
// written as a value, so that none can break out of its place.
type node func(*bytes.Buffer, values) error

func parseJSON(decoder *json.Decoder, depth int) (node, error) {
	if depth < 0 {
		return nil, errors.New("it is nested too deep")
	}
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Delim:
		return parseComposite(decoder, token, depth)
	case string:
		parsed, err := parseTemplate(token)
		return func(out *bytes.Buffer, placed values) error { return writeJSON(out, parsed.value(placed)) }, err
	default:
		return func(out *bytes.Buffer, _ values) error { return writeJSON(out, token) }, nil
	}
}

func parseComposite(decoder *json.Decoder, open json.Delim, depth int) (node, error) {
	var names []string
	var inner []node
	for decoder.More() {
		if open == '{' {
			name, err := decoder.Token()
			if err != nil {
				return nil, err
			}
			names = append(names, name.(string))
		}
		one, err := parseJSON(decoder, depth-1)
		if err != nil {
			return nil, err
		}
		inner = append(inner, one)
	}
	if _, err := decoder.Token(); err != nil {
		return nil, err
	}
	return func(out *bytes.Buffer, placed values) error {
		out.WriteRune(rune(open))
		for index, one := range inner {
			if index > 0 {
				out.WriteByte(',')
			}
			if open == '{' {
				if err := writeJSON(out, names[index]); err != nil {
					return err
				}
				out.WriteByte(':')
			}
			if err := one(out, placed); err != nil {
				return err
			}
		}
		out.WriteRune(rune(open) + 2) // '{' and '}', '[' and ']' are two apart
		return nil
	}, nil
}

func writeJSON(out *bytes.Buffer, value any) error {
	text, err := json.Marshal(value)
	out.Write(text)
	return err
}
