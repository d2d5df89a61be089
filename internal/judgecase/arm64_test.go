package judgecase

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// casesVariable names a file of cases of which this test's binary writes the verdicts, when it runs as another processor.
const casesVariable = "KERNWAVE_TEST_JUDGE_CASES"

func TestWriteVerdicts(t *testing.T) {
	name := os.Getenv(casesVariable)
	if name == "" {
		t.Skip("it is run by TestSameBytesOnARM64")
	}
	in, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Judge(bytes.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name+".verdicts", out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSameBytesOnARM64 judges the same cases here and on an emulated arm64.
func TestSameBytesOnARM64(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles for another processor; run without -short")
	}
	if runtime.GOARCH != "amd64" || runtime.GOOS != "linux" {
		t.Skipf("compares linux/amd64 with arm64; this is %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	qemu, err := exec.LookPath("qemu-aarch64")
	if err != nil {
		if qemu, err = exec.LookPath("qemu-aarch64-static"); err != nil {
			t.Skip("qemu-aarch64 is not installed: apt-get install qemu-user")
		}
	}
	dir := t.TempDir()
	cases := filepath.Join(dir, "cases.ndjson")
	var lines []byte
	for _, effect := range []float64{0, 0.02, 0.1, 0.4, -0.1} {
		lines = append(lines, example("r/"+string(rune('a'+len(lines)%26)), effect)...)
	}
	if err := os.WriteFile(cases, lines, 0o600); err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := Judge(bytes.NewReader(lines), &want); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "judgecase.test")
	build := exec.Command("go", "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	play := exec.Command(qemu, binary, "-test.run", "^TestWriteVerdicts$")
	play.Env = append(os.Environ(), casesVariable+"="+cases)
	if out, err := play.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got, err := os.ReadFile(cases + ".verdicts")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		a, b := bytes.Split(got, []byte("\n")), bytes.Split(want.Bytes(), []byte("\n"))
		for i := range min(len(a), len(b)) {
			if !bytes.Equal(a[i], b[i]) {
				t.Fatalf("line %d of %d differs:\narm64 %s\namd64 %s", i+1, len(b), a[i], b[i])
			}
		}
		t.Fatalf("%d bytes on arm64, %d here", len(got), want.Len())
	}
}
