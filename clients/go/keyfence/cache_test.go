package keyfence_test

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/keyfence/keyfence/clients/go/keyfence"
	"github.com/keyfence/keyfence/clients/go/keyfence/keyfencetest"
	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

// cached is a client whose cache has a lease.
func cached(t testing.TB, server *keyfencetest.Server, cache keyfence.Cache, options ...keyfence.Option) *keyfence.Client {
	t.Helper()
	client := server.Client(t, append(options, keyfence.WithCache(cache))...)
	until(t, "the cache has a lease", func() bool {
		_, _ = client.Authenticate(t.Context(), keyfence.Check{APIKey: "kf_live_unknown"})
		status, _ := client.CacheStatus()
		return status.Live
	})
	return client
}

func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came about that %s", what)
		}
	}
}

func TestAKnownKeyIsAnsweredFromMemory(t *testing.T) {
	server := demo(t)
	client := cached(t, server, keyfence.Cache{})
	key, keyID := server.CreateKey(t, "demo", "vps:read")
	for range 100 {
		if verdict := mustCheck(t, client, key, "vps:read"); !verdict.Allowed || verdict.Principal.KeyId != keyID {
			t.Fatalf("a good key: %+v", verdict)
		}
	}
	until(t, "denials come from memory", func() bool {
		before := server.Calls(checkScope)
		verdict := mustCheck(t, client, key, "vps:write")
		return verdict.Reason == keyfence.ReasonScopeMissing && server.Calls(checkScope) == before
	})
	if calls := server.Calls(keyfencev1.ReplicationService_FetchFacts_FullMethodName); calls > 2 {
		t.Errorf("facts were fetched %d times", calls)
	}
	if status, ok := client.CacheStatus(); !ok || status.Hits < 99 || status.Keys != 1 || status.LeaseLeft <= 0 {
		t.Errorf("the status is %+v", status)
	}
	if client.Close() != nil || server.Uses(keyID) < 99 {
		t.Errorf("%d uses were reported", server.Uses(keyID))
	}
}

func TestNoCheckAcceptsWhatHasBeenRevoked(t *testing.T) {
	server := demo(t)
	client := cached(t, server, keyfence.Cache{})
	var stale, accepted atomic.Int64
	for range 30 {
		key, keyID := server.CreateKey(t, "demo", "vps:read")
		var isRevoked atomic.Bool
		var probing sync.WaitGroup
		for range 4 {
			probing.Go(func() {
				for range 300 {
					// Read before the check begins: only then is an accept stale.
					before := isRevoked.Load()
					verdict, err := client.CheckScope(t.Context(), keyfence.Check{APIKey: key, RequiredScopes: []string{"vps:read"}})
					if err == nil && verdict.Allowed {
						accepted.Add(1)
						if before {
							stale.Add(1)
						}
					}
				}
			})
		}
		server.RevokeKey(t, keyID)
		isRevoked.Store(true)
		probing.Wait()
		if verdict := mustCheck(t, client, key, "vps:read"); verdict.Reason != keyfence.ReasonKeyRevoked {
			t.Fatalf("a revoked key: %+v", verdict)
		}
	}
	if stale.Load() != 0 {
		t.Errorf("%d of %d accepts came after the revocation", stale.Load(), accepted.Load())
	}
}

func TestACacheIsBounded(t *testing.T) {
	server := demo(t)
	client := cached(t, server, keyfence.Cache{MaxKeys: 10})
	for range 40 {
		key, _ := server.CreateKey(t, "demo", "vps:read")
		mustCheck(t, client, key, "vps:read")
	}
	if status, _ := client.CacheStatus(); status.Keys != 10 {
		t.Errorf("%d keys are remembered", status.Keys)
	}
}

