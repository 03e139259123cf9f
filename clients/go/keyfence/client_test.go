package keyfence_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/keyfence/keyfence/clients/go/keyfence"
	"github.com/keyfence/keyfence/clients/go/keyfence/keyfencetest"
	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

const (
	checkScope = keyfencev1.AuthorizationService_CheckScope_FullMethodName
	createKey  = keyfencev1.KeyService_CreateKey_FullMethodName
	updateKey  = keyfencev1.KeyService_UpdateKey_FullMethodName
	batchCheck = keyfencev1.AuthorizationService_BatchCheckScope_FullMethodName
)

func demo(t testing.TB) *keyfencetest.Server {
	t.Helper()
	keyspace := keyfencetest.Keyspace("demo", "vps:read", "vps:write")
	keyspace.Scopes[1].Implies = []string{"vps:read"}
	return keyfencetest.NewServer(t, keyspace)
}

func mustCheck(t testing.TB, client *keyfence.Client, key keyfence.Secret, scopes ...string) keyfence.Verdict {
	t.Helper()
	verdict, err := client.CheckScope(t.Context(), keyfence.Check{APIKey: key, RequiredScopes: scopes, Keyspace: "demo"})
	if err != nil {
		t.Fatalf("no verdict: %v", err)
	}
	return verdict
}

func TestADenialIsAVerdictAndNoError(t *testing.T) {
	server := demo(t)
	client := server.Client(t)
	key, keyID := server.CreateKey(t, "demo", "vps:read")

	if verdict := mustCheck(t, client, key, "vps:read"); !verdict.Allowed || verdict.Principal.KeyId != keyID {
		t.Errorf("a good key: %+v", verdict)
	}
	verdict := mustCheck(t, client, key, "vps:write")
	if verdict.Allowed || verdict.Reason != keyfence.ReasonScopeMissing || len(verdict.MissingScopes) != 1 {
		t.Errorf("a key without the scope: %+v", verdict)
	}
	server.RevokeKey(t, keyID)
	if verdict := mustCheck(t, client, key, "vps:read"); verdict.Allowed || verdict.Reason != keyfence.ReasonKeyRevoked {
		t.Errorf("a revoked key: %+v", verdict)
	}
	identity, err := client.Authenticate(t.Context(), keyfence.Check{APIKey: key})
	if err != nil || identity.Allowed || identity.Principal.KeyId != keyID {
		t.Errorf("whose key it is: %+v, %v", identity, err)
	}
}

func TestAnErrorTellsItsReasonAndShowsNoSecret(t *testing.T) {
	server := demo(t)
	client := server.Client(t)
	key, _ := server.CreateKey(t, "demo", "vps:read")
	server.FailNext(checkScope, 1, keyfencetest.Error(codes.InvalidArgument, "INVALID_FIELD",
		"the key "+string(key)+" with "+string(keyfencetest.Token), map[string]string{"key": string(key)}))

	_, err := client.CheckScope(t.Context(), keyfence.Check{APIKey: key, RequiredScopes: []string{"vps:read"}})

	var failed *keyfence.Error
	if !errors.As(err, &failed) || failed.Code != codes.InvalidArgument || failed.Reason != "INVALID_FIELD" {
		t.Fatalf("the error is %#v", err)
	}
	printed := fmt.Sprintf("%v %+v %#v", err, failed, failed.Metadata)
	if strings.Contains(printed, string(key)) || strings.Contains(printed, string(keyfencetest.Token)) {
		t.Errorf("the error shows a secret: %s", printed)
	}
}

