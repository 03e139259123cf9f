package keyfence

import (
	"context"
	"errors"

	"github.com/keyfence/keyfence/clients/go/internal/holder"
	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

// Reason says why a check answered as it did.
type Reason = keyfencev1.Reason

// The reasons, in order of precedence: docs/errors.md says what to do about each.
const (
	ReasonOK                  = keyfencev1.Reason_REASON_OK
	ReasonCredentialMissing   = keyfencev1.Reason_REASON_CREDENTIAL_MISSING
	ReasonCredentialMalformed = keyfencev1.Reason_REASON_CREDENTIAL_MALFORMED
	ReasonKeyUnknown          = keyfencev1.Reason_REASON_KEY_UNKNOWN
	ReasonKeyspaceMismatch    = keyfencev1.Reason_REASON_KEYSPACE_MISMATCH
	ReasonKeyRevoked          = keyfencev1.Reason_REASON_KEY_REVOKED
	ReasonKeyExpired          = keyfencev1.Reason_REASON_KEY_EXPIRED
	ReasonKeyDisabled         = keyfencev1.Reason_REASON_KEY_DISABLED
	ReasonAccountDisabled     = keyfencev1.Reason_REASON_ACCOUNT_DISABLED
	ReasonAddressNotAllowed   = keyfencev1.Reason_REASON_ADDRESS_NOT_ALLOWED
	ReasonScopeMissing        = keyfencev1.Reason_REASON_SCOPE_MISSING
	ReasonRateLimited         = keyfencev1.Reason_REASON_RATE_LIMITED
)

// Principal tells whose key it is. It may be shared between verdicts: do not change it.
type Principal = keyfencev1.Principal

// RateLimitStatus tells where a key's rate limit stands.
type RateLimitStatus = keyfencev1.RateLimitStatus

// Explanation tells which grants and implications led to a verdict.
type Explanation = keyfencev1.ScopeExplanation

// Check is a question about a key.
type Check struct {
	// APIKey is what a caller presented, without "Bearer".
	APIKey Secret
	// RequiredScopes are needed, all of them: registered names, no wildcards. None:
	// whose key it is, and no more.
	RequiredScopes []string
	// Keyspace must be the key's. Empty: any of those that the client's token is bound to.
	Keyspace string
	// ClientAddress is where the key was presented from, without a port, for keys with an
	// allow-list of addresses.
	ClientAddress string
	// AtLeastRevision asks for an answer from no older a state, for example that of a mutation.
	AtLeastRevision int64
	// Explain asks which grants led to the answer. It needs RequiredScopes.
	Explain bool
	// Cost is what the check counts for against rate limits. Nil: 1. Zero counts for nothing,
	// and no limit stops it.
	Cost *int32
}

// Verdict answers a check. The zero Verdict allows nothing.
type Verdict struct {
	// Allowed is whether the key is good and holds every required scope.
	Allowed bool
	// Reason is why; ReasonOK exactly if Allowed.
	Reason Reason
	// MissingScopes are the required scopes that the key lacks, with ReasonScopeMissing.
	MissingScopes []string
	// Principal is whose key it is. Set for known keys, also for those that do not pass.
	Principal *Principal
	// Revision is what the answer reflects at least.
	Revision int64
	// RateLimit is where the key's limit stands. Nil if it has none.
	RateLimit *RateLimitStatus
	// Explanation is set if the check asked for it and the key is known.
	Explanation *Explanation
	// Stale is whether the server answers from a memory that may be out of date, because its
	// operator has asked for that.
	Stale bool
}

// Result is the answer to one check of a batch: a verdict, or why there is none.
type Result struct {
	Verdict Verdict
	Err     error
}

// CheckScope asks whether the key may do what needs all of the scopes. A denial is a verdict
// and no error.
func (c *Client) CheckScope(ctx context.Context, check Check) (Verdict, error) {
	if len(check.RequiredScopes) == 0 {
		return Verdict{}, errors.New("keyfence: CheckScope needs RequiredScopes; Authenticate asks whose key it is")
	}
	if c.isClosed.Load() {
		return Verdict{}, ErrClosed
	}
	if answer, ok := c.fromMemory(ctx, check); ok {
		return answer, nil
	}
	request := scopeRequest(check)
	if c.batcher != nil && !hasCredential(ctx) {
		return c.batcher.check(ctx, request)
	}
	response, err := c.checks.CheckScope(ctx, request)
	if err != nil {
		return Verdict{}, err
	}
	return scopeVerdict(response), nil
}

// Authenticate asks whose key it is. A key that is not good is a verdict and no error.
func (c *Client) Authenticate(ctx context.Context, check Check) (Verdict, error) {
	if len(check.RequiredScopes) != 0 || check.Explain {
		return Verdict{}, errors.New("keyfence: Authenticate takes no RequiredScopes; CheckScope does")
	}
	if c.isClosed.Load() {
		return Verdict{}, ErrClosed
	}
	if answer, ok := c.fromMemory(ctx, check); ok {
		return answer, nil
	}
	response, err := c.checks.Authenticate(ctx, &keyfencev1.AuthenticateRequest{
		ApiKey:          string(check.APIKey),
		Keyspace:        check.Keyspace,
		ClientAddress:   check.ClientAddress,
		AtLeastRevision: check.AtLeastRevision,
		Cost:            check.Cost,
	})
	if err != nil {
		return Verdict{}, err
	}
	return Verdict{
		Allowed:   response.Authenticated && response.Reason == ReasonOK,
		Reason:    response.Reason,
		Principal: response.Principal,
		Revision:  response.Revision,
		RateLimit: response.RateLimit,
		Stale:     response.Stale,
	}, nil
}

// BatchCheckScope asks up to 256 questions in one call. Each is answered by itself, in order.
func (c *Client) BatchCheckScope(ctx context.Context, checks []Check) ([]Result, error) {
	request := &keyfencev1.BatchCheckScopeRequest{}
	for _, check := range checks {
		request.Checks = append(request.Checks, scopeRequest(check))
	}
	return batchResults(request)(c.checks.BatchCheckScope(ctx, request))
}

// WhoAmI asks whose token the client has, or whose credential the context carries.
func (c *Client) WhoAmI(ctx context.Context) (*Principal, error) {
	response, err := c.checks.WhoAmI(ctx, &keyfencev1.WhoAmIRequest{})
	if err != nil {
		return nil, err
	}
	return response.Principal, nil
}

func (c *Client) fromMemory(ctx context.Context, check Check) (Verdict, bool) {
	// Memory holds what the client's own token may know of.
	if c.holder == nil || check.Explain || hasCredential(ctx) {
		return Verdict{}, false
	}
	answer, ok := c.holder.Check(ctx, holder.Question{
		APIKey:          string(check.APIKey),
		RequiredScopes:  check.RequiredScopes,
		Keyspace:        check.Keyspace,
		ClientAddress:   check.ClientAddress,
		AtLeastRevision: check.AtLeastRevision,
	})
	if !ok {
		return Verdict{}, false
	}
	return Verdict{
		Allowed:       answer.Reason == ReasonOK,
		Reason:        answer.Reason,
		MissingScopes: answer.MissingScopes,
		Principal:     answer.Principal,
		Revision:      answer.Revision,
	}, true
}

func scopeRequest(check Check) *keyfencev1.CheckScopeRequest {
	return &keyfencev1.CheckScopeRequest{
		ApiKey:          string(check.APIKey),
		RequiredScopes:  check.RequiredScopes,
		Keyspace:        check.Keyspace,
		ClientAddress:   check.ClientAddress,
		AtLeastRevision: check.AtLeastRevision,
		Explain:         check.Explain,
		Cost:            check.Cost,
	}
}

func scopeVerdict(response *keyfencev1.CheckScopeResponse) Verdict {
	return Verdict{
		Allowed:       response.GetAllowed() && response.GetReason() == ReasonOK,
		Reason:        response.GetReason(),
		MissingScopes: response.GetMissingScopes(),
		Principal:     response.GetPrincipal(),
		Revision:      response.GetRevision(),
		RateLimit:     response.GetRateLimit(),
		Explanation:   response.GetExplanation(),
		Stale:         response.GetStale(),
	}
}
