package keyfence

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"crypto/rand"
	"crypto/tls"

	"github.com/keyfence/keyfence/clients/go/internal/holder"
	"github.com/keyfence/keyfence/clients/go/internal/redact"
	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

const (
	maxResponseBytes = 64 << 20
	authorization    = "authorization"
)

// Client talks to Keyfence. It is safe for concurrent use.
type Client struct {
	conn   *grpc.ClientConn
	config *config
	// isLocal: nothing that is sent to any of the servers leaves this machine.
	isLocal  bool
	checks   keyfencev1.AuthorizationServiceClient
	batcher  *batcher
	holder   *holder.Holder
	isClosed atomic.Bool
	closed   chan struct{}
}

// New makes a client. It connects in the background and at the first call, so a server that is
// away is an error of the calls.
//
// The target is in gRPC's syntax: "host:port", "dns:///host:port", "unix:/path". Empty: the
// environment's KEYFENCE_TARGET. The connection is plaintext over loopback and Unix sockets, and
// TLS with the system's certificate authorities everywhere else.
func New(target string, options ...Option) (*Client, error) {
	config, err := newConfig(options)
	if err != nil {
		return nil, err
	}
	if target == "" {
		target = os.Getenv("KEYFENCE_TARGET")
	}
	if target == "" {
		return nil, errors.New("keyfence: no target: pass one, or set KEYFENCE_TARGET")
	}
	client := &Client{config: config, isLocal: true, closed: make(chan struct{})}
	addresses := append([]string{target}, config.addresses...)
	for _, address := range addresses {
		local, err := isLocal(address)
		if err != nil {
			return nil, err
		}
		client.isLocal = client.isLocal && local
	}
	if client.conn, err = client.dial("round_robin", client.repeat, addresses...); err != nil {
		return nil, err
	}
	client.checks = keyfencev1.NewAuthorizationServiceClient(client.conn)
	if config.batching != nil {
		client.batcher = newBatcher(client.checks, config.batching.MaxChecks, config.checkTimeout)
	}
	if config.cache != nil {
		attempts := 0
		client.holder = holder.Start(func() (*grpc.ClientConn, error) {
			one := addresses[attempts%len(addresses)]
			attempts++
			// All of its calls go to the server that its stream leads to, once: where that server
			// does not tell a key's facts, the check itself goes to any of the servers.
			return client.dial("pick_first", once, one)
		}, holder.Options{MaxKeys: config.cache.MaxKeys, Logger: config.logger})
	}
	return client, nil
}

// repeater makes the attempts of a call that may be repeated.
type repeater func(ctx context.Context, attempt func() error) error

func once(_ context.Context, attempt func() error) error { return attempt() }

// dial makes a connection to these servers.
func (c *Client) dial(balancing string, repeat repeater, addresses ...string) (*grpc.ClientConn, error) {
	target, options, err := c.config.dialing(balancing, addresses, c.isLocal)
	if err != nil {
		return nil, err
	}
	options = append(options,
		grpc.WithChainUnaryInterceptor(c.intercept(repeat)), grpc.WithChainStreamInterceptor(c.interceptStream))
	conn, err := grpc.NewClient(target, append(options, c.config.dialOptions...)...)
	if err != nil {
		return nil, fmt.Errorf("keyfence: %w", err)
	}
	return conn, nil
}

func (c *config) dialing(balancing string, addresses []string, allLocal bool) (string, []grpc.DialOption, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(c.transport(allLocal)),
		grpc.WithDefaultServiceConfig(serviceConfig(balancing)),
		// What a name server says must not change how calls are retried.
		grpc.WithDisableServiceConfig(),
		grpc.WithUserAgent("keyfence-go"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponseBytes)),
		// A server that restarts is found again within a check's deadline.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second,
			},
			MinConnectTimeout: 5 * time.Second,
		}),
		// One ping in five minutes is what a gRPC server tolerates by default. An unacknowledged
		// write ends the connection after the timeout.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 5 * time.Minute, Timeout: 10 * time.Second}),
	}
	if allLocal {
		// A proxy of the environment would carry what must stay on this machine.
		options = append(options, grpc.WithNoProxy())
	}
	if len(addresses) == 1 {
		return grpcTarget(addresses[0]), options, nil
	}
	builder := manual.NewBuilderWithScheme("keyfence")
	var state resolver.State
	for _, address := range addresses {
		host, ok := hostOf(address)
		if !ok {
			return "", nil, fmt.Errorf("keyfence: WithAddresses takes host:port, not %s", shown(address))
		}
		// Each server shows a certificate for its own name.
		one := resolver.Address{Addr: address, ServerName: host}
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{one}})
	}
	builder.InitialState(state)
	return "keyfence:///servers", append(options, grpc.WithResolvers(builder)), nil
}

