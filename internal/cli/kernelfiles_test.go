package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernwave/kernwave/internal/cli/clitest"
)

// TestTruncatedPackage: a file that ends too soon is no connection that broke off, wherever it ends.
func TestTruncatedPackage(t *testing.T) {
	whole := clitest.Deb{Name: "linux-image-6.12.9", Version: "1", Arch: "amd64", Compression: "gz", Files: []string{"boot/vmlinuz-6.12.9"}}.Build()
	file := filepath.Join(t.TempDir(), "a.deb")
	for n := range len(whole) {
		if err := os.WriteFile(file, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := readPackage(t.Context(), file)
		if err == nil {
			continue // what is read of it was still there
		}
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), file) {
			t.Fatalf("%d of %d bytes: %v; want an error about the file, not one of a connection", n, len(whole), err)
		}
	}
}