func TestAnUnknownScopeIsAnError(t *testing.T) {
	server := demo(t)
	key, _ := server.CreateKey(t, "demo", "*")
	for name, options := range map[string][]keyfence.Option{
		"unary": nil, "batched": {keyfence.WithBatching(keyfence.Batching{})}, "cached": {keyfence.WithCache(keyfence.Cache{})},
	} {
		client := server.Client(t, options...)
		_, err := client.CheckScope(t.Context(), keyfence.Check{APIKey: key, RequiredScopes: []string{"vps:raed"}, Keyspace: "demo"})
		var failed *keyfence.Error
		if !errors.As(err, &failed) || failed.Reason != "UNKNOWN_SCOPE" || failed.Metadata["scope"] != "vps:raed" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOnlyWhatDoesNoHarmTwiceIsSentAgain(t *testing.T) {
	server := demo(t)
	client := server.Client(t)
	key, keyID := server.CreateKey(t, "demo", "vps:read")
	away := keyfencetest.Error(codes.Unavailable, "STORE_UNAVAILABLE", "the store is away", nil)

	server.FailNext(checkScope, 2, away)
	if verdict := mustCheck(t, client, key, "vps:read"); !verdict.Allowed || server.Calls(checkScope) != 3 {
		t.Errorf("a check was sent %d times: %+v", server.Calls(checkScope), verdict)
	}
	server.FailNext(createKey, 2, away)
	created, err := client.Keys().CreateKey(t.Context(), &keyfencev1.CreateKeyRequest{Keyspace: "demo", AccountId: "acct_1"})
	if err != nil || created.ApiKey == "" || server.Calls(createKey) != 3 {
		t.Errorf("CreateKey was sent %d times: %v", server.Calls(createKey), err)
	}
	server.FailNext(updateKey, 1, away)
	_, err = client.Keys().UpdateKey(t.Context(), &keyfencev1.UpdateKeyRequest{Key: &keyfencev1.Key{KeyId: keyID}})
	var failed *keyfence.Error
	if !errors.As(err, &failed) || failed.Code != codes.Unavailable || server.Calls(updateKey) != 1 {
		t.Errorf("UpdateKey was sent %d times: %v", server.Calls(updateKey), err)
	}
}

func TestManyFailuresDoNotEndRepeating(t *testing.T) {
	server := demo(t)
	client := server.Client(t, keyfence.WithTimeouts(20*time.Second, 20*time.Second))
	key, _ := server.CreateKey(t, "demo", "vps:read")
	const callers = 40
	server.FailNext(checkScope, 5*callers, keyfencetest.Error(codes.Unavailable, "STORE_UNAVAILABLE", "the store is away", nil))
	var asking sync.WaitGroup
	for range callers {
		asking.Go(func() {
			check := keyfence.Check{APIKey: key, RequiredScopes: []string{"vps:read"}}
			if verdict, err := client.CheckScope(t.Context(), check); err != nil || !verdict.Allowed {
				t.Errorf("after the outage: %+v, %v", verdict, err)
			}
		})
	}
	asking.Wait()
}

func TestACallWithoutTimeForAnotherAttemptTellsTheLastError(t *testing.T) {
	server := demo(t)
	client := server.Client(t, keyfence.WithTimeouts(500*time.Millisecond, time.Second))
	server.FailNext(checkScope, 1_000, keyfencetest.Error(codes.Unavailable, "STORE_UNAVAILABLE", "the store is away", nil))
	_, err := client.CheckScope(t.Context(), keyfence.Check{APIKey: "kf_live_something", RequiredScopes: []string{"vps:read"}})
	var failed *keyfence.Error
	if !errors.As(err, &failed) || failed.Reason != "STORE_UNAVAILABLE" || server.Calls(checkScope) < 2 {
		t.Errorf("after %d attempts: %v", server.Calls(checkScope), err)
	}
}

func TestClosingEndsACallThatWaitsForItsNextAttempt(t *testing.T) {
	server := demo(t)
	client := server.Client(t, keyfence.WithTimeouts(time.Hour, time.Hour))
	server.FailNext(checkScope, 1_000_000, keyfencetest.Error(codes.Unavailable, "STORE_UNAVAILABLE", "the store is away", nil))
	ended := make(chan error, 1)
	go func() {
		_, err := client.CheckScope(context.Background(), keyfence.Check{APIKey: "kf_live_something", RequiredScopes: []string{"vps:read"}})
		ended <- err
	}()
	for server.Calls(checkScope) < 3 {
		time.Sleep(time.Millisecond)
	}
	_ = client.Close()
	if err := <-ended; !errors.Is(err, keyfence.ErrClosed) {
		t.Errorf("the call ended with %v", err)
	}
}

func TestTheFakeListsKeysInPages(t *testing.T) {
	server := demo(t)
	client := server.Client(t)
	want := []string{}
	for range 3 {
		_, keyID := server.CreateKey(t, "demo", "vps:read")
		want = append(want, keyID)
	}
	var listed []string
	request := &keyfencev1.ListKeysRequest{Keyspace: "demo", PageSize: 2}
	for first := true; first || request.PageToken != ""; first = false {
		page, err := client.Keys().ListKeys(t.Context(), request)
		if err != nil || len(page.Keys) > 2 {
			t.Fatalf("a page: %v, %v", page, err)
		}
		for _, key := range page.Keys {
			listed = append(listed, key.KeyId)
		}
		request.PageToken = page.NextPageToken
	}
	if !slices.Equal(listed, want) {
		t.Errorf("listed %v, not %v", listed, want)
	}
}

func TestTheFakeKnowsNetworks(t *testing.T) {
	server := demo(t)
	client := server.Client(t)
	created, err := client.Keys().CreateKey(t.Context(), &keyfencev1.CreateKeyRequest{
		Keyspace: "demo", AccountId: "acct_1", AllowedAddresses: []string{"10.0.0.0/8", "2001:db8::1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "2001:db8::1": true, "192.0.2.1": false, "": false,
	} {
		verdict, err := client.Authenticate(t.Context(), keyfence.Check{APIKey: keyfence.Secret(created.ApiKey), ClientAddress: address})
		if err != nil || verdict.Allowed != want {
			t.Errorf("from %q: %+v, %v", address, verdict, err)
		}
	}
}

func TestARequestThatNamesAnIdKeepsIt(t *testing.T) {
	server := demo(t)
	client := server.Client(t)
	request := &keyfencev1.CreateKeyRequest{Keyspace: "demo", AccountId: "acct_1", RequestId: "once"}
	if _, err := client.Keys().CreateKey(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	_, err := client.Keys().CreateKey(t.Context(), request)
	var failed *keyfence.Error
	if !errors.As(err, &failed) || failed.Reason != "REQUEST_ALREADY_DONE" || failed.Metadata["key_id"] == "" {
		t.Errorf("a repeated request: %v", err)
	}
}

func TestARequestWithoutAnIdGetsOne(t *testing.T) {
	server := demo(t)
	var sent []string
	client := server.Client(t, keyfence.WithDialOptions(grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, path string, request, response any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
			sent = append(sent, request.(*keyfencev1.CreateKeyRequest).RequestId)
			return invoke(ctx, path, request, response, conn, options...)
		})))
	request := &keyfencev1.CreateKeyRequest{Keyspace: "demo", AccountId: "acct_1"}
	for range 2 {
		if _, err := client.Keys().CreateKey(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	if request.RequestId != "" || sent[0] == "" || sent[0] == sent[1] {
		t.Errorf("the requests had the ids %q, and the caller's has %q", sent, request.RequestId)
	}
}

func TestEveryCallHasADeadline(t *testing.T) {
	client, err := keyfence.New("127.0.0.1:1", keyfence.WithTimeouts(50*time.Millisecond, 50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.CheckScope(context.Background(), keyfence.Check{APIKey: "kf_live_something", RequiredScopes: []string{"vps:read"}})
	var failed *keyfence.Error
	if !errors.As(err, &failed) || (failed.Code != codes.DeadlineExceeded && failed.Code != codes.Unavailable) {
		t.Errorf("a server that is away: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = client.WhoAmI(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a call whose caller has given up: %v", err)
	}
}

func TestTheTokenComesFromATextAFileOrAFunction(t *testing.T) {
	server := demo(t)
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("kf_system_wrong_wrong_wrong")
	fromFile := server.Client(t, keyfence.WithTokenFile(file))
	_, err := fromFile.WhoAmI(t.Context())
	var failed *keyfence.Error
	if !errors.As(err, &failed) || failed.Reason != "CREDENTIAL_REJECTED" {
		t.Errorf("a wrong token: %v", err)
	}
	write(string(keyfencetest.Token))
	if _, err := fromFile.WhoAmI(t.Context()); err != nil {
		t.Errorf("a file that has changed: %v", err)
	}
	fromFunction := server.Client(t, keyfence.WithTokenFunc(
		func(context.Context) (string, error) { return string(keyfencetest.Token), nil }))
	if _, err := fromFunction.WhoAmI(t.Context()); err != nil {
		t.Errorf("a function: %v", err)
	}
	if _, err := fromFunction.WhoAmI(keyfence.WithCredential(t.Context(), "kf_live_another_credential")); !errors.As(err, &failed) {
		t.Errorf("a context's own credential was not sent: %v", err)
	}
	secret := "kf_system_0123456789abcdef0123"
	misplaced := server.Client(t, keyfence.WithTokenFile(secret))
	if _, err := misplaced.WhoAmI(t.Context()); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("a token in the place of a file's path: %v", err)
	}
}

func TestBatchedChecksShareMessages(t *testing.T) {
	server := demo(t)
	client := server.Client(t, keyfence.WithBatching(keyfence.Batching{}))
	good, _ := server.CreateKey(t, "demo", "vps:read")
	bad, _ := server.CreateKey(t, "demo")
	const checks = 64
	var wrong atomic.Int32
	var asking sync.WaitGroup
	for index := range checks {
		asking.Go(func() {
			key, want := good, true
			if index%2 == 1 {
				key, want = bad, false
			}
			verdict, err := client.CheckScope(t.Context(), keyfence.Check{APIKey: key, RequiredScopes: []string{"vps:read"}})
			if err != nil || verdict.Allowed != want {
				wrong.Add(1)
			}
		})
	}
	asking.Wait()
	if wrong.Load() != 0 {
		t.Errorf("%d of %d checks got another's answer", wrong.Load(), checks)
	}
	if server.Calls(checkScope) != 0 || server.Calls(batchCheck) >= checks {
		t.Errorf("%d messages for %d checks, and %d alone", server.Calls(batchCheck), checks, server.Calls(checkScope))
	}
}

func TestOneCallersGivingUpFailsNoOtherCheckOfItsBatch(t *testing.T) {
	server := demo(t)
	impatient, giveUp := context.WithCancel(t.Context())
	begun, release := make(chan struct{}), make(chan struct{})
	batches := 0
	client := server.Client(t, keyfence.WithBatching(keyfence.Batching{}), keyfence.WithDialOptions(grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, path string, request, response any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
			if path == batchCheck {
				if batches++; batches == 1 {
					close(begun)
					<-release // so that the other checks share the next message
				} else {
					giveUp()
				}
			}
			return invoke(ctx, path, request, response, conn, options...)
		})))
	key, _ := server.CreateKey(t, "demo", "vps:read")
	ask := func(ctx context.Context) (keyfence.Verdict, error) {
		return client.CheckScope(ctx, keyfence.Check{APIKey: key, RequiredScopes: []string{"vps:read"}})
	}
	var asking sync.WaitGroup
	asking.Go(func() { _, _ = ask(t.Context()) })
	<-begun
	asking.Go(func() {
		if verdict, err := ask(impatient); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that has given up got %v, %v", verdict, err)
		}
	})
	time.Sleep(20 * time.Millisecond) // so that the impatient one is the first of the batch
	for range 5 {
		asking.Go(func() {
			if verdict, err := ask(t.Context()); err != nil || !verdict.Allowed {
				t.Errorf("a check was failed by another one: %v", err)
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	close(release)
	asking.Wait()
}

func TestALargeCheckIsSentAlone(t *testing.T) {
	server := demo(t)
	client := server.Client(t, keyfence.WithBatching(keyfence.Batching{}))
	long := "kf_live_" + strings.Repeat("a", 2_000)
	verdict, err := client.CheckScope(t.Context(), keyfence.Check{APIKey: keyfence.Secret(long), RequiredScopes: []string{"vps:read"}})
	if err != nil || verdict.Allowed {
		t.Errorf("a made-up key got %v, %v", verdict, err)
	}
	if server.Calls(checkScope) != 1 || server.Calls(batchCheck) != 0 {
		t.Errorf("%d batches and %d single checks", server.Calls(batchCheck), server.Calls(checkScope))
	}
}

func TestACheckThatDidNotFitTheAnswerIsAskedAlone(t *testing.T) {
	server := demo(t)
	client := server.Client(t, keyfence.WithBatching(keyfence.Batching{}), keyfence.WithDialOptions(grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, path string, request, response any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
			batch, isBatch := response.(*keyfencev1.BatchCheckScopeResponse)
			if !isBatch {
				return invoke(ctx, path, request, response, conn, options...)
			}
			batch.Results = []*keyfencev1.BatchCheckScopeResult{{Result: &keyfencev1.BatchCheckScopeResult_Error{Error: &keyfencev1.CheckError{
				Code: int32(codes.ResourceExhausted), Reason: "LIMIT_REACHED", Metadata: map[string]string{"limit": "answer_bytes"},
			}}}}
			return nil
		})))
	key, _ := server.CreateKey(t, "demo", "vps:read")
	verdict, err := client.CheckScope(t.Context(), keyfence.Check{APIKey: key, RequiredScopes: []string{"vps:read"}})
	if err != nil || !verdict.Allowed || server.Calls(checkScope) != 1 {
		t.Errorf("the check was answered with %v, %v", verdict, err)
	}
}

func TestNothingThatIsPrintedHoldsAKey(t *testing.T) {
	const key = "kf_live_secretsecretsecretsecret"
	values := []any{
		keyfence.Secret(key),
		keyfence.Check{APIKey: key},
		&keyfence.Check{APIKey: key},
		[]keyfence.Check{{APIKey: key}},
		&keyfencev1.AuthenticateRequest{ApiKey: key},
		&keyfencev1.CheckScopeRequest{ApiKey: key},
		&keyfencev1.BatchCheckScopeRequest{Checks: []*keyfencev1.CheckScopeRequest{{ApiKey: key}}},
		&keyfencev1.CreateKeyResponse{ApiKey: key, Key: &keyfencev1.Key{KeyId: "key_1"}},
		&keyfencev1.RotateKeyResponse{ApiKey: key},
		&keyfencev1.FetchFactsRequest{ApiKey: key},
		&keyfencev1.LogInRequest{Password: key},
		&keyfencev1.LogInResponse{SessionToken: key},
		&keyfencev1.RegisterAccountRequest{Password: key},
	}
	for _, value := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			if printed := fmt.Sprintf(verb, value); strings.Contains(printed, "secretsecret") {
				t.Errorf("%s of %T shows the key: %s", verb, value, printed)
			}
		}
		if text, ok := value.(fmt.Stringer); ok && strings.Contains(text.String(), "secretsecret") {
			t.Errorf("String of %T shows the key", value)
		}
		if marshalled, err := json.Marshal(value); err != nil || strings.Contains(string(marshalled), "secretsecret") {
			t.Errorf("JSON of %T shows the key: %s, %v", value, marshalled, err)
		}
		for _, handler := range []func(*strings.Builder) slog.Handler{
			func(out *strings.Builder) slog.Handler { return slog.NewTextHandler(out, nil) },
			func(out *strings.Builder) slog.Handler { return slog.NewJSONHandler(out, nil) },
		} {
			var out strings.Builder
			slog.New(handler(&out)).Info("call", "value", value)
			if strings.Contains(out.String(), "secretsecret") {
				t.Errorf("a log of %T shows the key: %s", value, out.String())
			}
		}
	}
	if message := (&keyfencev1.CreateKeyResponse{ApiKey: key}); message.ApiKey != key {
		t.Error("printing has changed the message")
	}
}

func TestPlaintextIsForLocalTargetsOnly(t *testing.T) {
	server := demo(t)
	address := strings.Replace(server.Target, "127.0.0.1", "localhost", 1)
	for _, target := range []string{server.Target, address, "dns:///" + address} {
		client, err := keyfence.New(target, keyfence.WithToken(keyfencetest.Token))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.WhoAmI(t.Context()); err != nil {
			t.Errorf("%s: %v", target, err)
		}
		_ = client.Close()
	}
	for target, want := range map[string]string{
		"https://keyfence.example":       "is a URL",
		"keyfence.example":               "must name host and port",
		"::1:50051":                      "must name host and port",
		"":                               "no target",
		"unix:":                          "names no socket",
		"kf_system_0123456789abcdef0123": "(not shown)",
	} {
		if _, err := keyfence.New(target); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", target, err)
		}
	}
}

func TestCallsTakeTurnsAmongAddresses(t *testing.T) {
	keyspace := keyfencetest.Keyspace("demo", "vps:read")
	first, second := keyfencetest.NewServer(t, keyspace), keyfencetest.NewServer(t, keyspace)
	client := first.Client(t, keyfence.WithAddresses(second.Target))
	const whoAmI = keyfencev1.AuthorizationService_WhoAmI_FullMethodName
	for deadline := time.Now().Add(10 * time.Second); first.Calls(whoAmI) == 0 || second.Calls(whoAmI) == 0; {
		if _, err := client.WhoAmI(t.Context()); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("all calls went to one server")
		}
	}
}

func TestAClosedClientSaysSo(t *testing.T) {
	server := demo(t)
	client := server.Client(t, keyfence.WithCache(keyfence.Cache{}))
	for range 2 {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := client.CheckScope(t.Context(), keyfence.Check{RequiredScopes: []string{"vps:read"}}); !errors.Is(err, keyfence.ErrClosed) {
		t.Errorf("a check: %v", err)
	}
	if _, err := client.WhoAmI(t.Context()); !errors.Is(err, keyfence.ErrClosed) {
		t.Errorf("a call: %v", err)
	}
}
