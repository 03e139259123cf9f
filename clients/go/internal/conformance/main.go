// Command conformance lets the conformance driver (conformance/README.md in the repository) speak
// to the holder: a line of JSON in, a line of JSON out. With an argument, one guard is left out,
// which the driver must notice.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/keyfence/keyfence/clients/go/internal/holder"
	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

const maxLine = 1 << 20

type command struct {
	Do      string          `json:"do"`
	Now     float64         `json:"now"`
	Key     string          `json:"key"`
	Scope   string          `json:"scope"`
	Fill    int             `json:"fill"`
	Message json.RawMessage `json:"message"`
}

type reply struct {
	Nonce   int64  `json:"nonce,omitempty"`
	Applied *int64 `json:"applied,omitempty"`
	Broken  string `json:"broken,omitempty"`
	Fill    int    `json:"fill,omitempty"`
	AtLeast int64  `json:"at_least,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

type driven struct {
	core  *holder.Core
	now   holder.Instant
	fills map[int]*holder.Fill
}

func guardsWithout(name string) (holder.Guards, error) {
	var guards holder.Guards
	switches := map[string]*bool{
		"count_from_sending":      &guards.CountFromArrival,
		"wait_for_head":           &guards.IgnoreHead,
		"forget_other_epoch":      &guards.IgnoreEpoch,
		"discard_overtaken_fills": &guards.KeepOvertakenFills,
		"apply_before_ack":        &guards.AcknowledgeFirst,
		"forget_unknown_changes":  &guards.IgnoreUnknownChanges,
		"refuse_gaps":             &guards.IgnoreGaps,
		"forget_on_new_stream":    &guards.KeepAcrossStreams,
	}
	left, ok := switches[name]
	if !ok {
		return guards, fmt.Errorf("there is no guard %q", name)
	}
	*left = true
	return guards, nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var guards holder.Guards
	if len(os.Args) > 1 {
		left, err := guardsWithout(os.Args[1])
		if err != nil {
			return err
		}
		guards = left
	}
	var one *driven
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, maxLine)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked command
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			return err
		}
		if asked.Do == "start" {
			one = start(guards)
		}
		answer, err := one.do(asked)
		if err != nil {
			return err
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func start(guards holder.Guards) *driven {
	one := &driven{fills: map[int]*holder.Fill{}}
	one.core = holder.NewCore(100, guards, func() holder.Instant { return one.now }, time.Now)
	return one
}

func (d *driven) do(asked command) (reply, error) {
	nanos := int64(asked.Now * 1e9)
	d.now = holder.Instant{First: nanos, Second: nanos}
	switch asked.Do {
	case "start":
	case "begin":
		d.core.Begin()
	case "renew":
		renew := d.core.Renewal()
		return reply{Nonce: renew.Nonce, Applied: &renew.AppliedRevision}, nil
	case "acknowledge":
		if renew := d.core.Acknowledgement(); renew != nil {
			return reply{Applied: &renew.AppliedRevision}, nil
		}
	case "take":
		var message keyfencev1.SyncResponse
		if err := protojson.Unmarshal(asked.Message, &message); err != nil {
			return reply{}, err
		}
		if _, err := d.core.Take(&message); err != nil {
			return reply{Broken: err.Error()}, nil
		}
	case "fill":
		if fill, request := d.core.BeginFill(asked.Key); fill != nil {
			number := len(d.fills) + 1
			d.fills[number] = fill
			return reply{Fill: number, AtLeast: request.AtLeastRevision}, nil
		}
	case "facts":
		var response keyfencev1.FetchFactsResponse
		if err := protojson.Unmarshal(asked.Message, &response); err != nil {
			return reply{}, err
		}
		d.core.EndFill(d.fills[asked.Fill], asked.Key, &response)
	case "check":
		answer, ok := d.core.Answer(holder.Question{APIKey: asked.Key, RequiredScopes: []string{asked.Scope}})
		if ok {
			return reply{Reason: strings.TrimPrefix(answer.Reason.String(), "REASON_")}, nil
		}
	default:
		return reply{}, fmt.Errorf("there is no command %q", asked.Do)
	}
	return reply{}, nil
}
