package keyfencetest

import (
	"cmp"
	"context"
	"crypto/rand"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

func authenticated(ctx context.Context) error {
	presented := metadata.ValueFromIncomingContext(ctx, "authorization")
	switch {
	case len(presented) == 0:
		return Error(codes.Unauthenticated, "CREDENTIAL_REQUIRED", "the call carries no credential", nil)
	case len(presented) > 1 || presented[0] != "Bearer "+string(Token):
		return Error(codes.Unauthenticated, "CREDENTIAL_REJECTED", "the credential is not good; use keyfencetest.Token", nil)
	default:
		return nil
	}
}

func covers(grant, scope string) bool {
	prefix, isWildcard := strings.CutSuffix(grant, "*")
	if isWildcard {
		return strings.HasPrefix(scope, prefix)
	}
	return grant == scope
}

// CheckScope answers as Keyfence does.
func (s *fake) CheckScope(_ context.Context, request *keyfencev1.CheckScopeRequest) (*keyfencev1.CheckScopeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.check(request)
}

// check answers a check. Called under the lock.
func (s *fake) check(request *keyfencev1.CheckScopeRequest) (*keyfencev1.CheckScopeResponse, error) {
	if len(request.RequiredScopes) == 0 {
		return nil, Error(codes.InvalidArgument, "INVALID_FIELD", "required_scopes: 1 to 64 scopes", nil)
	}
	stored, reason, err := s.judge(request.ApiKey, request.Keyspace, request.ClientAddress)
	if err != nil {
		return nil, err
	}
	keyspace := request.Keyspace
	if stored != nil {
		keyspace = stored.record.Keyspace
	}
	if declared, ok := s.keyspaces[keyspace]; ok {
		for _, scope := range request.RequiredScopes {
			if !slices.ContainsFunc(declared.Scopes, func(one *keyfencev1.Scope) bool { return one.Name == scope }) {
				return nil, Error(codes.InvalidArgument, "UNKNOWN_SCOPE",
					"keyspace "+keyspace+" registers no scope "+scope, map[string]string{"scope": scope})
			}
		}
	}
	response := &keyfencev1.CheckScopeResponse{Reason: reason, Revision: s.revision}
	if stored != nil {
		response.Principal = principalOf(stored.record)
	}
	if reason == keyfencev1.Reason_REASON_OK {
		for _, scope := range request.RequiredScopes {
			if !slices.Contains(stored.record.EffectiveScopes, scope) && !slices.Contains(response.MissingScopes, scope) {
				response.MissingScopes = append(response.MissingScopes, scope)
			}
		}
		if len(response.MissingScopes) > 0 {
			response.Reason = keyfencev1.Reason_REASON_SCOPE_MISSING
		}
	}
	response.Allowed = response.Reason == keyfencev1.Reason_REASON_OK
	return response, nil
}

// isAllowed says whether the address is in one of the networks, if there are any.
func isAllowed(networks []string, clientAddress string) bool {
	address, err := netip.ParseAddr(clientAddress)
	return len(networks) == 0 || (err == nil && slices.ContainsFunc(networks, func(text string) bool {
		if network, err := netip.ParsePrefix(text); err == nil {
			return network.Contains(address.Unmap())
		}
		single, err := netip.ParseAddr(text)
		return err == nil && single.Unmap() == address.Unmap()
	}))
}

// judge is why a key does not pass, scopes aside. Called under the lock.
func (s *fake) judge(apiKey, keyspace, clientAddress string) (*storedKey, keyfencev1.Reason, error) {
	if keyspace != "" && s.keyspaces[keyspace] == nil {
		return nil, 0, Error(codes.NotFound, "KEYSPACE_NOT_FOUND", "there is no keyspace "+keyspace, nil)
	}
	if apiKey == "" {
		return nil, keyfencev1.Reason_REASON_CREDENTIAL_MISSING, nil
	}
	stored := s.keys[apiKey]
	switch {
	case stored == nil && !strings.HasPrefix(apiKey, keyPrefix):
		return nil, keyfencev1.Reason_REASON_CREDENTIAL_MALFORMED, nil
	case stored == nil:
		return nil, keyfencev1.Reason_REASON_KEY_UNKNOWN, nil
	case keyspace != "" && stored.record.Keyspace != keyspace:
		return nil, keyfencev1.Reason_REASON_KEYSPACE_MISMATCH, nil
	case stored.record.State == keyfencev1.KeyState_KEY_STATE_REVOKED:
		return stored, keyfencev1.Reason_REASON_KEY_REVOKED, nil
	case stored.record.ExpireTime != nil && !s.now().Before(stored.record.ExpireTime.AsTime()):
		return stored, keyfencev1.Reason_REASON_KEY_EXPIRED, nil
	case stored.record.State == keyfencev1.KeyState_KEY_STATE_DISABLED:
		return stored, keyfencev1.Reason_REASON_KEY_DISABLED, nil
	case !isAllowed(stored.record.AllowedAddresses, clientAddress):
		return stored, keyfencev1.Reason_REASON_ADDRESS_NOT_ALLOWED, nil
	default:
		return stored, keyfencev1.Reason_REASON_OK, nil
	}
}

// Authenticate answers as Keyfence does.
func (s *fake) Authenticate(_ context.Context, request *keyfencev1.AuthenticateRequest) (*keyfencev1.AuthenticateResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored, reason, err := s.judge(request.ApiKey, request.Keyspace, request.ClientAddress)
	if err != nil {
		return nil, err
	}
	response := &keyfencev1.AuthenticateResponse{
		Authenticated: reason == keyfencev1.Reason_REASON_OK, Reason: reason, Revision: s.revision,
	}
	if stored != nil {
		response.Principal = principalOf(stored.record)
	}
	return response, nil
}

// BatchCheckScope answers as Keyfence does.
func (s *fake) BatchCheckScope(_ context.Context, request *keyfencev1.BatchCheckScopeRequest) (*keyfencev1.BatchCheckScopeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(request.Checks) == 0 || len(request.Checks) > 256 {
		return nil, Error(codes.InvalidArgument, "INVALID_FIELD", "checks: 1 to 256", nil)
	}
	response := &keyfencev1.BatchCheckScopeResponse{}
	for _, check := range request.Checks {
		answer, err := s.check(check)
		result := &keyfencev1.BatchCheckScopeResult{Result: &keyfencev1.BatchCheckScopeResult_Response{Response: answer}}
		if err != nil {
			result.Result = &keyfencev1.BatchCheckScopeResult_Error{Error: checkError(err)}
		}
		response.Results = append(response.Results, result)
	}
	return response, nil
}

// WhoAmI tells of the one credential that there is.
func (s *fake) WhoAmI(context.Context, *keyfencev1.WhoAmIRequest) (*keyfencev1.WhoAmIResponse, error) {
	return &keyfencev1.WhoAmIResponse{Principal: &keyfencev1.Principal{
		KeyId: "key_fake", Keyspace: "system", AccountId: "operators", BoundKeyspaces: []string{"*"},
		GrantedScopes: []string{"*"},
	}}, nil
}

const (
	keyPrefix = "kf_live_"
	usualPage = 50
)

// CreateKey makes a key, once for each request_id.
func (s *fake) CreateKey(_ context.Context, request *keyfencev1.CreateKeyRequest) (*keyfencev1.CreateKeyResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keyspaces[request.Keyspace] == nil {
		return nil, Error(codes.NotFound, "KEYSPACE_NOT_FOUND", "there is no keyspace "+request.Keyspace, nil)
	}
	if known := s.requests[request.RequestId]; request.RequestId != "" && known != "" {
		return nil, Error(codes.AlreadyExists, "REQUEST_ALREADY_DONE", "the request has made a key before",
			map[string]string{"key_id": known})
	}
	stored := &storedKey{
		plaintext: keyPrefix + rand.Text(),
		record: &keyfencev1.Key{
			KeyId:            "key_" + strings.ToLower(rand.Text()),
			Keyspace:         request.Keyspace,
			AccountId:        request.AccountId,
			DisplayName:      request.DisplayName,
			GrantedScopes:    request.Scopes,
			EffectiveScopes:  s.effective(request.Keyspace, request.Scopes),
			State:            keyfencev1.KeyState_KEY_STATE_ACTIVE,
			ExpireTime:       request.ExpireTime,
			AllowedAddresses: request.AllowedAddresses,
			Labels:           request.Labels,
			CreateTime:       timestamppb.New(s.now()),
		},
	}
	stored.record.DisplayPrefix = stored.plaintext[:len(keyPrefix)+4]
	s.keys[stored.plaintext] = stored
	if request.RequestId != "" {
		s.requests[request.RequestId] = stored.record.KeyId
	}
	revision := s.commit(&keyfencev1.SubjectChange{
		Subject: &keyfencev1.SubjectChange_KeyId{KeyId: stored.record.KeyId}, Created: true,
	})
	stored.record.Revision = revision
	return &keyfencev1.CreateKeyResponse{Key: cloned(stored.record), ApiKey: stored.plaintext, Revision: revision}, nil
}

// GetKey reads a key's record.
func (s *fake) GetKey(_ context.Context, request *keyfencev1.GetKeyRequest) (*keyfencev1.GetKeyResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored, err := s.findByID(request.KeyId)
	if err != nil {
		return nil, err
	}
	return &keyfencev1.GetKeyResponse{Key: cloned(stored.record)}, nil
}

// ListKeys lists what fits the keyspace, the account and the state, in pages.
func (s *fake) ListKeys(_ context.Context, request *keyfencev1.ListKeysRequest) (*keyfencev1.ListKeysResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*keyfencev1.Key
	for _, stored := range s.keys {
		record := stored.record
		if record.Keyspace == request.Keyspace && (request.AccountId == "" || record.AccountId == request.AccountId) &&
			(request.State == 0 || record.State == request.State) {
			found = append(found, cloned(record))
		}
	}
	slices.SortFunc(found, func(one, other *keyfencev1.Key) int { return int(one.Revision - other.Revision) })
	start, err := strconv.Atoi(cmp.Or(request.PageToken, "0"))
	if err != nil || start < 0 || start > len(found) {
		return nil, Error(codes.InvalidArgument, "INVALID_FIELD", "page_token: not one of this fake", nil)
	}
	end := min(start+int(cmp.Or(max(request.PageSize, 0), usualPage)), len(found))
	response := &keyfencev1.ListKeysResponse{Keys: found[start:end]}
	if end < len(found) {
		response.NextPageToken = strconv.Itoa(end)
	}
	return response, nil
}

// UpdateKey changes the scopes, the state, the expiry or the addresses.
func (s *fake) UpdateKey(_ context.Context, request *keyfencev1.UpdateKeyRequest) (*keyfencev1.UpdateKeyResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored, err := s.findByID(request.GetKey().GetKeyId())
	if err != nil {
		return nil, err
	}
	for _, path := range request.GetUpdateMask().GetPaths() {
		switch path {
		case "granted_scopes":
			stored.record.GrantedScopes = request.Key.GrantedScopes
			stored.record.EffectiveScopes = s.effective(stored.record.Keyspace, request.Key.GrantedScopes)
		case "state":
			stored.record.State = request.Key.State
		case "expire_time":
			stored.record.ExpireTime = request.Key.ExpireTime
		case "allowed_addresses":
			stored.record.AllowedAddresses = request.Key.AllowedAddresses
		case "display_name":
			stored.record.DisplayName = request.Key.DisplayName
		case "labels":
			stored.record.Labels = request.Key.Labels
		default:
			return nil, Error(codes.InvalidArgument, "INVALID_FIELD", "update_mask: the fake does not change "+path, nil)
		}
	}
	stored.record.Revision = s.commitKey(stored)
	return &keyfencev1.UpdateKeyResponse{Key: cloned(stored.record), Revision: stored.record.Revision}, nil
}

// RevokeKey revokes a key. When it returns, no cache accepts the key.
func (s *fake) RevokeKey(_ context.Context, request *keyfencev1.RevokeKeyRequest) (*keyfencev1.RevokeKeyResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored, err := s.findByID(request.KeyId)
	if err != nil {
		return nil, err
	}
	stored.record.State = keyfencev1.KeyState_KEY_STATE_REVOKED
	stored.record.RevokeTime = timestamppb.New(s.now())
	stored.record.Revision = s.commitKey(stored)
	return &keyfencev1.RevokeKeyResponse{Key: cloned(stored.record), Revision: stored.record.Revision}, nil
}

// ApplyKeyspace declares a keyspace.
func (s *fake) ApplyKeyspace(_ context.Context, request *keyfencev1.ApplyKeyspaceRequest) (*keyfencev1.ApplyKeyspaceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keyspace := proto.CloneOf(request.Keyspace)
	if !request.ValidateOnly {
		s.keyspaces[keyspace.Name] = keyspace
		for _, stored := range s.keys {
			if stored.record.Keyspace == keyspace.Name {
				stored.record.EffectiveScopes = s.effective(keyspace.Name, stored.record.GrantedScopes)
			}
		}
		s.commit(&keyfencev1.SubjectChange{Subject: &keyfencev1.SubjectChange_Keyspace{Keyspace: keyspace.Name}})
	}
	return &keyfencev1.ApplyKeyspaceResponse{Keyspace: keyspace, Revision: s.revision}, nil
}

// GetKeyspace reads a keyspace's declaration.
func (s *fake) GetKeyspace(_ context.Context, request *keyfencev1.GetKeyspaceRequest) (*keyfencev1.GetKeyspaceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keyspace, ok := s.keyspaces[request.Name]
	if !ok {
		return nil, Error(codes.NotFound, "KEYSPACE_NOT_FOUND", "there is no keyspace "+request.Name, nil)
	}
	return &keyfencev1.GetKeyspaceResponse{Keyspace: keyspace}, nil
}

func (s *fake) commitKey(stored *storedKey) int64 {
	return s.commit(&keyfencev1.SubjectChange{Subject: &keyfencev1.SubjectChange_KeyId{KeyId: stored.record.KeyId}})
}

func cloned(record *keyfencev1.Key) *keyfencev1.Key { return proto.CloneOf(record) }

func principalOf(key *keyfencev1.Key) *keyfencev1.Principal {
	return &keyfencev1.Principal{
		KeyId: key.KeyId, AccountId: key.AccountId, Keyspace: key.Keyspace, KeyType: key.KeyType,
		Environment: key.Environment, DisplayName: key.DisplayName, GrantedScopes: key.GrantedScopes,
		EffectiveScopes: key.EffectiveScopes, ExpireTime: key.ExpireTime, DisplayPrefix: key.DisplayPrefix,
		Labels: key.Labels,
	}
}
