package keyfence

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// TokenFunc has the client's own credential of the moment. It is called for every RPC, from
// any goroutine, and must be quick.
type TokenFunc func(context.Context) (string, error)

func fixedToken(token string) (TokenFunc, error) {
	if err := checkToken(token); err != nil {
		return nil, err
	}
	return func(context.Context) (string, error) { return token, nil }, nil
}

// checkToken says what is wrong with a token, without showing it.
func checkToken(token string) error {
	if token == "" {
		return errors.New("keyfence: the token is empty")
	}
	for _, character := range []byte(token) {
		if character <= ' ' || character > '~' {
			return errors.New("keyfence: the token must be printable ASCII without spaces")
		}
	}
	return nil
}

// tokenFile reads a file once for each of its versions.
type tokenFile struct {
	path string

	mu    sync.Mutex
	seen  os.FileInfo
	token string
}

func (f *tokenFile) get(context.Context) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		return "", f.unreadable(err)
	}
	// A replaced file is another file, even where its times were copied.
	if f.seen != nil && os.SameFile(f.seen, info) && f.seen.ModTime().Equal(info.ModTime()) && f.seen.Size() == info.Size() {
		return f.token, nil
	}
	content, err := os.ReadFile(f.path)
	if err != nil {
		return "", f.unreadable(err)
	}
	token := strings.TrimSpace(string(content))
	if err := checkToken(token); err != nil {
		return "", f.unreadable(err)
	}
	f.seen, f.token = info, token
	return token, nil
}

// unreadable names the file, unless the path may be the token itself, given in the wrong place:
// a token has no slash and is long.
func (f *tokenFile) unreadable(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	if filepath.Base(f.path) != f.path || len(f.path) < shortestToken {
		return fmt.Errorf("keyfence: the token file %q cannot be read: %w", f.path, err)
	}
	return fmt.Errorf("keyfence: the token file cannot be read: %w", err)
}
