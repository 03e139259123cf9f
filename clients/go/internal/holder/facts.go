package holder

import (
	"net/netip"
	"strings"
	"time"

	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

// Subject is something whose change makes facts out of date: "key:...", "keyspace:...",
// "account:..." or "session:...".
type Subject string

// facts are what a holder knows of a key. They never change.
type facts struct {
	principal *keyfencev1.Principal
	scopes    map[string]struct{}
	// standing is why the key does not pass, whatever the time and address; REASON_OK if it may.
	standing keyfencev1.Reason
	// expiresAt is in nanoseconds since the epoch; zero for never.
	expiresAt int64
	// allowLists must each have the caller's address.
	allowLists [][]netip.Prefix
	dependsOn  []Subject
	// isCounted: checks count against a rate limit, so the server answers them.
	isCounted bool
}

// factsOf reads what the server tells of a key. False: it is nothing to remember.
func factsOf(response *keyfencev1.FetchFactsResponse) (*facts, bool) {
	told := response.Facts
	if told.GetPrincipal() == nil {
		return nil, false
	}
	switch told.Standing {
	case keyfencev1.Reason_REASON_OK, keyfencev1.Reason_REASON_KEY_REVOKED,
		keyfencev1.Reason_REASON_KEY_DISABLED, keyfencev1.Reason_REASON_ACCOUNT_DISABLED:
	default:
		return nil, false // of a later version: the server answers
	}
	known := &facts{
		principal: told.Principal,
		scopes:    make(map[string]struct{}, len(told.Principal.EffectiveScopes)),
		standing:  told.Standing,
		isCounted: told.IsCounted,
	}
	for _, scope := range told.Principal.EffectiveScopes {
		known.scopes[scope] = struct{}{}
	}
	if told.ExpireTime != nil {
		known.expiresAt = told.ExpireTime.AsTime().UnixNano()
	}
	for _, one := range told.AddressLists {
		list, ok := prefixes(one.Networks)
		if !ok {
			return nil, false
		}
		known.allowLists = append(known.allowLists, list)
	}
	for _, subject := range told.DependsOn {
		known.dependsOn = append(known.dependsOn, Subject(subject))
	}
	return known, true
}

func prefixes(texts []string) ([]netip.Prefix, bool) {
	var list []netip.Prefix
	for _, text := range texts {
		if !strings.Contains(text, "/") {
			address, err := netip.ParseAddr(text)
			if err != nil {
				return nil, false
			}
			address = address.Unmap()
			list = append(list, netip.PrefixFrom(address, address.BitLen()))
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, false
		}
		list = append(list, prefix)
	}
	return list, true
}

func keySubject(id string) Subject      { return Subject("key:" + id) }
func keyspaceSubject(id string) Subject { return Subject("keyspace:" + id) }
func accountSubject(id string) Subject  { return Subject("account:" + id) }
func sessionSubject(id string) Subject  { return Subject("session:" + id) }

// subjectOf reads what has changed. False: something of a kind that this version does not know.
func subjectOf(change *keyfencev1.SubjectChange) (Subject, bool) {
	switch subject := change.Subject.(type) {
	case *keyfencev1.SubjectChange_KeyId:
		return keySubject(subject.KeyId), true
	case *keyfencev1.SubjectChange_Keyspace:
		return keyspaceSubject(subject.Keyspace), true
	case *keyfencev1.SubjectChange_AccountId:
		return accountSubject(subject.AccountId), true
	case *keyfencev1.SubjectChange_SessionId:
		return sessionSubject(subject.SessionId), true
	default:
		return "", false
	}
}

// reason is why the key does not pass, scopes aside; REASON_OK if it does. False: the address is
// none, whatever else there is to say of the key.
func (f *facts) reason(now time.Time, clientAddress string) (keyfencev1.Reason, bool) {
	var address netip.Addr
	if clientAddress != "" {
		parsed, err := netip.ParseAddr(clientAddress)
		if err != nil || parsed.Zone() != "" {
			// A zone means something on one host alone, so the server takes none.
			return 0, false
		}
		address = parsed.Unmap()
	}
	switch {
	case f.standing == keyfencev1.Reason_REASON_KEY_REVOKED:
		return f.standing, true
	case f.expiresAt != 0 && now.UnixNano() >= f.expiresAt:
		return keyfencev1.Reason_REASON_KEY_EXPIRED, true
	case f.standing != keyfencev1.Reason_REASON_OK:
		return f.standing, true
	}
	for _, list := range f.allowLists {
		if !contains(list, address) {
			return keyfencev1.Reason_REASON_ADDRESS_NOT_ALLOWED, true
		}
	}
	return keyfencev1.Reason_REASON_OK, true
}

func contains(list []netip.Prefix, address netip.Addr) bool {
	for _, prefix := range list {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}

// missing are those of the scopes that the key lacks, each once, in the order asked.
func (f *facts) missing(required []string) []string {
	var missing []string
	for index, scope := range required {
		if _, held := f.scopes[scope]; held || containsText(required[:index], scope) {
			continue
		}
		missing = append(missing, scope)
	}
	return missing
}

func containsText(texts []string, text string) bool {
	for _, one := range texts {
		if one == text {
			return true
		}
	}
	return false
}
