// Command scenario lets the repository's table of scenarios, torture and benchmark call the client: a
// line of JSON in, a line of JSON out.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"

	"github.com/keyfence/keyfence/clients/go/keyfence"
)

const maxLine = 1 << 20

type check struct {
	APIKey          string   `json:"api_key"`
	Scopes          []string `json:"scopes"`
	Keyspace        string   `json:"keyspace"`
	ClientAddress   string   `json:"client_address"`
	AtLeastRevision int64    `json:"at_least_revision"`
	Explain         bool     `json:"explain"`
}

type command struct {
	check

	Do      string  `json:"do"`
	Target  string  `json:"target"`
	Token   string  `json:"token"`
	Mode    string  `json:"mode"`
	Timeout float64 `json:"timeout_seconds"`
	Checks  []check `json:"checks"`
	Count   int64   `json:"count"`
	AtOnce  int     `json:"at_once"`
	// TimedEvery is how many checks there are to each that is timed.
	TimedEvery int64 `json:"timed_every"`
}

type reply struct {
	Allowed       *bool    `json:"allowed,omitempty"`
	Reason        string   `json:"reason,omitempty"`
	MissingScopes []string `json:"missing_scopes,omitempty"`
	KeyID         string   `json:"key_id,omitempty"`
	AccountID     string   `json:"account_id,omitempty"`
	Sufficient    []string `json:"sufficient_grants,omitempty"`
	Error         *failure `json:"error,omitempty"`
	Results       []reply  `json:"results,omitempty"`
	Live          bool     `json:"live,omitempty"`
	Hits          int64    `json:"hits,omitempty"`
	P50           float64  `json:"p50_us,omitempty"`
	P99           float64  `json:"p99_us,omitempty"`
	Bytes         uint64   `json:"bytes,omitempty"`
}

type failure struct {
	Status       string            `json:"status"`
	Reason       string            `json:"reason"`
	Metadata     map[string]string `json:"metadata"`
	Fields       []string          `json:"fields"`
	HasRequestID bool              `json:"has_request_id"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var client *keyfence.Client
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, maxLine)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked command
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			return err
		}
		if asked.Do == "open" {
			opened, err := open(asked)
			if err != nil {
				return err
			}
			client = opened
		}
		answer, err := do(client, asked)
		if err != nil {
			return err
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	if client != nil {
		return client.Close()
	}
	return lines.Err()
}

func open(asked command) (*keyfence.Client, error) {
	options := []keyfence.Option{keyfence.WithToken(keyfence.Secret(asked.Token))}
	switch asked.Mode {
	case "cached":
		options = append(options, keyfence.WithCache(keyfence.Cache{}))
	case "batched":
		options = append(options, keyfence.WithBatching(keyfence.Batching{}))
	}
	return keyfence.New(asked.Target, options...)
}

func do(client *keyfence.Client, asked command) (reply, error) {
	ctx := context.Background()
	if asked.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(asked.Timeout*float64(time.Second)))
		defer cancel()
	}
	switch asked.Do {
	case "open":
		return reply{}, nil
	case "check":
		return answered(client.CheckScope(ctx, asked.question())), nil
	case "authenticate":
		return answered(client.Authenticate(ctx, asked.question())), nil
	case "batch":
		var checks []keyfence.Check
		for _, one := range asked.Checks {
			checks = append(checks, one.question())
		}
		results, err := client.BatchCheckScope(ctx, checks)
		if err != nil {
			return reply{Error: failed(err)}, nil
		}
		var answer reply
		for _, result := range results {
			answer.Results = append(answer.Results, answered(result.Verdict, result.Err))
		}
		return answer, nil
	case "together":
		answer := reply{Results: make([]reply, len(asked.Checks))}
		var asking sync.WaitGroup
		for index, one := range asked.Checks {
			asking.Go(func() { answer.Results[index] = answered(client.CheckScope(ctx, one.question())) })
		}
		asking.Wait()
		return answer, nil
	case "who_am_i":
		principal, err := client.WhoAmI(ctx)
		if err != nil {
			return reply{Error: failed(err)}, nil
		}
		return reply{KeyID: principal.KeyId, AccountID: principal.AccountId}, nil
	case "status":
		status, _ := client.CacheStatus()
		return reply{Live: status.Live, Hits: status.Hits}, nil
	case "measure":
		return measure(client, asked)
	case "memory":
		runtime.GC()
		var used runtime.MemStats
		runtime.ReadMemStats(&used)
		return reply{Bytes: used.HeapAlloc}, nil
	default:
		return reply{}, fmt.Errorf("there is no command %q", asked.Do)
	}
}

// measure makes the same check many times, so many at once, and says how long those took that were
// timed.
func measure(client *keyfence.Client, asked command) (reply, error) {
	every, question := asked.TimedEvery, asked.question()
	took := make([]time.Duration, (asked.Count+every-1)/every)
	var begun, refused atomic.Int64
	var asking sync.WaitGroup
	for range asked.AtOnce {
		asking.Go(func() {
			for index := begun.Add(1) - 1; index < asked.Count; index = begun.Add(1) - 1 {
				var began time.Time
				if index%every == 0 {
					began = time.Now()
				}
				verdict, err := client.CheckScope(context.Background(), question)
				if index%every == 0 {
					took[index/every] = time.Since(began)
				}
				if err != nil || !verdict.Allowed {
					refused.Add(1)
				}
			}
		})
	}
	asking.Wait()
	if refused.Load() > 0 {
		return reply{}, fmt.Errorf("%d checks of %d were not allowed", refused.Load(), asked.Count)
	}
	slices.Sort(took)
	at := func(part int) float64 { return float64(took[len(took)*part/100].Nanoseconds()) / 1e3 }
	return reply{P50: at(50), P99: at(99)}, nil
}

func (c check) question() keyfence.Check {
	return keyfence.Check{
		APIKey: keyfence.Secret(c.APIKey), RequiredScopes: c.Scopes, Keyspace: c.Keyspace,
		ClientAddress: c.ClientAddress, AtLeastRevision: c.AtLeastRevision, Explain: c.Explain,
	}
}

func answered(verdict keyfence.Verdict, err error) reply {
	if err != nil {
		return reply{Error: failed(err)}
	}
	return reply{
		Allowed:       &verdict.Allowed,
		Reason:        strings.TrimPrefix(verdict.Reason.String(), "REASON_"),
		MissingScopes: verdict.MissingScopes,
		KeyID:         verdict.Principal.GetKeyId(),
		AccountID:     verdict.Principal.GetAccountId(),
		Sufficient:    verdict.Explanation.GetSufficientGrants(),
	}
}

func failed(err error) *failure {
	var known *keyfence.Error
	if !errors.As(err, &known) {
		return &failure{Status: err.Error()}
	}
	made := &failure{
		Status:       code.Code(known.Code).String(), //nolint:gosec // a status code
		Reason:       known.Reason,
		Metadata:     known.Metadata,
		HasRequestID: known.RequestID != "",
	}
	for _, violation := range known.Violations {
		made.Fields = append(made.Fields, violation.Field)
	}
	return made
}
