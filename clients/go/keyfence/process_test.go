package keyfence_test

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/keyfence/keyfence/clients/go/keyfence"
	"github.com/keyfence/keyfence/clients/go/keyfence/keyfencetest"
	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

// What the fake is believed about is asked of a real server, too.
func TestARealServerKeepsItsPromiseToTheCache(t *testing.T) {
	process := keyfencetest.StartProcess(t)
	operator := process.Client(t)
	ctx := t.Context()
	if _, err := operator.Keyspaces().ApplyKeyspace(ctx, &keyfencev1.ApplyKeyspaceRequest{
		Keyspace: keyfencetest.Keyspace("demo", "vps:read", "vps:write"),
	}); err != nil {
		t.Fatal(err)
	}
	made, err := operator.Keys().CreateKey(ctx, &keyfencev1.CreateKeyRequest{
		Keyspace: "system", AccountId: "checkout", Scopes: []string{"replication:sync"}, BoundKeyspaces: []string{"demo"},
	})
	if err != nil {
		t.Fatal(err)
	}
	client := process.Client(t, keyfence.WithToken(keyfence.Secret(made.ApiKey)), keyfence.WithCache(keyfence.Cache{}))
	until(t, "the cache has a lease", func() bool {
		_, _ = client.Authenticate(ctx, keyfence.Check{APIKey: "kf_live_unknown"})
		status, _ := client.CacheStatus()
		return status.Live
	})
	for range 20 {
		created, err := operator.Keys().CreateKey(ctx, &keyfencev1.CreateKeyRequest{
			Keyspace: "demo", AccountId: "acct_1", Scopes: []string{"vps:read"},
		})
		if err != nil {
			t.Fatal(err)
		}
		key := keyfence.Secret(created.ApiKey)
		for range 5 {
			if verdict := mustCheck(t, client, key, "vps:read"); !verdict.Allowed {
				t.Fatalf("a good key: %+v", verdict)
			}
		}
		if _, err := operator.Keys().RevokeKey(ctx, &keyfencev1.RevokeKeyRequest{KeyId: created.Key.KeyId}); err != nil {
			t.Fatal(err)
		}
		if verdict := mustCheck(t, client, key, "vps:read"); verdict.Allowed || verdict.Reason != keyfence.ReasonKeyRevoked {
			t.Fatalf("a revoked key: %+v", verdict)
		}
	}
	if status, _ := client.CacheStatus(); status.Hits < 90 {
		t.Errorf("checks were not answered from memory: %+v", status)
	}
	_, err = client.CheckScope(ctx, keyfence.Check{APIKey: keyfence.Secret(made.ApiKey), RequiredScopes: []string{"vps:raed"}, Keyspace: "demo"})
	var failed *keyfence.Error
	if !errors.As(err, &failed) || failed.Code != codes.InvalidArgument || failed.RequestID == "" {
		t.Errorf("an unknown scope: %v", err)
	}
}
