package guard_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"context"

	"github.com/keyfence/keyfence/clients/go/keyfence"
	"github.com/keyfence/keyfence/clients/go/keyfence/guard"
	"github.com/keyfence/keyfence/clients/go/keyfence/keyfencetest"
	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

func newHTTP(t *testing.T, client guard.Client, answers *keyfencev1.HttpAnswers) *guard.HTTP {
	t.Helper()
	made, err := guard.NewHTTP(client, guard.HTTPOptions{Keyspace: "demo", Answers: answers})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// serve sends a request through the guard, and returns the answer and what the handler saw.
func serve(h *guard.HTTP, headers map[string][]string, scopes ...string) (*httptest.ResponseRecorder, *http.Request) {
	request := httptest.NewRequest(http.MethodGet, "/servers", nil)
	for name, values := range headers {
		for _, value := range values {
			request.Header.Add(name, value)
		}
	}
	var seen *http.Request
	out := httptest.NewRecorder()
	h.Require(scopes...)(http.HandlerFunc(func(_ http.ResponseWriter, inner *http.Request) { seen = inner })).ServeHTTP(out, request)
	return out, seen
}

func TestARequestPassesWithAGoodKeyWhichIsTakenOff(t *testing.T) {
	server := keyfencetest.NewServer(t, keyfencetest.Keyspace("demo", "vps:read"))
	h := newHTTP(t, server.Client(t), nil)
	key, keyID := server.CreateKey(t, "demo", "vps:read")
	for _, headers := range []map[string][]string{
		{"Authorization": {"Bearer " + string(key)}},
		{"X-Api-Key": {string(key)}},
		{"X-Api-Key": {string(key)}, "Authorization": {"bearer " + string(key)}},
	} {
		out, seen := serve(h, headers, "vps:read")
		if out.Code != http.StatusOK || seen == nil {
			t.Fatalf("%v: %d %s", headers, out.Code, out.Body)
		}
		if principal, _ := guard.PrincipalFrom(seen.Context()); principal.GetKeyId() != keyID {
			t.Errorf("the caller is %v", principal)
		}
		if seen.Header.Get("Authorization") != "" || seen.Header.Get("X-Api-Key") != "" {
			t.Errorf("the handler sees the key: %v", seen.Header)
		}
	}
}

func TestADenialIsToldByTheDefaultsOfRFC6750(t *testing.T) {
	server := keyfencetest.NewServer(t, keyfencetest.Keyspace("demo", "vps:read", "vps:write"))
	h := newHTTP(t, server.Client(t), nil)
	key, keyID := server.CreateKey(t, "demo", "vps:read")

	out, seen := serve(h, map[string][]string{"X-Api-Key": {string(key)}}, "vps:write")
	if seen != nil || out.Code != http.StatusForbidden ||
		out.Header().Get("WWW-Authenticate") != `Bearer realm="demo", error="insufficient_scope"` {
		t.Errorf("a missing scope: %d %v", out.Code, out.Header())
	}
	good, _ := server.CreateKey(t, "demo", "vps:read")
	server.RevokeKey(t, keyID)
	want, _ := serve(h, nil, "vps:read")
	if want.Code != http.StatusUnauthorized || want.Header().Get("WWW-Authenticate") != `Bearer realm="demo"` ||
		want.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("no key: %d %v", want.Code, want.Header())
	}
	for name, headers := range map[string]map[string][]string{
		"revoked":        {"X-Api-Key": {string(key)}},
		"unknown":        {"Authorization": {"Bearer kf_live_unknown"}},
		"two":            {"Authorization": {"Bearer kf_live_unknown"}, "X-Api-Key": {string(good)}},
		"twice":          {"X-Api-Key": {string(good), string(good)}},
		"another scheme": {"Authorization": {"Basic abc"}, "X-Api-Key": {string(good)}},
		"a comma":        {"X-Api-Key": {string(good) + "," + string(good)}},
	} {
		out, seen := serve(h, headers, "vps:read")
		if seen != nil || out.Code != want.Code || out.Body.String() != want.Body.String() {
			t.Errorf("%s is told from no key: %d %s", name, out.Code, out.Body)
		}
	}
}

