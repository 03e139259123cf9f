package keyfence_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/keyfence/keyfence/clients/go/keyfence/keyfencetest"
)

const fragmentsHead = `package main

import (
	"context"
	"log"
	"net/http"

	"google.golang.org/grpc"

	"github.com/keyfence/keyfence/clients/go/keyfence"
	"github.com/keyfence/keyfence/clients/go/keyfence/guard"
)

var (
	_ = guard.New
	_ = grpc.NewServer
	_ = log.Fatal
)
`

const fragmentHead = `
func _(ctx context.Context, client *keyfence.Client, mux *http.ServeMux, listServers http.Handler) {
	_ = %d
`

// The README's program runs word for word, in a module of its own, as a user's would.
func TestTheProgramOfTheReadmeRuns(t *testing.T) {
	module, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(module, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?ms)^```go\n(package main.*?)^```$").FindSubmatch(readme)
	if found == nil {
		t.Fatal("the README has no program")
	}
	// The other examples are parts of programs: they have to compile.
	fragments := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllSubmatch(readme, -1)
	parts := fragmentsHead
	for index, fragment := range fragments {
		if !strings.HasPrefix(string(fragment[1]), "package") {
			parts += fmt.Sprintf(fragmentHead, index) + string(fragment[1]) + "}\n"
		}
	}
	if len(fragments) < 3 {
		t.Fatal("the README has no examples of guards")
	}
	sums, err := os.ReadFile(filepath.Join(module, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	project := t.TempDir()
	for name, content := range map[string]string{
		"main.go":  string(found[1]),
		"parts.go": parts,
		"go.sum":   string(sums),
		"go.mod": "module example.test/quickstart\n\ngo 1.26.0\n\nrequire github.com/keyfence/keyfence/clients/go v0.0.0\n\n" +
			"replace github.com/keyfence/keyfence/clients/go => " + module + "\n",
	} {
		if err := os.WriteFile(filepath.Join(project, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := demo(t)
	run := exec.Command("go", "run", "-mod=mod", ".")
	run.Dir = project
	run.Env = append(os.Environ(), "KEYFENCE_TARGET="+server.Target, "KEYFENCE_TOKEN="+string(keyfencetest.Token))
	said, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, said)
	}
	if want := "before: true REASON_OK\nafter: false REASON_KEY_REVOKED\n"; string(said) != want {
		t.Errorf("the program said:\n%s", said)
	}
}
