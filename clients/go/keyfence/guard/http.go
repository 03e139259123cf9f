package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/keyfence/keyfence/clients/go/keyfence"
	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

// HTTPOptions say how an [HTTP] guard guards.
type HTTPOptions struct {
	// Keyspace is the one whose keys are accepted.
	Keyspace string
	// Answers are how the keyspace speaks HTTP: what it declares in its section "http".
	// [FetchAnswers] has them. Nil: as RFC 6750 has it.
	Answers *keyfencev1.HttpAnswers
	// ClientAddress tells where a request comes from, for keys with an allow-list. Nil: the other
	// end of the connection, which behind a proxy is the proxy.
	ClientAddress func(*http.Request) string
	// Logger is told what is wrong with the guard. Nil: slog.Default().
	Logger *slog.Logger
}

// HTTP guards HTTP handlers: see [HTTP.Require].
type HTTP struct {
	client  Client
	options HTTPOptions
	logger  *slog.Logger
	answers *answers

	mu     sync.Mutex
	scopes []string
}

// NewHTTP makes a guard for HTTP handlers.
func NewHTTP(client Client, options HTTPOptions) (*HTTP, error) {
	if options.Keyspace == "" {
		return nil, errors.New("keyfence/guard: a guard needs the keyspace whose keys it accepts")
	}
	compiled, err := compileAnswers(options.Answers, options.Keyspace)
	if err != nil {
		return nil, fmt.Errorf("keyfence/guard: the answers of keyspace %q: %w", options.Keyspace, err)
	}
	return &HTTP{client: client, options: options, logger: logger(options.Logger), answers: compiled}, nil
}

// FetchAnswers asks the server how a keyspace speaks HTTP. The client's token needs the scope
// "keyspaces:read".
func FetchAnswers(ctx context.Context, client *keyfence.Client, keyspace string) (*keyfencev1.HttpAnswers, error) {
	response, err := client.Keyspaces().GetKeyspace(ctx, &keyfencev1.GetKeyspaceRequest{Name: keyspace})
	if err != nil {
		return nil, err
	}
	return response.GetKeyspace().GetHttp(), nil
}

// Require wraps handlers that need all of the scopes; without scopes, any good key. The key is
// taken off the request that the handler gets, and [PrincipalFrom] tells whose it was.
func (h *HTTP) Require(scopes ...string) func(http.Handler) http.Handler {
	h.mu.Lock()
	h.scopes = append(h.scopes, scopes...)
	h.mu.Unlock()
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
			if inner, ok := h.admit(out, request, scopes); ok {
				next.ServeHTTP(out, inner)
			}
		})
	}
}

// Verify says which scopes that were required so far the keyspace does not register.
func (h *HTTP) Verify(ctx context.Context) error {
	h.mu.Lock()
	scopes := append([]string(nil), h.scopes...)
	h.mu.Unlock()
	return verifyScopes(ctx, h.client, h.options.Keyspace, scopes)
}

func (h *HTTP) admit(out http.ResponseWriter, request *http.Request, scopes []string) (*http.Request, bool) {
	key, reason, inner := h.takeCredential(request)
	if reason != keyfence.ReasonOK {
		// Decided here, so that requests without a key cost the server nothing.
		h.answers.write(out, request, keyfence.Verdict{Reason: reason}, scopes)
		return nil, false
	}
	check := keyfence.Check{
		APIKey: key, RequiredScopes: scopes, Keyspace: h.options.Keyspace, ClientAddress: h.clientAddress(request),
	}
	verdict, err := ask(request.Context(), h.client, check)
	switch {
	case err != nil:
		h.logger.ErrorContext(request.Context(), "no_verdict", "cause", err.Error())
		out.Header().Set("Cache-Control", "no-store")
		// Never in the words of a denial: nothing was decided.
		if isPassing(err) {
			http.Error(out, "authorization is unavailable at the moment; try again", http.StatusServiceUnavailable)
		} else {
			http.Error(out, "authorization is not set up correctly", http.StatusInternalServerError)
		}
		return nil, false
	case !verdict.Allowed || verdict.Principal == nil:
		h.answers.write(out, request, verdict, scopes)
		return nil, false
	}
	h.answers.writeLimit(out.Header(), verdict.RateLimit)
	return inner.WithContext(withPrincipal(inner.Context(), verdict.Principal)), true
}

func (h *HTTP) clientAddress(request *http.Request) string {
	if h.options.ClientAddress != nil {
		return h.options.ClientAddress(request)
	}
	return hostOf(request.RemoteAddr)
}

// takeCredential has the one credential of a request, and the request without it. The reason is
// ReasonCredentialMissing if there is none. Two that differ, a header or cookie twice, another
// scheme and a value with a comma are ReasonCredentialMalformed: a program behind the guard might
// pick another one of them.
func (h *HTTP) takeCredential(request *http.Request) (keyfence.Secret, keyfence.Reason, *http.Request) {
	places := h.answers.credentials
	inner := request.Clone(request.Context())
	var found []string
	isClear := true
	note := func(values []string) {
		isClear = isClear && len(values) <= 1
		found = append(found, values...)
	}
	if places.Bearer {
		var values []string
		for _, value := range request.Header.Values("Authorization") {
			key, ok := bearer(value)
			isClear = isClear && ok
			values = append(values, string(key))
		}
		note(values)
		inner.Header.Del("Authorization")
	}
	for _, name := range places.Headers {
		note(request.Header.Values(name))
		inner.Header.Del(name)
	}
	if places.Cookie != "" {
		var values []string
		inner.Header.Del("Cookie")
		for _, cookie := range request.Cookies() {
			if cookie.Name == places.Cookie {
				values = append(values, cookie.Value)
			} else {
				inner.AddCookie(cookie)
			}
		}
		note(values)
	}
	for _, value := range found {
		isClear = isClear && value == found[0] && !strings.Contains(value, ",")
	}
	switch {
	case len(found) == 0:
		return "", keyfence.ReasonCredentialMissing, inner
	case !isClear:
		return "", keyfence.ReasonCredentialMalformed, inner
	default:
		return keyfence.Secret(found[0]), keyfence.ReasonOK, inner
	}
}