func TestTheKeyspacesOwnAnswersAreGiven(t *testing.T) {
	keyspace := keyfencetest.Keyspace("demo", "vps:read", "vps:write")
	keyspace.Http = &keyfencev1.HttpAnswers{
		Credentials: &keyfencev1.HttpCredentials{Headers: []string{"X-Key"}, Cookie: "session"},
		Answers: []*keyfencev1.HttpAnswer{
			{Cause: "unauthenticated", Status: 400, Code: "BAD_KEY", Message: "no {{good}} key"},
			{Cause: "key_revoked", Message: `it was "revoked"`},
			{Cause: "scope_missing", Code: "NO_SCOPE", Message: "lacks {missing_scopes} of {required_scopes}"},
		},
		Body: `{"error": {"text": "{message}", "code": "{code}", "n": "{status}", "lacks": "{missing_scopes}", "limit": "{limit}", "of": ["{keyspace}", true, 1]}}`,
	}
	server := keyfencetest.NewServer(t, keyspace)
	client := server.Client(t)
	answers, err := guard.FetchAnswers(t.Context(), client, "demo")
	if err != nil {
		t.Fatal(err)
	}
	h := newHTTP(t, client, answers)
	key, keyID := server.CreateKey(t, "demo", "vps:read")

	out, _ := serve(h, map[string][]string{"X-Key": {string(key)}}, "vps:read", "vps:write")
	wantBody(t, out, 403, `{"error":{"text":"lacks vps:write of vps:read, vps:write","code":"NO_SCOPE","n":403,"lacks":["vps:write"],"limit":null,"of":["demo",true,1]}}`)
	if challenge := out.Header().Get("WWW-Authenticate"); challenge != `ApiKey realm="demo", error="insufficient_scope"` {
		t.Errorf("the challenge is %s", challenge)
	}
	out, _ = serve(h, map[string][]string{"Authorization": {"Bearer " + string(key)}}, "vps:read")
	wantBody(t, out, 400, `{"error":{"text":"no {good} key","code":"BAD_KEY","n":400,"lacks":[],"limit":null,"of":["demo",true,1]}}`)
	out, seen := serve(h, map[string][]string{"Cookie": {"a=1; session=" + string(key) + "; b=2"}}, "vps:read")
	if out.Code != 200 || seen.Header.Get("Cookie") != "a=1; b=2" {
		t.Errorf("a cookie: %d %v", out.Code, seen)
	}
	server.RevokeKey(t, keyID)
	out, _ = serve(h, map[string][]string{"X-Key": {string(key)}}, "vps:read")
	wantBody(t, out, 400, `{"error":{"text":"it was \"revoked\"","code":"BAD_KEY","n":400,"lacks":[],"limit":null,"of":["demo",true,1]}}`)
}

func wantBody(t *testing.T, out *httptest.ResponseRecorder, status int, body string) {
	t.Helper()
	if out.Code != status || out.Body.String() != body || !json.Valid(out.Body.Bytes()) {
		t.Errorf("%d %s, not %d %s", out.Code, out.Body, status, body)
	}
}

// limited answers what the fake does not know: rate limits.
type limited struct {
	guard.Client
	verdict keyfence.Verdict
}

func (l limited) CheckScope(context.Context, keyfence.Check) (keyfence.Verdict, error) {
	return l.verdict, nil
}

func TestARateLimitIsToldExceptWith401(t *testing.T) {
	limit := &keyfence.RateLimitStatus{
		Limit: 10, Remaining: 0, ResetTime: timestamppb.New(time.Unix(1_900_000_000, 0)), RetryAfter: durationpb.New(7 * time.Second),
	}
	principal := &keyfence.Principal{KeyId: "key_1"}
	headers := map[string][]string{"X-Api-Key": {"kf_live_something"}}
	for reason, want := range map[keyfence.Reason]int{
		keyfence.ReasonOK: 200, keyfence.ReasonRateLimited: 429, keyfence.ReasonScopeMissing: 403, keyfence.ReasonKeyRevoked: 401,
	} {
		verdict := keyfence.Verdict{Allowed: want == 200, Reason: reason, Principal: principal, RateLimit: limit}
		out, _ := serve(newHTTP(t, limited{verdict: verdict}, nil), headers, "vps:read")
		told := out.Header().Get("X-RateLimit-Limit") == "10" && out.Header().Get("X-RateLimit-Reset") == "1900000000"
		if out.Code != want || told != (want != 401) || (want == 429 && out.Header().Get("Retry-After") != "7") {
			t.Errorf("%v: %d %v", reason, out.Code, out.Header())
		}
	}
}

func TestWithoutAVerdictARequestIsNotDenied(t *testing.T) {
	server := keyfencetest.NewServer(t, keyfencetest.Keyspace("demo", "vps:read"))
	h := newHTTP(t, server.Client(t), nil)
	key, _ := server.CreateKey(t, "demo", "vps:read")
	if out, seen := serve(h, map[string][]string{"X-Api-Key": {string(key)}}, "vps:raed"); seen != nil || out.Code != 500 {
		t.Errorf("a scope that is not registered: %d", out.Code)
	}
	err := h.Verify(t.Context())
	if err == nil || !strings.Contains(err.Error(), `"vps:raed"`) || strings.Contains(err.Error(), `"vps:read"`) {
		t.Errorf("the scopes were verified: %v", err)
	}
	const check = keyfencev1.AuthorizationService_CheckScope_FullMethodName
	server.FailNext(check, 1_000, keyfencetest.Error(codes.Unavailable, "STORE_UNAVAILABLE", "away", nil))
	if out, seen := serve(h, map[string][]string{"X-Api-Key": {string(key)}}, "vps:read"); seen != nil || out.Code != 503 {
		t.Errorf("Keyfence is away: %d", out.Code)
	}
}

func TestAnswersThatCannotBeReadAreRefused(t *testing.T) {
	for _, body := range []string{`{"a": "{b"}`, `{"a": `, strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20)} {
		answers := &keyfencev1.HttpAnswers{Body: body}
		if _, err := guard.NewHTTP(nil, guard.HTTPOptions{Keyspace: "demo", Answers: answers}); err == nil {
			t.Errorf("the body %s was taken", body)
		}
	}
}
