package keyfence

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// shortestToken is how many characters a token has at least: 128 bits out of 64 characters.
const shortestToken = 22

var urlSchemes = map[string]bool{"http": true, "https": true, "grpc": true, "grpcs": true}

// isLocal says whether everything that is sent to the target stays on this machine: over a
// Unix socket or the loopback interface. What cannot be shown to stay is taken for a network.
func isLocal(target string) (bool, error) {
	if target == "" || strings.ContainsFunc(target, unicode.IsSpace) {
		return false, fmt.Errorf("keyfence: %s is not a target", shown(target))
	}
	scheme, rest, found := strings.Cut(target, ":")
	switch {
	case found && (scheme == "unix" || scheme == "unix-abstract"):
		if rest == "" {
			return false, fmt.Errorf("keyfence: target %q names no socket", target)
		}
		return true, nil
	case urlSchemes[scheme] && strings.HasPrefix(rest, "//"):
		return false, fmt.Errorf(
			"keyfence: target %q is a URL: give host:port; TLS is decided by WithTLS and WithInsecurePlaintext", target)
	case scheme == "dns" || scheme == "passthrough":
		// "dns://resolver/host:port": the name stands behind the authority.
		address := rest
		if authority, isURL := strings.CutPrefix(rest, "//"); isURL {
			_, address, _ = strings.Cut(authority, "/")
		}
		return isLoopback(target, address)
	case strings.HasPrefix(rest, "//"):
		return false, nil // another resolver, for example "xds:///service"
	}
	return isLoopback(target, target)
}

func isLoopback(target, address string) (bool, error) {
	host, ok := hostOf(address)
	if !ok {
		return false, fmt.Errorf("keyfence: target %s must name host and port, for example "+
			`"keyfence.example:443", "[::1]:50051" or "unix:/run/keyfence.sock"`, shown(target))
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback(), nil
	}
	// RFC 6761, section 6.3: this name is the loopback interface, wherever it is resolved.
	return strings.EqualFold(host, "localhost"), nil
}

func hostOf(address string) (string, bool) {
	cut := strings.LastIndexByte(address, ':')
	if cut <= 0 || strings.Contains(address, "/") {
		return "", false
	}
	host, port := address[:cut], address[cut+1:]
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", false
	}
	bracketed := strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]")
	if strings.Contains(host, ":") && !bracketed {
		return "", false
	}
	host = strings.Trim(host, "[]")
	return host, host != ""
}

// shown is the target, unless it may be a token that was given in its place.
func shown(target string) string {
	if strings.Contains(target, ":") || len(target) < shortestToken {
		return strconv.Quote(target)
	}
	return "(not shown)"
}

// grpcTarget is the target as grpc-go takes it. A bare host:port is resolved by DNS.
func grpcTarget(target string) string {
	if path, ok := strings.CutPrefix(target, "unix:"); ok && !strings.HasPrefix(path, "//") {
		return "unix:" + (&url.URL{Path: path}).EscapedPath()
	}
	if _, ok := hostOf(target); ok {
		return "dns:///" + target
	}
	return target
}