func (c *config) transport(allLocal bool) credentials.TransportCredentials {
	switch {
	case c.tls != nil:
		return credentials.NewTLS(c.tls)
	case allLocal || c.plaintext:
		return insecure.NewCredentials()
	default:
		return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	}
}

// Close gives up the cache's lease, reports the last uses of keys and ends the connection and
// the calls under way. It takes at most a few seconds. Closing twice is fine.
func (c *Client) Close() error {
	if c.isClosed.Swap(true) {
		return nil
	}
	close(c.closed)
	if c.holder != nil {
		c.holder.Close()
	}
	return c.conn.Close()
}

// Keys has the RPCs that manage keys. Calls by it, as by the stubs below, carry the client's
// token, have a deadline, are retried where that is safe, and fail with an [*Error]. A request
// with an empty request_id gets one, so that repeating it makes one key.
func (c *Client) Keys() keyfencev1.KeyServiceClient { return keyfencev1.NewKeyServiceClient(c.conn) }

// Keyspaces has the RPCs that declare keyspaces.
func (c *Client) Keyspaces() keyfencev1.KeyspaceServiceClient {
	return keyfencev1.NewKeyspaceServiceClient(c.conn)
}

// Accounts has the RPCs for accounts and their sessions.
func (c *Client) Accounts() keyfencev1.AccountServiceClient {
	return keyfencev1.NewAccountServiceClient(c.conn)
}

// Audit has the RPCs of the audit log.
func (c *Client) Audit() keyfencev1.AuditServiceClient {
	return keyfencev1.NewAuditServiceClient(c.conn)
}

// Replication has the RPCs of holders. The client's cache uses them by itself.
func (c *Client) Replication() keyfencev1.ReplicationServiceClient {
	return keyfencev1.NewReplicationServiceClient(c.conn)
}

// WithCredential makes calls with the context carry another credential than the client's
// token: an account's session, or the key that [Client.WhoAmI] is to tell about.
func WithCredential(ctx context.Context, credential Secret) context.Context {
	return context.WithValue(ctx, credentialKey{}, credential)
}

type credentialKey struct{}

func hasCredential(ctx context.Context) bool { return ctx.Value(credentialKey{}) != nil }

func (c *Client) authorize(ctx context.Context) (context.Context, string, error) {
	token, ok := ctx.Value(credentialKey{}).(Secret)
	switch {
	case ok:
		if err := checkToken(string(token)); err != nil {
			return ctx, "", err
		}
	case c.config.token == nil:
		return ctx, "", nil
	default:
		text, err := c.config.token(ctx)
		if err == nil {
			err = checkToken(text)
		}
		if err != nil {
			return ctx, "", err
		}
		token = Secret(text)
	}
	return metadata.AppendToOutgoingContext(ctx, authorization, "Bearer "+string(token)), string(token), nil
}

func (c *Client) intercept(repeat repeater) grpc.UnaryClientInterceptor {
	return func(
		ctx context.Context, path string, request, response any, conn *grpc.ClientConn,
		invoke grpc.UnaryInvoker, options ...grpc.CallOption,
	) error {
		if c.isClosed.Load() && !isLastReport(path) {
			return ErrClosed
		}
		one := rpcs[path]
		if _, has := ctx.Deadline(); !has {
			timeout := c.config.timeout
			if one.isCheck {
				timeout = c.config.checkTimeout
			}
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		message, _ := request.(proto.Message)
		if one.takesRequestID {
			message = withRequestID(message)
		}
		authorized, token, err := c.authorize(ctx)
		if err != nil {
			return err
		}
		attempt := func() error {
			var trailer metadata.MD
			err := invoke(authorized, path, message, response, conn, append(options, grpc.Trailer(&trailer))...)
			if err == nil {
				return nil
			}
			if c.isClosed.Load() && !isLastReport(path) {
				return ErrClosed
			}
			return newError(ctx, err, trailer, append(redact.Secrets(message), token)...)
		}
		if !one.isRepeatable {
			return attempt()
		}
		return repeat(ctx, attempt)
	}
}

func (c *Client) interceptStream(
	ctx context.Context, description *grpc.StreamDesc, conn *grpc.ClientConn, path string,
	open grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ctx, _, err := c.authorize(ctx)
	if err != nil {
		return nil, err
	}
	return open(ctx, description, conn, path, options...)
}

// isLastReport says whether a call is one that Close itself makes.
func isLastReport(path string) bool {
	return path == keyfencev1.ReplicationService_ReportUses_FullMethodName
}

func withRequestID(message proto.Message) proto.Message {
	field := message.ProtoReflect().Descriptor().Fields().ByName(requestIDField)
	if message.ProtoReflect().Has(field) {
		return message
	}
	copied := proto.Clone(message)
	copied.ProtoReflect().Set(field, protoreflect.ValueOfString(rand.Text()))
	return copied
}
