package holder

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

// vectors reads what every holder must do: spec/vectors/README.md.
func vectors[T any](t *testing.T, name string) T {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "spec", "vectors", name))
	if os.IsNotExist(err) && os.Getenv("CI") == "" {
		t.Skip("SKIPPED: the vectors are in the repository and not in the module")
	}
	if err != nil {
		t.Fatal(err)
	}
	var read T
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	return read
}

func at(seconds float64) Instant {
	nanos := int64(seconds * 1e9)
	return Instant{nanos, nanos}
}

type leaseStep struct {
	Do                    string
	Now, TTL              float64
	Nonce, Head, Revision int64
	Epoch                 string
	Forget                bool
	Is                    any
}

func TestLeasesCountAsTheVectorsSay(t *testing.T) {
	for _, one := range vectors[[]struct {
		Name  string
		Steps []leaseStep
	}](t, "leases.json") {
		t.Run(one.Name, func(t *testing.T) {
			lease := NewLease(Guards{})
			for index, step := range one.Steps {
				var got, want any = true, step.Is
				switch step.Do {
				case "request":
					got, want = lease.Request(at(step.Now)), step.Nonce
				case "grant":
					forgot := false
					lease.Grant(at(step.Now), step.Nonce, time.Duration(step.TTL*1e9), step.Head, step.Epoch, func() { forgot = true })
					got, want = forgot, step.Forget
				case "advance":
					lease.AdvanceTo(step.Revision)
					want = got
				case "abandon":
					lease.Abandon()
					want = got
				case "live":
					got = lease.IsLive(at(step.Now))
				case "applied":
					got = float64(lease.Applied())
				default:
					t.Fatalf("there is no step %q", step.Do)
				}
				if got != want {
					t.Errorf("step %d, %+v: %v", index, step, got)
				}
			}
		})
	}
}

type factsVector struct {
	Keyspace   string
	AccountID  string `json:"account_id"`
	Scopes     []string
	Standing   string
	ExpiresAt  *int64     `json:"expires_at"`
	AllowLists [][]string `json:"allow_lists"`
	IsCounted  bool       `json:"is_counted"`
	Registered []string
}

// response is the facts as the server tells them.
func (f factsVector) response(revision int64, epoch string) *keyfencev1.FetchFactsResponse {
	facts := &keyfencev1.KeyFacts{
		Principal: &keyfencev1.Principal{
			KeyId: "key_1", Keyspace: f.Keyspace, AccountId: f.AccountID, EffectiveScopes: f.Scopes,
		},
		Standing:  keyfencev1.Reason(keyfencev1.Reason_value["REASON_"+f.Standing]),
		IsCounted: f.IsCounted,
		DependsOn: []string{"key:key_1", "keyspace:" + f.Keyspace, "account:" + f.AccountID},
	}
	if f.ExpiresAt != nil {
		facts.ExpireTime = timestamppb.New(time.Unix(*f.ExpiresAt, 0))
	}
	for _, list := range f.AllowLists {
		facts.AddressLists = append(facts.AddressLists, &keyfencev1.AddressList{Networks: list})
	}
	return &keyfencev1.FetchFactsResponse{Revision: revision, Epoch: epoch, WellFormed: true, Facts: facts}
}

type questionVector struct {
	RequiredScopes  []string `json:"required_scopes"`
	Keyspace        string
	ClientAddress   string `json:"client_address"`
	AtLeastRevision int64  `json:"at_least_revision"`
	Now             int64
}

func TestChecksAreAnsweredAsTheVectorsSay(t *testing.T) {
	read := vectors[struct {
		Good struct {
			Facts, Question json.RawMessage
		}
		Cases []struct {
			Name            string
			Facts, Question json.RawMessage
			Answer          *struct {
				Reason        string
				MissingScopes []string `json:"missing_scopes"`
			}
		}
	}](t, "decisions.json")
	for _, one := range read.Cases {
		t.Run(one.Name, func(t *testing.T) {
			var facts factsVector
			var question questionVector
			overlay(t, &facts, read.Good.Facts, one.Facts)
			overlay(t, &question, read.Good.Question, one.Question)
			core := NewCore(10, Guards{}, func() Instant { return at(1) }, func() time.Time { return time.Unix(question.Now, 0) })
			start(core, 10, "a")
			core.memory.registered[facts.Keyspace] = map[string]struct{}{}
			for _, scope := range facts.Registered {
				core.memory.registered[facts.Keyspace][scope] = struct{}{}
			}
			fill, _ := core.BeginFill("kf_live_key")
			core.EndFill(fill, "kf_live_key", facts.response(10, "a"))
			answer, ok := core.Answer(Question{
				APIKey: "kf_live_key", RequiredScopes: question.RequiredScopes, Keyspace: question.Keyspace,
				ClientAddress: question.ClientAddress, AtLeastRevision: question.AtLeastRevision,
			})
			switch {
			case ok != (one.Answer != nil):
				t.Errorf("answered %v: %+v", ok, answer)
			case ok && (strings.TrimPrefix(answer.Reason.String(), "REASON_") != one.Answer.Reason ||
				!slices.Equal(answer.MissingScopes, one.Answer.MissingScopes)):
				t.Errorf("%v %v", answer.Reason, answer.MissingScopes)
			}
		})
	}
}