func TestAChangedKeyspaceIsForgotten(t *testing.T) {
	server := demo(t)
	client := cached(t, server, keyfence.Cache{})
	key, _ := server.CreateKey(t, "demo", "vps:read")
	mustCheck(t, client, key, "vps:read")
	_, err := client.Keyspaces().ApplyKeyspace(t.Context(), &keyfencev1.ApplyKeyspaceRequest{
		Keyspace: keyfencetest.Keyspace("demo", "vps:other"),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CheckScope(t.Context(), keyfence.Check{APIKey: key, RequiredScopes: []string{"vps:read"}, Keyspace: "demo"})
	if err == nil {
		t.Error("a scope that is registered no more was answered")
	}
}

// The cache's calls lead to the server that its stream leads to, whatever takes turns for checks.
func TestTheCacheHasAConnectionOfItsOwn(t *testing.T) {
	away, there := demo(t), demo(t)
	away.FailNext(keyfencev1.ReplicationService_Sync_FullMethodName, 1,
		keyfencetest.Error(codes.Unavailable, "SHUTTING_DOWN", "the server stops", nil))
	var calls sync.Map // the connection of each method's last call
	record := func(path string, conn *grpc.ClientConn) { calls.Store(path, conn) }
	client := cached(t, away, keyfence.Cache{}, keyfence.WithAddresses(there.Target), keyfence.WithDialOptions(
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, path string, request, response any,
			conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
			record(path, conn)
			return invoke(ctx, path, request, response, conn, options...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, description *grpc.StreamDesc,
			conn *grpc.ClientConn, path string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
			record(path, conn)
			return open(ctx, description, conn, path, options...)
		})))
	for range 20 {
		key, _ := there.CreateKey(t, "demo", "vps:read")
		if _, err := client.CheckScope(t.Context(), keyfence.Check{APIKey: key, RequiredScopes: []string{"vps:read"}}); err != nil {
			t.Fatal(err)
		}
	}
	facts := keyfencev1.ReplicationService_FetchFacts_FullMethodName
	if there.Calls(facts) < 20 || away.Calls(facts) != 0 {
		t.Errorf("facts were asked for %d times at the server of the stream, %d times elsewhere", there.Calls(facts), away.Calls(facts))
	}
	// What the server is asked by itself goes over another connection.
	if _, err := client.WhoAmI(t.Context()); err != nil {
		t.Fatal(err)
	}
	stream, _ := calls.Load(keyfencev1.ReplicationService_Sync_FullMethodName)
	asked, _ := calls.Load(facts)
	other, _ := calls.Load(keyfencev1.AuthorizationService_WhoAmI_FullMethodName)
	if stream != asked || stream == other {
		t.Errorf("the stream has %v, facts %v, other calls %v", stream, asked, other)
	}
}

func BenchmarkHit(b *testing.B) {
	server := demo(b)
	client := cached(b, server, keyfence.Cache{})
	key, _ := server.CreateKey(b, "demo", "vps:read")
	check := keyfence.Check{APIKey: key, RequiredScopes: []string{"vps:read"}, Keyspace: "demo"}
	ctx := b.Context()
	before := processorTime(b)
	defer func() {
		// On a busy machine the time of day says little.
		b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
	}()
	for b.Loop() {
		if verdict, err := client.CheckScope(ctx, check); err != nil || !verdict.Allowed {
			b.Fatal(verdict, err)
		}
	}
}

func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func BenchmarkHitParallel(b *testing.B) {
	server := demo(b)
	client := cached(b, server, keyfence.Cache{})
	key, _ := server.CreateKey(b, "demo", "vps:read")
	check := keyfence.Check{APIKey: key, RequiredScopes: []string{"vps:read"}, Keyspace: "demo"}
	b.RunParallel(func(work *testing.PB) {
		for work.Next() {
			if verdict, err := client.CheckScope(b.Context(), check); err != nil || !verdict.Allowed {
				b.Fatal(verdict, err)
			}
		}
	})
}

func BenchmarkCall(b *testing.B) {
	server := demo(b)
	client := server.Client(b)
	key, _ := server.CreateKey(b, "demo", "vps:read")
	for b.Loop() {
		mustCheck(b, client, key, "vps:read")
	}
}
