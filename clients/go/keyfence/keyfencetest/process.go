package keyfencetest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyfence/keyfence/clients/go/keyfence"
)

const (
	startTimeout = 60 * time.Second
	stopTimeout  = 15 * time.Second
)

// Process is a real Keyfence, as a process of its own.
type Process struct {
	// Target is the server's address, for [keyfence.New].
	Target string
	// Token is the first operator credential, which may do everything.
	Token keyfence.Secret
}

// StartProcess runs "keyfence serve" on a Unix socket, with its data in a folder of the test. It
// stops when the test ends. Settings are environment variables, as "KEYFENCE_LEASE_SECONDS=1".
//
// The command is the environment's KEYFENCE_COMMAND, or else "keyfence" on the PATH. Where there
// is none, the test is skipped; with CI set, it fails.
func StartProcess(t testing.TB, settings ...string) *Process {
	t.Helper()
	command := strings.Fields(os.Getenv("KEYFENCE_COMMAND"))
	if len(command) == 0 {
		command = []string{"keyfence"}
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("keyfencetest: no command %q; set KEYFENCE_COMMAND", command[0])
		}
		t.Skipf("SKIPPED: no command %q; install keyfence-server or set KEYFENCE_COMMAND", command[0])
	}
	// A socket's path must be short, and the folders of tests are not.
	directory, err := os.MkdirTemp("", "kf")
	if err != nil {
		t.Fatalf("keyfencetest: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	process := &Process{Target: "unix:" + filepath.Join(directory, "keyfence.sock")}
	data := filepath.Join(directory, "data")
	var said output
	running := exec.Command(path, append(command[1:], "serve")...)
	running.Env = append(withoutSettings(os.Environ()), "KEYFENCE_LISTEN="+process.Target, "KEYFENCE_DATA_DIR="+data)
	running.Env = append(running.Env, settings...)
	running.Stdout, running.Stderr, running.Dir = &said, &said, directory
	if err := running.Start(); err != nil {
		t.Fatalf("keyfencetest: %v", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = running.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = running.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(stopTimeout):
			_ = running.Process.Kill()
			<-exited
		}
	})
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(20 * time.Millisecond) {
		select {
		case <-exited:
			t.Fatalf("keyfencetest: keyfence serve has ended:\n%s", said.text())
		default:
		}
		if token, err := os.ReadFile(filepath.Join(data, "root.key")); err == nil {
			process.Token = keyfence.Secret(strings.TrimSpace(string(token)))
			if process.answers() {
				return process
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("keyfencetest: keyfence serve does not answer:\n%s", said.text())
		}
	}
}

// Client is a client of the process, with its first credential unless the options say otherwise.
// It is closed when the test ends.
func (p *Process) Client(t testing.TB, options ...keyfence.Option) *keyfence.Client {
	t.Helper()
	client, err := keyfence.New(p.Target, append([]keyfence.Option{keyfence.WithToken(p.Token)}, options...)...)
	if err != nil {
		t.Fatalf("keyfencetest: %v", err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func (p *Process) answers() bool {
	client, err := keyfence.New(p.Target, keyfence.WithToken(p.Token))
	if err != nil {
		return false
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err = client.WhoAmI(ctx)
	return err == nil
}

func withoutSettings(environment []string) []string {
	var kept []string
	for _, one := range environment {
		if !strings.HasPrefix(one, "KEYFENCE_") {
			kept = append(kept, one)
		}
	}
	return kept
}

type output struct {
	mu   sync.Mutex
	said bytes.Buffer
}

func (o *output) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.said.Write(text)
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.said.String()
}
