package judge

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestNothingIsFused looks at the code for arm64: a fused multiply-add rounds once where other processors round twice,
// and verdicts would differ. The mending is a conversion around the product: float64(x*y) + z.
func TestNothingIsFused(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles for another processor; run without -short")
	}
	cmd := exec.Command("go", "build", "-gcflags=-S", ".")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %.2000s", err, out)
	}
	if !strings.Contains(string(out), "FMULD") {
		t.Fatal("the listing shows no multiplication at all: what is looked at here?")
	}
	fused := regexp.MustCompile(`\((\S+\.go:\d+)\)\s+FN?M(?:ADD|SUB)[DS]\b`)
	for _, m := range fused.FindAllStringSubmatch(string(out), -1) {
		t.Errorf("%s: the compiler fuses a product with a sum; write float64(x*y)", m[1])
	}
}