// overlay reads texts of JSON into one value; what a later text has counts.
func overlay(t *testing.T, into any, texts ...json.RawMessage) {
	t.Helper()
	for _, text := range texts {
		if len(text) == 0 {
			continue
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
}

// start gives a holder a lease from time 1 on, with a head.
func start(core *Core, head int64, epoch string) {
	core.mu.Lock()
	defer core.mu.Unlock()
	core.lease.Grant(at(1), core.lease.Request(at(1)), time.Second, head, epoch, func() { core.memory.forgetEverything(head, epoch) })
}

func TestFillsAreKeptAsTheVectorsSay(t *testing.T) {
	type step struct {
		Do             string
		Head, Revision int64
		Epoch          string
		Kept, Is       bool
		KeyID          string `json:"key_id"`
		Keyspace       string
		AccountID      string `json:"account_id"`
		SessionID      string `json:"session_id"`
	}
	for _, one := range vectors[[]struct {
		Name  string
		Steps []step
	}](t, "fills.json") {
		t.Run(one.Name, func(t *testing.T) {
			memory := NewMemory(10, Guards{})
			facts := factsVector{Keyspace: "demo", AccountID: "acct_1", Standing: "OK"}
			var fill *Fill
			for index, step := range one.Steps {
				got, want := true, true
				switch step.Do {
				case "start":
					memory.forgetEverything(step.Head, step.Epoch)
				case "begin":
					fill = memory.beginFill()
				case "end":
					got, want = memory.endFill(fill, "kf_live_key", facts.response(step.Revision, step.Epoch)), step.Kept
				case "known":
					got, want = memory.find("kf_live_key") != nil, step.Is
				case "change":
					changed := &keyfencev1.SubjectChange{}
					switch {
					case step.KeyID != "":
						changed.Subject = &keyfencev1.SubjectChange_KeyId{KeyId: step.KeyID}
					case step.Keyspace != "":
						changed.Subject = &keyfencev1.SubjectChange_Keyspace{Keyspace: step.Keyspace}
					case step.AccountID != "":
						changed.Subject = &keyfencev1.SubjectChange_AccountId{AccountId: step.AccountID}
					case step.SessionID != "":
						changed.Subject = &keyfencev1.SubjectChange_SessionId{SessionId: step.SessionID}
					}
					memory.apply(&keyfencev1.RevisionChanges{Revision: step.Revision, Changes: []*keyfencev1.SubjectChange{changed}})
				default:
					t.Fatalf("there is no step %q", step.Do)
				}
				if got != want {
					t.Errorf("step %d, %+v: %v", index, step, got)
				}
			}
		})
	}
}

func TestOneClockEndsALeaseWhateverTheOtherSays(t *testing.T) {
	lease := NewLease(Guards{})
	lease.Grant(Instant{}, lease.Request(Instant{100, 1000}), 10, 1, "a", func() {})
	for now, want := range map[Instant]bool{
		{109, 1009}: true,
		{110, 1001}: false, // the monotonic clock says so
		{105, 999}:  false, // the wall clock was set back
		{101, 1010}: false, // the machine has slept
	} {
		if lease.IsLive(now) != want {
			t.Errorf("%v: live is %v", now, !want)
		}
	}
	// The wall clock was set back before the second grant. The first one's must not outlast it.
	lease.Grant(Instant{}, lease.Request(Instant{105, 500}), 10, 1, "a", func() {})
	if lease.IsLive(Instant{106, 900}) {
		t.Error("two grants were mixed")
	}
}

func TestAChangeOfAnUnknownKindMakesTheHolderForget(t *testing.T) {
	memory := NewMemory(10, Guards{})
	memory.forgetEverything(5, "a")
	facts := factsVector{Keyspace: "demo", AccountID: "acct_1", Standing: "OK"}
	memory.endFill(memory.beginFill(), "kf_live_key", facts.response(5, "a"))
	underWay := memory.beginFill()
	memory.apply(&keyfencev1.RevisionChanges{Revision: 6, Changes: []*keyfencev1.SubjectChange{{}}})
	if memory.find("kf_live_key") != nil || memory.endFill(underWay, "kf_live_key", facts.response(5, "a")) {
		t.Error("facts were kept that the change may be about")
	}
	if memory.applied.Load() != 6 {
		t.Error("the revision was not applied")
	}
}

func TestWhenTheGrantorEndsTheLeaseNothingIsRemembered(t *testing.T) {
	core := NewCore(10, Guards{}, func() Instant { return at(1) }, time.Now)
	start(core, 5, "a")
	facts := factsVector{Keyspace: "demo", AccountID: "acct_1", Standing: "OK"}
	fill, _ := core.BeginFill("kf_live_key")
	core.EndFill(fill, "kf_live_key", facts.response(5, "a"))
	if _, ok := core.Answer(Question{APIKey: "kf_live_key"}); !ok {
		t.Fatal("a known key was not answered")
	}
	if _, err := core.Take(&keyfencev1.SyncResponse{Message: &keyfencev1.SyncResponse_End{End: &keyfencev1.End{}}}); err != nil {
		t.Fatal(err)
	}
	if _, ok := core.Answer(Question{APIKey: "kf_live_key"}); ok || core.Remembered() != 0 {
		t.Error("a key was answered after the end")
	}
}
