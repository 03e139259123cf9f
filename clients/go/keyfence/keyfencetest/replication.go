package keyfencetest

import (
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

// holderStream is a cache that may answer from memory.
type holderStream struct {
	send  chan *keyfencev1.SyncResponse
	acked int64
	until time.Time
}

// tell leaves out what a cache that takes nothing has no place for: it notices the gap.
func (h *holderStream) tell(message *keyfencev1.SyncResponse) {
	select {
	case h.send <- message:
	default:
	}
}

// commit makes a new revision and returns when every cache has acknowledged it, or has no lease
// any more. Called under the lock, which it lets go of while it waits.
func (s *fake) commit(change *keyfencev1.SubjectChange) int64 {
	s.revision++
	revision := s.revision
	for holder := range s.holders {
		holder.tell(&keyfencev1.SyncResponse{Message: &keyfencev1.SyncResponse_Changes{
			Changes: &keyfencev1.RevisionChanges{Revision: revision, Changes: []*keyfencev1.SubjectChange{change}},
		}})
	}
	for s.isAwaited(revision) {
		woken := time.AfterFunc(10*time.Millisecond, s.changed.Broadcast)
		s.changed.Wait()
		woken.Stop()
	}
	return revision
}

func (s *fake) isAwaited(revision int64) bool {
	for holder := range s.holders {
		if holder.acked < revision && time.Now().Before(holder.until) {
			return true
		}
	}
	return false
}

// Sync grants leases to a cache, and tells it of changes.
func (s *fake) Sync(stream keyfencev1.ReplicationService_SyncServer) error {
	if err := stream.SendHeader(metadata.Pairs("x-keyfence-let-in", "1")); err != nil {
		return err
	}
	if hello, err := stream.Recv(); err != nil || hello.GetHello() == nil {
		return status.Error(codes.InvalidArgument, "the first message must be hello")
	}
	holder := &holderStream{send: make(chan *keyfencev1.SyncResponse, 1024)}
	s.mu.Lock()
	s.holders[holder] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		// A cache that has left may still answer, until its lease has run out.
		time.AfterFunc(time.Until(holder.until), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.holders, holder)
		})
	}()
	go func() {
		for {
			select {
			case <-stream.Context().Done():
				return
			case message := <-holder.send:
				if stream.Send(message) != nil {
					return
				}
			}
		}
	}()
	for {
		message, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the cache has left
		}
		if renew := message.GetRenew(); renew != nil {
			s.renew(holder, renew)
		}
	}
}

func (s *fake) renew(holder *holderStream, renew *keyfencev1.Renew) {
	s.mu.Lock()
	defer s.mu.Unlock()
	holder.acked = max(holder.acked, renew.AppliedRevision)
	s.changed.Broadcast()
	if renew.Nonce == 0 {
		return
	}
	holder.until = time.Now().Add(s.ttl)
	holder.tell(&keyfencev1.SyncResponse{Message: &keyfencev1.SyncResponse_Lease{Lease: &keyfencev1.Lease{
		Nonce: renew.Nonce, Ttl: durationpb.New(s.ttl), HeadRevision: s.revision, Epoch: s.epoch,
	}}})
}

// FetchFacts tells a cache what there is to know of a key.
func (s *fake) FetchFacts(_ context.Context, request *keyfencev1.FetchFactsRequest) (*keyfencev1.FetchFactsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	response := &keyfencev1.FetchFactsResponse{Revision: s.revision, Epoch: s.epoch}
	if stored, ok := s.keys[request.ApiKey]; ok {
		response.WellFormed = true
		response.Facts = factsOf(stored.record)
	}
	return response, nil
}

func factsOf(key *keyfencev1.Key) *keyfencev1.KeyFacts {
	facts := &keyfencev1.KeyFacts{
		Principal:  principalOf(key),
		Standing:   keyfencev1.Reason_REASON_OK,
		ExpireTime: key.ExpireTime,
		DependsOn:  []string{"key:" + key.KeyId, "keyspace:" + key.Keyspace, "account:" + key.AccountId},
	}
	switch key.State {
	case keyfencev1.KeyState_KEY_STATE_REVOKED:
		facts.Standing = keyfencev1.Reason_REASON_KEY_REVOKED
	case keyfencev1.KeyState_KEY_STATE_DISABLED:
		facts.Standing = keyfencev1.Reason_REASON_KEY_DISABLED
	}
	if len(key.AllowedAddresses) > 0 {
		facts.AddressLists = []*keyfencev1.AddressList{{Networks: key.AllowedAddresses}}
	}
	return facts
}

// FetchKeyspaces tells a cache which scopes are registered, one keyspace a page, so that caches have
// to ask for the next page.
func (s *fake) FetchKeyspaces(_ context.Context, request *keyfencev1.FetchKeyspacesRequest) (*keyfencev1.FetchKeyspacesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	response := &keyfencev1.FetchKeyspacesResponse{Revision: s.revision, Epoch: s.epoch}
	for _, name := range slices.Sorted(maps.Keys(s.keyspaces)) {
		switch {
		case name <= request.PageToken:
		case len(response.Keyspaces) == 0:
			response.Keyspaces = append(response.Keyspaces, s.keyspaces[name])
		default:
			response.NextPageToken = response.Keyspaces[0].Name
			return response, nil
		}
	}
	return response, nil
}

// ReportUses counts what caches report: see [Server.Uses].
func (s *fake) ReportUses(_ context.Context, request *keyfencev1.ReportUsesRequest) (*keyfencev1.ReportUsesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, use := range request.Uses {
		s.uses[use.KeyId] += use.Count
	}
	return &keyfencev1.ReportUsesResponse{}, nil
}

func checkError(err error) *keyfencev1.CheckError {
	state, _ := status.FromError(err)
	made := &keyfencev1.CheckError{Code: int32(state.Code()), Message: state.Message()} //nolint:gosec // a status code
	for _, detail := range state.Details() {
		if info, ok := detail.(interface {
			GetReason() string
			GetMetadata() map[string]string
		}); ok {
			made.Reason, made.Metadata = info.GetReason(), info.GetMetadata()
		}
	}
	return made
}
