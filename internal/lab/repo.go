package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// A repo is the package repository that hosts see at http://GuestAddr/: flat, unsigned, on loopback.
type repo struct {
	mu    sync.Mutex
	index strings.Builder
	files map[string]string // name in the repository to path
	srv   *http.Server
	addr  string
}

func newRepo() (*repo, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &repo{files: map[string]string{}, addr: l.Addr().String()}
	r.srv = &http.Server{Handler: r, ReadHeaderTimeout: 30 * time.Second}
	go func() { _ = r.srv.Serve(l) }() // ends with Close
	return r, nil
}

func (r *repo) close() { _ = r.srv.Close() }

// add publishes kernels.
func (r *repo) add(ctx context.Context, ks ...Kernel) error {
	for _, k := range ks {
		name := k.Package + "_" + strings.ReplaceAll(k.Version, ":", "%3a") + "_amd64.deb"
		entry, err := indexEntry(ctx, k.Path, "./"+name)
		if err != nil {
			return &fleet.Error{Op: "publish " + k.Release, Err: err}
		}
		r.mu.Lock()
		if _, ok := r.files[name]; !ok {
			r.index.WriteString(entry)
		}
		r.files[name] = k.Path
		r.mu.Unlock()
	}
	return nil
}

// indexEntry is what a Packages file says about one package.
func indexEntry(ctx context.Context, deb, filename string) (string, error) {
	control, err := run(ctx, exec.Command("dpkg-deb", "-f", deb))
	if err != nil {
		return "", err
	}
	sum, err := fileSHA256(deb)
	if err != nil {
		return "", err
	}
	st, err := os.Stat(deb)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s\nFilename: %s\nSize: %d\nSHA256: %s\n\n", strings.TrimSpace(control), filename, st.Size(), sum), nil
}

func (r *repo) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	name := filepath.Base(req.URL.Path) // apt asks for /./Packages
	r.mu.Lock()
	index, path := r.index.String(), r.files[name]
	r.mu.Unlock()
	switch {
	case name == "Packages":
		http.ServeContent(w, req, name, time.Time{}, strings.NewReader(index))
	case path != "":
		http.ServeFile(w, req, path)
	default:
		http.NotFound(w, req)
	}
}
