package keyfence

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"google.golang.org/grpc"
)

const (
	// DefaultCheckTimeout is the deadline of checks whose context has none. Checks are answered
	// from memory, and their callers have callers waiting.
	DefaultCheckTimeout = 2 * time.Second
	// DefaultTimeout is the deadline of other calls whose context has none. A mutation returns
	// when it holds everywhere, which takes seconds when a holder of a lease has gone away.
	DefaultTimeout = 15 * time.Second
)

// Option configures a [Client].
type Option func(*config) error

type config struct {
	addresses    []string
	token        TokenFunc
	tls          *tls.Config
	plaintext    bool
	checkTimeout time.Duration
	timeout      time.Duration
	cache        *Cache
	batching     *Batching
	logger       *slog.Logger
	dialOptions  []grpc.DialOption
}

// WithToken sets the client's own credential. Without it: the environment's KEYFENCE_TOKEN,
// or else none.
func WithToken(token Secret) Option {
	return func(c *config) (err error) {
		c.token, err = fixedToken(string(token))
		return err
	}
}

// WithTokenFile takes the credential from a file, which is read again when it has changed.
func WithTokenFile(path string) Option {
	return func(c *config) error {
		c.token = (&tokenFile{path: path}).get
		return nil
	}
}

// WithTokenFunc asks a function for the credential, for every RPC.
func WithTokenFunc(token TokenFunc) Option {
	return func(c *config) error {
		if token == nil {
			return errors.New("keyfence: WithTokenFunc needs a function")
		}
		c.token = token
		return nil
	}
}

// WithTLS says how to do TLS, where the defaults do not fit: other certificate authorities,
// a certificate of the client's own. It also turns TLS on for local targets.
func WithTLS(settings *tls.Config) Option {
	return func(c *config) error {
		if settings == nil {
			return errors.New("keyfence: WithTLS needs a configuration")
		}
		c.tls = settings.Clone()
		if c.tls.MinVersion == 0 {
			c.tls.MinVersion = tls.VersionTLS12
		}
		return nil
	}
}

// WithInsecurePlaintext does without TLS over a network, which can then read the token and
// every key. It is meant for networks that encrypt by themselves, such as a service mesh.
func WithInsecurePlaintext() Option {
	return func(c *config) error {
		c.plaintext = true
		return nil
	}
}

// WithAddresses names more servers, each as host:port, that stand for the one that is named as
// the target. Calls take turns among those that can be reached.
func WithAddresses(addresses ...string) Option {
	return func(c *config) error {
		c.addresses = append(c.addresses, addresses...)
		return nil
	}
}

// WithTimeouts sets the deadlines of checks, and of other calls, whose context has none.
func WithTimeouts(check, other time.Duration) Option {
	return func(c *config) error {
		if check <= 0 || other <= 0 {
			return fmt.Errorf("keyfence: timeouts must be positive, not %v and %v", check, other)
		}
		c.checkTimeout, c.timeout = check, other
		return nil
	}
}

// WithCache answers checks on known keys from memory, under a lease: what was revoked is never
// accepted, and what is not known is asked of the server. The token needs the scope
// "replication:sync".
func WithCache(cache Cache) Option {
	return func(c *config) error {
		if cache.MaxKeys == 0 {
			cache.MaxKeys = DefaultMaxKeys
		}
		if cache.MaxKeys < 1 {
			return fmt.Errorf("keyfence: Cache.MaxKeys must be at least 1, not %d", cache.MaxKeys)
		}
		c.cache = &cache
		return nil
	}
}

// WithBatching sends checks that are under way at the same time in one message. It costs a
// check nothing when it is alone.
func WithBatching(batching Batching) Option {
	return func(c *config) error {
		if batching.MaxChecks == 0 {
			batching.MaxChecks = DefaultBatchChecks
		}
		if batching.MaxChecks < 1 || batching.MaxChecks > maxBatchChecks {
			return fmt.Errorf("keyfence: Batching.MaxChecks must be 1 to %d, not %d", maxBatchChecks, batching.MaxChecks)
		}
		c.batching = &batching
		return nil
	}
}

// WithLogger sets where the client says why its cache is out of step. Default: slog.Default().
func WithLogger(logger *slog.Logger) Option {
	return func(c *config) error {
		if logger == nil {
			return errors.New("keyfence: WithLogger needs a logger")
		}
		c.logger = logger
		return nil
	}
}

// WithDialOptions adds options of gRPC's own, for example interceptors for telemetry. Those that
// log requests log keys.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(c *config) error {
		c.dialOptions = append(c.dialOptions, options...)
		return nil
	}
}

func newConfig(options []Option) (*config, error) {
	c := &config{checkTimeout: DefaultCheckTimeout, timeout: DefaultTimeout, logger: slog.Default()}
	if token := os.Getenv("KEYFENCE_TOKEN"); token != "" {
		checked, err := fixedToken(token)
		if err != nil {
			return nil, fmt.Errorf("%w (KEYFENCE_TOKEN)", err)
		}
		c.token = checked
	}
	for _, option := range options {
		if err := option(c); err != nil {
			return nil, err
		}
	}
	if c.tls != nil && c.plaintext {
		return nil, errors.New("keyfence: WithTLS and WithInsecurePlaintext exclude each other")
	}
	return c, nil
}
